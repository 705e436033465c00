"""Prompts in the order in which they are cheap: questions of one picture together, pictures loaded ahead.

Samples are read in a thread and planned window by window: a window is full after so many samples or bytes of pictures,
or when the input has nothing more to give for a moment, so that a slow pipe is answered as it comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from mgtool import records
from mgtool.boxes.lookup import BoxSource
from mgtool.errors import ItemError, UsageError
from mgtool.files import hashing
from mgtool.inference.picture_loader import MediaInput, PictureLoader
from mgtool.inference.prompts import Prompter
from mgtool.inference.read_ahead import PATIENCE_S, Ahead, read_ahead, windows
from mgtool.inference.scheduler import Group
from mgtool.inference.stage_times import StageTimes
from mgtool.inference.transformers_processor import PreparedPrompts, TransformersLoader, TransformersProcessor
from mgtool.media import images, videos
from mgtool.media.limits import MAX_PIXELS
from mgtool.media.placeholders import Exchange
from mgtool.media.recent import RecentFiles
from mgtool.records import Failure, Media, Sample, canonical

WINDOW = 256
"""Samples among which those of one picture are brought together."""
WINDOW_BYTES = 1 << 28
"""Of different pictures among them."""
SIMILAR = 16
"""Prompts whose lengths differ by fewer tokens stay in the input's order."""

Position = int


@dataclass(frozen=True)
class Prompt:
    """A sample on its way: its question, the prompt's token ids with placeholders, its pictures, its conversation."""

    position: Position
    sample: Sample
    question: str
    ids: list[int]
    media: tuple[MediaInput, ...]
    turns: Sequence[Exchange] = ()
    system: str = ""


class _Loading(NamedTuple):
    gathered: list[Prompt]
    files: list[Future[list[Any]]]

    @property
    def pictures(self) -> int:
        return max(1, sum(media.pictures for media in self.gathered[0].media))

    def is_done(self) -> bool:
        """Whether nothing is waited for."""
        return all(file.done() for file in self.files)


class Planner:
    """Turns numbered items into groups for the engine.

    Args:
        prompter: makes the prompts.
        processor: the model's.
        boxes: where boxes come from.
        is_known: told of every prompt before its pictures are loaded; True takes it out.
        workers: processes that prepare pictures; with 0, threads.
        pinned: the pictures are for a CUDA device.
        timeless: nothing depends on how fast the input is, as processes that share a model must do the same.
        max_pixels: of a picture or video; larger ones are failures.

    Attributes:
        prompts: that the engine has or will get, by position.
        failures: items that cannot be prompts, by position; the caller takes them out.
        times: of the stages, of which waiting for pictures is one.
    """

    def __init__(
        self,
        prompter: Prompter,
        processor: Any,
        boxes: BoxSource,
        is_known: Callable[[Prompt], bool] = lambda prompt: False,
        *,
        workers: int = 0,
        pinned: bool = False,
        timeless: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.prompter, self.processor, self.boxes, self.is_known = prompter, processor, boxes, is_known
        self.workers, self.pinned, self.timeless, self.max_pixels = workers, pinned, timeless, max_pixels
        self.prompts: dict[Position, Prompt] = {}
        self.failures: dict[Position, Failure] = {}
        self.times = StageTimes()
        self._ahead: Ahead[tuple[Position, records.Item]] | None = None
        self._is_inside, self._files = True, RecentFiles()
        self._loading: deque[_Loading] = deque()

    def groups(self, items: Iterable[tuple[Position, records.Item]]) -> Generator[Group | None]:
        """Groups, window by window, their pictures prepared ahead; None where items came to nothing but failures."""
        loader = self._loader()
        with read_ahead(items) as self._ahead, loader:
            loading = self._loading
            patience = None if self.timeless else PATIENCE_S
            for window in windows(self._ahead, self._planned, samples=WINDOW, size=WINDOW_BYTES, patience=patience):
                self._is_inside = True
                for gathered in _gather(window):
                    loading.append(_Loading(gathered, loader.begin(gathered)))
                    while sum(one.pictures for one in loading) > loader.ahead and len(loading) > 1:
                        yield from self._loaded(*loading.popleft())
                # What an input that is slow has given is asked before it is waited for again.
                while loading and not self._ahead.is_full():
                    self._is_inside = len(loading) > 1
                    yield from self._loaded(*loading.popleft())
                if not window:
                    yield None

    def is_ready(self) -> bool:
        """Whether the next group's pictures are prepared, or the input has something to make it of."""
        if self.timeless or self._ahead is None:
            return True
        if self._loading:
            return self._loading[0].is_done()
        return self._is_inside or self._ahead.is_ready()

    def _planned(self, numbered: tuple[Position, records.Item]) -> tuple[list[Prompt], int]:
        """The item's prompt, if it has one that is not known, and the bytes of its pictures."""
        position, item = numbered
        try:
            prompt = self._prompt(position, item)
        except ItemError as error:
            self.failures[position] = Failure.of(item.id, "infer", error)
            return [], 0
        if prompt is None or self.is_known(prompt):
            return [], 0
        self.prompts[position] = prompt
        return [prompt], sum(len(media.data) for media in prompt.media)

    def _prompt(self, position: Position, item: records.Item) -> Prompt | None:
        if isinstance(item, Failure):
            self.failures[position] = item
            return None
        if position == 0 and _is_bare(item) and self.prompter.needs_question:
            raise _without_questions(item, self.prompter.task)
        conversation = self.prompter.converse(item)
        media = tuple(self._read(item, one) for one in records.media_of(item))
        ids = self.processor.tokenize(conversation.turns, conversation.system)
        return Prompt(position, item, conversation.question, ids, media, conversation.turns, conversation.system)

    def _loader(self) -> PictureLoader | TransformersLoader:
        if isinstance(self.processor, TransformersProcessor):
            return self.processor.loader(max_pixels=self.max_pixels)
        return PictureLoader(self.processor, self.workers, pinned=self.pinned, max_pixels=self.max_pixels)

    def _read(self, sample: Sample, media: Media) -> MediaInput:
        data = self._files.read(media)
        sha256 = hashing.sha256(data)
        is_video = media is sample.video
        try:
            detections = self.boxes.find(sample, media, data, sha256)
        except ItemError:
            # What is broken has no boxes because it is broken: its own reason says more.
            (videos.decode_frames if is_video else images.decode)(data, max_pixels=self.max_pixels)
            raise
        return MediaInput(sha256 + hashing.sha256(canonical(detections)), data, detections, is_video)

    def _loaded(self, gathered: Sequence[Prompt], files: Sequence[Future[list[Any]]]) -> Iterator[Group | None]:
        try:
            with self.times.of("pictures"):
                placed = [picture for file in files for picture in file.result()]
        except ItemError as error:
            for prompt in gathered:
                self._fail(prompt, error)
            yield None
            return
        media = gathered[0].media
        numbers, ids = [prompt.position for prompt in gathered], [prompt.ids for prompt in gathered]
        group = Group(_key(media), placed, numbers, ids, is_video=any(one.is_video for one in media))
        prepared = placed[0] if placed else None
        yield from self._prepared(gathered, group, prepared) if isinstance(prepared, PreparedPrompts) else [group]

    def _prepared(self, gathered: Sequence[Prompt], group: Group, prepared: PreparedPrompts) -> Iterator[Group | None]:
        """A group with the token ids that its model's own processor gave, less those that it refused."""
        kept: dict[Position, tuple[int, ...]] = {}
        for prompt, ids in zip(gathered, prepared.prompts, strict=True):
            if isinstance(ids, ItemError):
                self._fail(prompt, ids)
            else:
                kept[prompt.position] = ids
        if len(kept) < len(gathered):
            yield None
        if kept:
            yield from prepared.parts(replace(group, numbers=list(kept), prompts=list(kept.values())))

    def _fail(self, prompt: Prompt, error: ItemError) -> None:
        del self.prompts[prompt.position]
        self.failures[prompt.position] = Failure.of(prompt.sample.id, "infer", error)


def _is_bare(sample: Sample) -> bool:
    """Whether an item is a picture or video alone, and no record of which the question is missing."""
    media = records.media_of(sample)
    return not sample.turns and not sample.metadata and [one.name for one in media] == [sample.id]


def _without_questions(sample: Sample, task: str) -> UsageError:
    if task:
        detail = f"{task}: {sample.id} comes without a question; give the questions of {task} as a file, and the folder"
        return UsageError("task", f"{detail} of pictures as `images`")
    return UsageError("task", f"is missing: {sample.id} comes without a question; add `task` caption, or `prompt` TEXT")


def _gather(window: Sequence[Prompt]) -> list[list[Prompt]]:
    """Prompts by their pictures: groups in the input's order, for answers to be written soon; longest prompts first."""
    groups: dict[tuple[str, ...], list[Prompt]] = {}
    for prompt in window:
        groups.setdefault(_key(prompt.media), []).append(prompt)
    return [sorted(group, key=lambda prompt: -(len(prompt.ids) // SIMILAR)) for group in groups.values()]


def _key(media: Sequence[MediaInput]) -> tuple[str, ...]:
    return tuple(one.key for one in media)
