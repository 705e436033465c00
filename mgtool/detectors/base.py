"""What detection needs of a detector and of a tagger, the settings they are made with, and what they share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from mgtool.boxes.thresholds import LabelThresholds
from mgtool.errors import UsageError, one_of
from mgtool.records import Box, Detections
from mgtool.runs.devices import FORMATS, Devices, choose

Object = tuple[float, Box, str]
"""Score, xyxy in float pixels of the picture, label."""


class Detector(Protocol):
    """Finds objects.

    One that knows all that its boxes can be called has `labels`, a sequence of texts or None, beside these.

    Attributes:
        identity: names the detector, its weights (by hash) and its settings; equal identity means equal boxes.
        own_threshold: lowest score of a box where nobody says another one.
    """

    identity: str
    own_threshold: float

    def detect(self, pictures: Sequence[Image.Image], words: Sequence[Sequence[str]] | None) -> list[Detections]:
        """Objects of each picture, best first.

        Args:
            pictures: RGB, of any sizes.
            words: what to look for, picture by picture; None for the detector's own vocabulary. A detector of a
                fixed set of classes ignores it; a picture without words has no boxes.

        Returns:
            One entry a picture: boxes xyxy in float pixels of that picture.
        """


class Tagger(Protocol):
    """Names what is in a picture; `identity` as of a detector."""

    identity: str

    def tag(self, pictures: Sequence[Image.Image]) -> list[tuple[str, ...]]:
        """Tags of each picture (RGB), in the order of the tagger's list."""


@dataclass(frozen=True)
class Settings:
    """How a detector or tagger is made.

    Attributes:
        threshold: lowest score of a box that is kept; None for the detector's own default.
        iou: overlap above which the detector's own suppression drops the lesser box; None for its own default.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        dtype: what networks compute in, as `mgtool.runs.devices.number_format` takes it; boxes and scores are float32.
        vocabulary: words for open-vocabulary detectors; None where none was given.
        trust_checkpoint: unpickle a checkpoint that holds more than tensors.
        trust_config: run the Python of a config that does not ship with its package.
    """

    threshold: float | None = None
    device: str = "auto"
    dtype: str | None = None
    vocabulary: tuple[str, ...] | None = None
    trust_checkpoint: bool = False
    trust_config: bool = False
    iou: float | None = None

    def __post_init__(self) -> None:
        if self.dtype not in (None, *FORMATS):
            raise UsageError("dtype", f"{self.dtype}: give one of {one_of(str(self.dtype), FORMATS)}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UsageError("threshold", f"{self.threshold}: give a score from 0 to 1")
        if self.iou is not None and not 0 <= self.iou <= 1:
            raise UsageError("iou", f"{self.iou:g}: give an overlap (IoU) from 0 to 1")

    def lowest(self, own: float) -> float:
        """The lowest score that a detector looks for, whose own threshold is this."""
        if isinstance(self.threshold, LabelThresholds):
            return self.threshold.lowest(own)
        return own if self.threshold is None else self.threshold

    def devices(self) -> Devices:
        """Where and in which numbers networks compute.

        Raises:
            UsageError: a device that this machine does not have.
        """
        return choose(self.device, self.dtype)

    def refuse_iou(self, spec: str) -> None:
        """Raise a `UsageError` where `iou` is asked of a detector that suppresses nothing itself."""
        if self.iou is not None:
            raise UsageError("iou", f": `detector` {spec} suppresses no boxes itself; `nms` does so with what it finds")

    def refuse_narrow(self, spec: str) -> None:
        """Raise a `UsageError` where a narrow format is asked of a detector that has none."""
        if self.dtype in ("bfloat16", "float16"):
            raise UsageError("dtype", f"{self.dtype}: `detector` {spec} computes in float32; leave `dtype` out")


def refuse_words(spec: str, vocabulary: object) -> None:
    """Raise a `UsageError` where a vocabulary is given to a detector that has a fixed set of classes, or looks at none.

    Args:
        spec: the detector's.
        vocabulary: what was given; empty or None for nothing.
    """
    if vocabulary:
        raise UsageError("vocabulary", f": `detector` {spec} looks for no words; `keep` chooses labels")


def ranked(objects: Iterable[Object]) -> Detections:
    """Objects of one picture, best first; equal scores keep their order."""
    ordered = sorted(objects, key=lambda found: -found[0])
    scores, boxes, labels = zip(*ordered, strict=True) if ordered else ((), (), ())
    return Detections(boxes=boxes, scores=scores, labels=labels)
