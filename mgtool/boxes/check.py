"""A look at the boxes of a file before they are used: xywh or normalised ones where xyxy in pixels belong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mgtool.errors import InputError
from mgtool.records import Box, BoxRecord, FrameDetections, LeftOut

MARGIN = 1.0
"""Pixels that a box may stand out of its picture: detectors round."""

_INVERTED = "boxes whose right or lower side comes first (xywh where xyxy belongs?)"
_OUTSIDE = "boxes outside their picture"


class BoxCheck:
    """Looks at the records of a file, one after the other.

    Args:
        left_out: told of boxes that are not used.
    """

    def __init__(self, left_out: LeftOut) -> None:
        self._left_out = left_out
        self._normalised = self._others = 0

    def look(self, record: BoxRecord) -> BoxRecord:
        """The record without boxes that are none in its picture."""
        if record.frames is None:
            found = self._usable(record, record.boxes or (), record.scores or (), record.labels or ())
            return record if found is None else msgspec.structs.replace(record, **found)
        frames = tuple(self._frame(record, frame) for frame in record.frames)
        return record if frames == record.frames else msgspec.structs.replace(record, frames=frames)

    def refuse_normalised(self, path: str) -> None:
        """Once all records were looked at: raise an `InputError` where all boxes are parts of one pixel."""
        if self._normalised and not self._others:
            raise InputError(
                f"{path}: all boxes lie between 0 and 1, as normalised ones do: give them in pixels of their pictures"
            )

    def _frame(self, record: BoxRecord, frame: FrameDetections) -> FrameDetections:
        found = self._usable(record, frame.boxes, frame.scores, frame.labels)
        return frame if found is None else msgspec.structs.replace(frame, **found)

    def _usable(
        self, record: BoxRecord, boxes: Sequence[Box], scores: Sequence[float], labels: Sequence[str]
    ) -> dict[str, Any] | None:
        """Boxes, scores and labels of those that are used; None where that is all of them."""
        kept = []
        for row, box in enumerate(boxes):
            is_part = min(box) >= 0 and max(box) <= 1
            self._normalised += is_part and any(side % 1 for side in box)
            self._others += not is_part
            if reason := _wrong(box, record.width, record.height):
                self._left_out.add(reason, f"{record.image or record.video}: {list(box)}")
            else:
                kept.append(row)
        if len(kept) == len(boxes):
            return None
        values = {"boxes": boxes, "scores": scores, "labels": labels}
        return {name: tuple(value[row] for row in kept) for name, value in values.items()}


def _wrong(box: Box, width: int, height: int) -> str:
    """Why a box is not used; empty where it is. One that crosses the picture's edge is."""
    left, top, right, bottom = box
    if right < left or bottom < top:
        return _INVERTED
    is_outside = right < -MARGIN or bottom < -MARGIN or left > width + MARGIN or top > height + MARGIN
    return _OUTSIDE if width and height and is_outside else ""
