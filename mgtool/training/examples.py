"""Samples with answers -> what the model learns from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch.utils.data import Dataset

from mgtool.errors import InputError, ItemError
from mgtool.media import images, reading, videos
from mgtool.media.placeholders import Exchange, show_media
from mgtool.model.processor import MGLlavaProcessor, PlacedPicture
from mgtool.model.splice import IGNORED
from mgtool.records import Detections, Failure, Media, Sample

NEAR_LIMIT = 50
"""Texts this close to the limit of tokens keep one box of each label (the published training)."""


class Example(NamedTuple):
    """One sample in the model's terms.

    Attributes:
        ids: token ids with placeholders.
        labels: as many, -100 where there is no loss.
        pictures: pictures and frames in the order of the placeholders.
        frame_counts: pictures of each placeholder.
    """

    ids: list[int]
    labels: list[int]
    pictures: list[PlacedPicture]
    frame_counts: list[int]


def to_example(sample: Sample, processor: MGLlavaProcessor, *, max_length: int) -> Example:
    """A conversation as it is learned: loss on the answers alone, cut at `max_length` text tokens.

    Args:
        sample: whose turns alternate between ``human`` and ``gpt``, after a ``system`` turn if there is one.
        processor: of the model that learns.
        max_length: most text tokens, placeholders included.

    Raises:
        ItemError: a picture, box or turn that cannot be used, or no answer within `max_length`.
    """
    text = processor.encode(*_turns(sample))
    ids, labels = text.ids[:max_length], text.labels[:max_length]
    if all(label == IGNORED for label in labels):
        raise ItemError("prompt_too_long", f"no answer begins within {max_length} tokens")
    if any(token < 0 for token in text.ids[max_length:]):
        raise ItemError("prompt_too_long", f"a picture is shown after {max_length} tokens")
    place = functools.partial(processor.place, per_label=1 if len(text.ids) > max_length - NEAR_LIMIT else None)
    if sample.video is not None:
        decoded = videos.decode_frames(reading.read_bytes(sample.video))
        frames = videos.with_boxes(decoded, sample.video.detections)
        return Example(ids, labels, [place(*frame) for frame in frames], [len(frames)])
    pictures = [place(images.decode(reading.read_bytes(media)), _seen(media)) for media in sample.images]
    return Example(ids, labels, pictures, [1] * len(pictures))


def _turns(sample: Sample) -> tuple[list[Exchange], str]:
    """Questions with their answers, and the system text."""
    said = list(sample.turns)
    system = said.pop(0).value if said and said[0].speaker == "system" else ""
    speakers = [turn.speaker for turn in said]
    if not speakers or speakers != ["human", "gpt"] * (len(speakers) // 2):
        raise ItemError("bad_record", f"turns are {', '.join(speakers) or 'none'}; a question and an answer in turn")
    turns = [(question.value, answer.value) for question, answer in zip(said[::2], said[1::2], strict=True)]
    return show_media(turns, pictures=len(sample.images), is_video=sample.video is not None), system


def _seen(media: Media) -> Detections | None:
    return media.detections[0] if media.detections else None


def collate(examples: Sequence[Example], processor: MGLlavaProcessor) -> Any:
    """Examples as one batch for the model's forward pass, padded on the left; see `MGLlavaProcessor.collate`."""
    pictures = [picture for example in examples for picture in example.pictures]
    frames = [count for example in examples for count in example.frame_counts]
    ids, labels = [example.ids for example in examples], [example.labels for example in examples]
    return processor.collate(ids, pictures, frames, labels)


class Examples(Dataset[Example]):
    """Samples at random, as `Trainer` and `DataLoader` take them.

    A sample that cannot be used gives way to the one after it, so that every batch is full.

    Args:
        samples: for instance `mgtool.TarIndex`.
        processor, max_length: as in `to_example`.
        on_failure: told of samples that cannot be used, in whatever process reads them.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        processor: MGLlavaProcessor,
        *,
        max_length: int,
        on_failure: Callable[[Failure], None],
    ) -> None:
        self.samples, self.processor, self.max_length, self.on_failure = samples, processor, max_length, on_failure

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: int) -> Example:
        """The example at a position, or the next one that can be used.

        Raises:
            InputError: none can.
        """
        for number in (*range(position, len(self)), *range(position)):
            name: int | str = number
            try:
                sample = self.samples[number]
                name = sample.id
                return to_example(sample, self.processor, max_length=self.max_length)
            except ItemError as error:
                self.on_failure(Failure.of(name, "train", error))
        raise InputError(f"none of the {len(self)} samples can be learned from")
