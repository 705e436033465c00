"""Which of a detector's boxes are kept: the same rules for every detector, applied in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import msgspec
import numpy as np

from mgtool.boxes.suppression import nms
from mgtool.boxes.thresholds import LabelThresholds
from mgtool.errors import ItemError, UsageError
from mgtool.records import Box, Detections


@dataclass(frozen=True)
class Filters:
    """Rules, in the order in which they are applied; what is not given keeps everything.

    Attributes:
        threshold: lowest score; a detector has applied it already, boxes that are known may not have.
        own_threshold: the detector's, of labels that `LabelThresholds` do not name.
        keep: labels to keep; compared without regard to case, as `drop`.
        drop: labels to drop.
        min_size: pixels of the picture that a box's shorter side must have.
        nms: a box that overlaps a better one of its label by more than this IoU is dropped.
        class_agnostic: the better one may be of any label.
        max_boxes: the best so many are kept.
        round: coordinates become whole numbers, towards zero, as in the published box files.
    """

    threshold: float | None = None
    own_threshold: float = 0
    keep: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    min_size: float = 0
    nms: float | None = None
    class_agnostic: bool = False
    max_boxes: int | None = None
    round: bool = False

    def __post_init__(self) -> None:
        if self.min_size < 0:
            raise UsageError("min_size", f"{self.min_size:g}: give a number of pixels from 0 on")
        if self.nms is not None and not 0 <= self.nms <= 1:
            raise UsageError("nms", f"{self.nms:g}: give an overlap (IoU) from 0 to 1")
        if self.max_boxes is not None and self.max_boxes < 0:
            raise UsageError("max_boxes", f"{self.max_boxes}: give a number from 0 on")

    @property
    def identity(self) -> str:
        """The rules that are set, in words; empty where none is."""
        changed = [(field.name, getattr(self, field.name)) for field in fields(self)]
        defaults = {field.name: field.default for field in fields(self)}
        return " ".join(f"{name}={value!r}" for name, value in changed if value != defaults[name])

    def __call__(self, found: Detections) -> Detections:
        """Those of a picture's objects that are kept, best first.

        Raises:
            ItemError: ``bad_boxes`` where a score or coordinate is not finite, as where half precision overflows.
        """
        if not (np.isfinite(found.scores).all() and np.isfinite(found.boxes).all()):
            raise ItemError("bad_boxes", "a box or score that is not finite")
        least = [self._least(label) for label in found.labels]
        rows = [row for row in range(len(found.boxes)) if found.scores[row] >= least[row]]
        rows = [row for row in rows if self._wants(found.labels[row], found.boxes[row])]
        rows.sort(key=lambda row: -found.scores[row])
        if self.nms is not None and rows:
            boxes = np.array([found.boxes[row] for row in rows], dtype=np.float32)
            scores = np.array([found.scores[row] for row in rows], dtype=np.float32)
            labels = ["" if self.class_agnostic else found.labels[row] for row in rows]
            rows = [rows[place] for place in nms(boxes, scores, labels, self.nms)]
        rows = rows[: self.max_boxes]
        return msgspec.structs.replace(
            found,
            boxes=tuple(_whole(found.boxes[row]) if self.round else found.boxes[row] for row in rows),
            scores=tuple(found.scores[row] for row in rows),
            labels=tuple(found.labels[row] for row in rows),
        )

    @cached_property
    def _kept(self) -> frozenset[str] | None:
        return None if self.keep is None else frozenset(map(str.casefold, self.keep))

    @cached_property
    def _dropped(self) -> frozenset[str]:
        return frozenset(map(str.casefold, self.drop))

    def _least(self, label: str) -> float:
        if isinstance(self.threshold, LabelThresholds):
            return self.threshold.of(label, self.own_threshold)
        return self.threshold or 0

    def _wants(self, label: str, box: Box) -> bool:
        name, shorter = label.casefold(), min(box[2] - box[0], box[3] - box[1])
        return (self._kept is None or name in self._kept) and name not in self._dropped and shorter >= self.min_size


def _whole(box: Box) -> Box:
    x0, y0, x1, y1 = (float(int(side)) for side in box)
    return x0, y0, x1, y1
