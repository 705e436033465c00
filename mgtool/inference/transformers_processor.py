"""The processor of any transformers model: prompts by its chat template, pictures by its own rules."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jinja2
import torch
from torch import Tensor
from transformers import BatchFeature

from mgtool.errors import ItemError
from mgtool.inference.scheduler import Group, shared_length
from mgtool.media import images, videos
from mgtool.media.limits import MAX_PIXELS
from mgtool.media.placeholders import IMAGE, PLACEHOLDER, Exchange

if TYPE_CHECKING:
    from mgtool.inference.grouping import Prompt
    from mgtool.inference.picture_loader import MediaInput

THREADS = 2
"""Threads that decode and prepare pictures."""
AHEAD = 4
"""Pictures that are prepared while the model is busy."""

Ids = tuple[int, ...]
Inputs = dict[str, Any]
_BROKEN = (ValueError, TypeError, LookupError, RuntimeError, AttributeError, jinja2.TemplateError)
"""What processors and templates raise for what they do not take."""


@dataclass(frozen=True)
class PreparedPrompts:
    """Prompts about the same pictures, as their model's own processor gives them; stands among a group's pictures.

    Attributes:
        inputs: by a prompt's token ids, what `generate` is given for it: input_ids (1, T) and so on; what is in lists,
            as pictures of several sizes may be, stays so.
        prompts: of each prompt, the token ids with a place for whatever the model sees, or why there are none.
        seen: token ids that stand for pictures and videos; empty where that is not known.
        make: the inputs of one more rendered prompt about the same pictures.
        boxes: none, as these models take none.
    """

    inputs: dict[Ids, Inputs]
    prompts: list[Ids | ItemError]
    seen: frozenset[int]
    make: Callable[[str], Inputs]
    boxes: tuple[()] = ()

    def add(self, text: str) -> Ids | ItemError:
        """One more rendered prompt about the same pictures: its token ids, or why there are none."""
        try:
            found = self.make(text)
        except _BROKEN as error:
            return ItemError("unsupported", f"the model's processor: {_line(error)}")
        ids = tuple(found["input_ids"][0].tolist())
        self.inputs[ids] = _sharing(found, next(iter(self.inputs.values()), {}))
        return ids

    def parts(self, group: Group) -> Iterator[Group]:
        """The group, or each of its prompts alone where they do not share all that they see."""
        common = shared_length(group.prompts)
        if all(self._end_of_media(prompt) <= common for prompt in group.prompts):
            yield group
            return
        yield from (group.alone(at) for at in range(len(group.prompts)))

    def begin(self, ids: Sequence[int], more: int = 0) -> Inputs:
        """What the model is given for the first tokens of a prompt, among them all that stand for pictures.

        Args:
            ids: the tokens.
            more: tokens behind them, where the prompt has so many.
        """
        length = len(ids)
        for prompt, inputs in self.inputs.items():
            if prompt[:length] == tuple(ids):
                return {name: _cut(name, tensor, len(prompt), length + more) for name, tensor in inputs.items()}
        raise LookupError("a prompt that was not prepared")

    def _end_of_media(self, prompt: Sequence[int]) -> int:
        places = [place for place, token in enumerate(prompt) if token in self.seen]
        has_media = any(name not in _OF_TEXT for name in self.inputs[tuple(prompt)])
        return places[-1] + 1 if places else len(prompt) * has_media


class TransformersProcessor:
    """What the pipeline asks of a processor, by one of transformers.

    Args:
        processor: as `AutoProcessor` gives it.
        ends: token ids that end an answer.
        seen: token ids that stand for pictures and videos, beside those that the processor names.
        generation: the model's own generation configuration; None for one that asks for nothing.
    """

    stop_strings: tuple[str, ...] = ()

    def __init__(self, processor: Any, ends: Sequence[int], seen: Sequence[int] = (), generation: Any = None) -> None:
        self.processor, self.tokenizer, self.eos_token_ids = processor, processor.tokenizer, list(ends)
        self.generation = generation
        own = [*getattr(processor, "image_token_ids", ()), *getattr(processor, "video_token_ids", ())]
        self.seen = frozenset(token for token in [*own, *seen] if token is not None)
        self.takes_videos = getattr(processor, "video_processor", None) is not None

    @property
    def pad_token_id(self) -> int:
        """The tokenizer's, or an end of an answer."""
        pad: int | None = self.tokenizer.pad_token_id
        return (self.eos_token_ids or [0])[0] if pad is None else pad

    def render(self, turns: Sequence[Exchange], system: str = "") -> str:
        """A conversation as text with one placeholder a picture, by the chat template, and up to the next answer.

        Raises:
            ItemError: ``unsupported`` where the template does not take such a conversation.
        """
        has_own = getattr(self.processor, "chat_template", None) is not None
        if not has_own and getattr(self.tokenizer, "chat_template", None) is None:
            return self._plain(turns, system)
        try:
            if has_own:
                rendered: str = self.processor.apply_chat_template(messages(turns, system), add_generation_prompt=True)
                return rendered
            # a language model's, as Phi-4's: what a message says is a text
            told = [{**one, "content": self._text_of(one["content"])} for one in messages(turns, system)]
            rendered = self.tokenizer.apply_chat_template(told, tokenize=False, add_generation_prompt=True)
        except _BROKEN as error:
            raise ItemError("unsupported", f"the model's chat template: {_line(error)}") from error
        return rendered

    def tokenize(self, turns: Sequence[Exchange], system: str = "") -> list[int]:
        """Token ids of the rendered text: what a prompt is known by, before its pictures are there."""
        ids: list[int] = self.tokenizer(self.render(turns, system), add_special_tokens=False)["input_ids"]
        return ids

    def decode(self, token_ids: Sequence[int], *, stops: Sequence[str] = ()) -> str:
        """The answer's text: no special tokens, nothing from a stop on, stripped."""
        text: str = self.tokenizer.decode(list(token_ids), skip_special_tokens=True)
        for stop in stops:
            text = text.split(stop)[0]
        return text.strip()

    def loader(self, *, max_pixels: int = MAX_PIXELS) -> TransformersLoader:
        """Prepares pictures and prompts while the model is busy."""
        return TransformersLoader(self, max_pixels=max_pixels)

    def prepare(self, texts: Sequence[str], media: Mapping[str, Any]) -> PreparedPrompts:
        """Rendered prompts about the same pictures; those are looked at once.

        Args:
            texts: as of `render`.
            media: further arguments of the processor, as `seen_media` gives them.
        """
        once = _SeenOnce.of(self.processor) if media else self.processor
        prepared = PreparedPrompts({}, [], self.seen, lambda text: self._inputs(once, text, media))
        prepared.prompts.extend(map(prepared.add, texts))
        return prepared

    def _inputs(self, processor: Any, text: str, media: Mapping[str, Any]) -> Inputs:
        bos = self.tokenizer.bos_token
        # as transformers does with what a chat template gives
        special = {"add_special_tokens": False} if bos and text.startswith(bos) else {}
        found = processor(text=[text], return_tensors="pt", **special, **media)
        return {name: value for name, value in found.items() if name != "labels"}

    def _plain(self, turns: Sequence[Exchange], system: str) -> str:
        """For a model without a chat template, as PaliGemma: placeholders, then the question."""
        if len(turns) > 1 or system:
            raise ItemError("unsupported", "the model has no chat template: one question without a system text")
        question = turns[0][0]
        tokens = {place: self._token_of(place) for place in set(PLACEHOLDER.findall(question))}
        shown = "".join(tokens[place] for place in PLACEHOLDER.findall(question))
        return shown + PLACEHOLDER.sub("", question).strip()

    def _text_of(self, contents: Sequence[Mapping[str, str]]) -> str:
        """A message's contents as one text, with the processor's tokens for pictures and videos."""
        return "".join(one.get("text") or self._token_of(f"<{one['type']}>") for one in contents)

    def _token_of(self, place: str) -> str:
        token = getattr(self.processor, "image_token" if place == IMAGE else "video_token", place)
        return str(getattr(token, "content", token))


class TransformersLoader:
    """Decodes pictures and prepares prompts in threads.

    Attributes:
        ahead: pictures that may be under way or waiting.
        max_pixels: of a picture or frame; larger ones are failures.
    """

    def __init__(self, processor: TransformersProcessor, *, max_pixels: int = MAX_PIXELS) -> None:
        self.processor, self.max_pixels, self.ahead = processor, max_pixels, AHEAD
        self._threads = ThreadPoolExecutor(THREADS)

    def __enter__(self) -> TransformersLoader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def begin(self, prompts: Sequence[Prompt]) -> list[Future[list[PreparedPrompts]]]:
        """Begin to prepare prompts about the same pictures; in the end `PreparedPrompts`, or an `ItemError`."""
        return [self._threads.submit(self._prepare, prompts)]

    def _prepare(self, prompts: Sequence[Prompt]) -> list[PreparedPrompts]:
        texts = [self.processor.render(prompt.turns, prompt.system) for prompt in prompts]
        try:
            media = seen_media(prompts[0].media, takes_videos=self.processor.takes_videos, max_pixels=self.max_pixels)
            return [self.processor.prepare(texts, media)]
        except MemoryError as error:
            raise ItemError("out_of_memory", "the picture does not fit into memory") from error


def messages(turns: Sequence[Exchange], system: str = "") -> list[dict[str, Any]]:
    """A conversation as chat templates take it; what stands between placeholders is text."""
    found = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    for question, answer in turns:
        found.append({"role": "user", "content": _contents(question)})
        if answer is not None:
            found.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return found


def _contents(question: str) -> list[dict[str, str]]:
    contents, end = [], 0
    for match in PLACEHOLDER.finditer(question):
        contents += [question[end : match.start()], match[0]]
        end = match.end()
    kinds = {place: {"type": place.strip("<>")} for place in PLACEHOLDER.findall(question)}
    texts = [text if text in kinds else text.strip("\n") for text in [*contents, question[end:]]]
    return [kinds.get(text) or {"type": "text", "text": text} for text in texts if text]


def seen_media(media: Sequence[MediaInput], *, takes_videos: bool, max_pixels: int) -> dict[str, Any]:
    """Files as the arguments of a processor: pictures, or a video's frames with where they stand in it.

    Raises:
        ItemError: what cannot be decoded or has more pixels than `max_pixels`, and a video for a model that takes none.
    """
    if not media:
        return {}
    if not any(one.is_video for one in media):
        return {"images": [[images.decode(one.data, max_pixels=max_pixels) for one in media]]}
    if not takes_videos:
        raise ItemError("unsupported", "the model takes no videos")
    frames = videos.decode_frames(media[0].data, max_pixels=max_pixels)
    last, pictures = frames[-1], [frame.picture for frame in frames]
    about = {
        "total_num_frames": last.index + 1,
        "fps": last.index / last.time if last.time > 0 else None,
        "duration": last.time,
        "frames_indices": [frame.index for frame in frames],
    }
    return {"videos": [pictures], "video_metadata": [about], "do_sample_frames": False}


class _SeenOnce:
    """An image or video processor that gives for every call what it gave for the first."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._found: BatchFeature | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def __call__(self, *args: Any, **kwargs: Any) -> BatchFeature:
        if self._found is None:
            self._found = self._processor(*args, **kwargs)
        return BatchFeature(dict(self._found))  # callers take entries out

    @classmethod
    def of(cls, processor: Any) -> Any:
        """A processor whose pictures are the same at every call."""
        own = copy.copy(processor)
        for name in ("image_processor", "video_processor"):
            if getattr(processor, name, None) is not None:
                setattr(own, name, cls(getattr(processor, name)))
        return own


_OF_TEXT = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids")
IN_SEQUENCE = (*_OF_TEXT, "cross_attention_mask")
"""What has an entry for every token, (1, T, ...)."""


def _cut(name: str, value: Any, whole: int, length: int) -> Any:
    return value[:, :length] if name in IN_SEQUENCE and value.shape[1] == whole else value


def _sharing(inputs: Inputs, first: Inputs) -> Inputs:
    """What is equal to the first prompt's is in memory once."""
    return {
        name: first[name] if isinstance(value, Tensor) and name in first and torch.equal(first[name], value) else value
        for name, value in inputs.items()
    }


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
