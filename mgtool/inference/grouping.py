"""What is to be asked, in the order in which it is cheap: questions of one picture together, pictures loaded ahead.

Samples are read in a thread and planned window by window: a window is full after so many samples or bytes of pictures,
or when the input has nothing more to give for a moment, so that a slow pipe is answered as it comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple

from mgtool import records
from mgtool.boxes.lookup import BoxSource
from mgtool.errors import ItemError, UsageError
from mgtool.files import hashing
from mgtool.inference.engine import Group
from mgtool.inference.picture_loader import PictureLoader, Shown
from mgtool.inference.prompts import Prompter
from mgtool.inference.read_ahead import PATIENCE_S, Ahead, read_ahead, windows
from mgtool.media import images, reading, videos
from mgtool.model.processor import PlacedPicture
from mgtool.records import Failure, Media, Sample, canonical

WINDOW = 256
"""Samples among which those of one picture are brought together."""
WINDOW_BYTES = 1 << 28
"""Of different pictures among them."""
SIMILAR = 16
"""Prompts whose lengths differ by fewer tokens stay in the input's order."""

Position = int


@dataclass(frozen=True)
class Asked:
    """A sample on its way: its question, the prompt's token ids with placeholders, its pictures."""

    position: Position
    sample: Sample
    question: str
    ids: list[int]
    shown: tuple[Shown, ...]


class _Loading(NamedTuple):
    gathered: list[Asked]
    files: list[Future[list[PlacedPicture]]]

    @property
    def pictures(self) -> int:
        return max(1, sum(shown.pictures for shown in self.gathered[0].shown))


class Planner:
    """Turns numbered items into groups for the engine.

    Args:
        prompter: what is asked.
        processor: the model's.
        boxes: where boxes come from.
        is_known: told of every question before its pictures are loaded; True takes it out.
        workers: processes that prepare pictures; with 0, threads.
        pinned: the pictures are for a CUDA device.
        timeless: nothing depends on how fast the input is, as processes that share a model must do the same.

    Attributes:
        asked: samples that the engine has or will get, by position.
        failures: items that cannot be asked, by position; the caller takes them out.
    """

    def __init__(
        self,
        prompter: Prompter,
        processor: Any,
        boxes: BoxSource,
        is_known: Callable[[Asked], bool] = lambda asked: False,
        *,
        workers: int = 0,
        pinned: bool = False,
        timeless: bool = False,
    ) -> None:
        self.prompter, self.processor, self.boxes, self.is_known = prompter, processor, boxes, is_known
        self.workers, self.pinned, self.timeless = workers, pinned, timeless
        self.asked: dict[Position, Asked] = {}
        self.failures: dict[Position, Failure] = {}
        self._ahead: Ahead[tuple[Position, records.Item]] | None = None
        self._is_inside = True

    def groups(self, items: Iterable[tuple[Position, records.Item]]) -> Generator[Group]:
        """Groups, window by window, their pictures prepared ahead."""
        loader = PictureLoader(self.processor, self.workers, pinned=self.pinned)
        with read_ahead(items) as self._ahead, loader:
            loading: deque[_Loading] = deque()
            patience = None if self.timeless else PATIENCE_S
            for window in windows(self._ahead, self._planned, samples=WINDOW, size=WINDOW_BYTES, patience=patience):
                self._is_inside = True
                for gathered in _gather(window):
                    loading.append(_Loading(gathered, [loader.submit(shown) for shown in gathered[0].shown]))
                    while sum(one.pictures for one in loading) > loader.ahead and len(loading) > 1:
                        yield from self._loaded(*loading.popleft())
                # What an input that is slow has given is asked before it is waited for again.
                while loading and not self._ahead.is_full():
                    self._is_inside = len(loading) > 1
                    yield from self._loaded(*loading.popleft())

    def is_ready(self) -> bool:
        """Whether the next group is at hand, or the input has something to make it of."""
        return self.timeless or self._is_inside or self._ahead is None or self._ahead.is_ready()

    def _planned(self, numbered: tuple[Position, records.Item]) -> tuple[list[Asked], int]:
        """The sample as it is asked, if it can be, and the bytes of its pictures."""
        asked = self._plan(*numbered)
        return ([], 0) if asked is None else ([asked], sum(len(shown.data) for shown in asked.shown))

    def _plan(self, position: Position, item: records.Item) -> Asked | None:
        if isinstance(item, Failure):
            self.failures[position] = item
            return None
        if position == 0 and not item.turns and self.prompter.needs_question:
            raise UsageError(
                "task", f"is missing: {item.id} comes without a question; add `task` caption, or `prompt` TEXT"
            )
        try:
            conversation = self.prompter.converse(item)
            media = item.images if item.video is None else (item.video,)
            shown = tuple(self._show(item, one) for one in media)
            ids = self.processor.tokenize(conversation.turns, conversation.system)
        except ItemError as error:
            self.failures[position] = Failure.of(item.id, "infer", error)
            return None
        asked = Asked(position, item, conversation.question, ids, shown)
        if self.is_known(asked):
            return None
        self.asked[position] = asked
        return asked

    def _show(self, sample: Sample, media: Media) -> Shown:
        data = reading.read_bytes(media)
        sha256 = hashing.sha256(data)
        is_video = media is sample.video
        try:
            detections = self.boxes.find(sample, media, data, sha256)
        except ItemError:
            # What is broken has no boxes because it is broken: its own reason says more.
            (videos.decode_frames if is_video else images.decode)(data)
            raise
        return Shown(sha256 + hashing.sha256(canonical(detections)), data, detections, is_video)

    def _loaded(self, gathered: Sequence[Asked], pictures: Sequence[Future[list[PlacedPicture]]]) -> Iterator[Group]:
        try:
            placed = [picture for shown in pictures for picture in shown.result()]
        except ItemError as error:
            for asked in gathered:
                del self.asked[asked.position]
                self.failures[asked.position] = Failure.of(asked.sample.id, "infer", error)
            return
        key = tuple(shown.key for shown in gathered[0].shown)
        is_video = any(shown.is_video for shown in gathered[0].shown)
        yield Group(key, placed, [asked.position for asked in gathered], [asked.ids for asked in gathered], is_video)


def _gather(window: Sequence[Asked]) -> list[list[Asked]]:
    """Samples by their pictures: groups in the input's order, for answers to be written soon; longest prompts first."""
    groups: dict[tuple[str, ...], list[Asked]] = {}
    for asked in window:
        groups.setdefault(tuple(shown.key for shown in asked.shown), []).append(asked)
    return [sorted(group, key=lambda asked: -(len(asked.ids) // SIMILAR)) for group in groups.values()]
