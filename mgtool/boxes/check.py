"""A look at the boxes of a file before they are used: xywh or normalised ones where xyxy in pixels belong."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, get_args

import msgspec

from mgtool.boxes.coordinates import CORNERS, Coordinates, Kind, UnscaledRecord
from mgtool.errors import InputError
from mgtool.records import Box, BoxRecord, FrameDetections, LeftOut, name_text

MARGIN = 1.0
"""Pixels that a box may stand out of its picture: detectors round."""
_PART_MARGIN = 0.01
"""The same of boxes that are parts of their picture."""
_MOST_SIDE = 1 << 31
_TRIED = 2_000
"""Boxes of a file that are read in every way, to tell which one fits."""

MOST_BOXES = 100_000
"""Of a picture or frame; the best ones are used."""

MANY = f"boxes beyond the first {MOST_BOXES:,} of a picture"
_NOT_FINITE = "boxes or scores that are no numbers (NaN or infinite)"
_INVERTED = "boxes whose right or lower side comes first (xywh where xyxy belongs?)"
_OUTSIDE = "boxes outside their picture"


class BoxCheck:
    """Looks at the records of a file, one after the other.

    Args:
        left_out: told of boxes that are not used.
    """

    def __init__(self, left_out: LeftOut) -> None:
        self._left_out = left_out
        self._seen = self._inverted = self._normalised = self._others = 0
        self._misfits = Counter[Kind]()
        self._said_normalised = False

    def look(self, record: BoxRecord, read_as: Coordinates = CORNERS) -> BoxRecord:
        """The record without boxes that are none in its picture; `read_as` is what its numbers were taken for."""
        self._said_normalised |= read_as.is_normalised
        if record.frames is None:
            found = self._usable(record, read_as, record)
            return record if found is None else msgspec.structs.replace(record, **found)
        frames = tuple(self._frame(record, read_as, frame) for frame in record.frames)
        return record if frames == record.frames else msgspec.structs.replace(record, frames=frames)

    def refuse_other_coordinates(self, path: str) -> None:
        """Once all records were looked at: refuse a file whose numbers must mean something else, and say why.

        Raises:
            InputError: all boxes are parts of one pixel, or most have their right or lower side first.
        """
        if self._said_normalised:
            return
        if self._normalised and not self._others:
            scale, what = "-normalised", f"all {self._seen:,} boxes lie between 0 and 1, as normalised ones do"
        elif self._inverted * 2 > self._seen:
            scale, what = "", f"{self._inverted:,} of {self._seen:,} boxes have their right or lower side first"
        else:
            return
        tried = min(self._seen, _TRIED)
        misfits = ", ".join(f"{kind} {self._misfits[kind]:,}" for kind in get_args(Kind))
        best = min(self._misfits[kind] for kind in get_args(Kind))
        fitting = " or ".join(f"{kind}{scale}" for kind in get_args(Kind) if self._misfits[kind] == best)
        evidence = f"of {tried:,} do not fit their pictures as {misfits}"
        raise InputError(f"{path}: {what}; {evidence}: give `box_format` {fitting}")

    def _frame(self, record: BoxRecord, read_as: Coordinates, frame: FrameDetections) -> FrameDetections:
        found = self._usable(record, read_as, frame)
        return frame if found is None else msgspec.structs.replace(frame, **found)

    def _usable(
        self, record: BoxRecord, read_as: Coordinates, found: BoxRecord | FrameDetections
    ) -> dict[str, Any] | None:
        """Boxes, scores and labels of those that are used; None where that is all of them."""
        kept, boxes = [], (found.boxes or ())[:MOST_BOXES]
        if beyond := len(found.boxes or ()) - len(boxes):
            self._left_out.take({MANY: {"count": beyond, "examples": [name_text(record.image or record.video)]}})
        is_part = isinstance(record, UnscaledRecord)
        size = (1, 1) if is_part else (min(record.width, _MOST_SIDE), min(record.height, _MOST_SIDE))
        scores = found.scores or ()
        if (
            self._seen >= _TRIED
            and not is_part
            and _are_ordinary(boxes, *size)
            and all(map(math.isfinite, scores))
            and not beyond
        ):
            self._seen, self._others = self._seen + len(boxes), self._others + len(boxes)
            return None
        for row, box in enumerate(boxes):
            reason = _wrong(box, *size, _PART_MARGIN if is_part else MARGIN)
            reason = _NOT_FINITE if not _is_finite(scores[row : row + 1]) else reason
            if reason != _NOT_FINITE and not is_part:
                self._count(box, *size, read_as)
            if not reason:
                kept.append(row)
            else:
                self._left_out.add(reason, f"{record.image or record.video}: {list(box)}")
        if len(kept) == len(found.boxes or ()):
            return None
        values = {"boxes": boxes, "scores": scores, "labels": found.labels or ()}
        return {name: tuple(value[row] for row in kept) for name, value in values.items()}

    def _count(self, box: Box, width: int, height: int, read_as: Coordinates) -> None:
        """Take up what one box tells about the file."""
        is_part = min(box) >= 0 and max(box) <= 1
        self._normalised += is_part and any(side % 1 for side in box)
        self._others += not is_part
        self._seen += 1
        self._inverted += box[2] < box[0] or box[3] < box[1]
        if self._seen <= _TRIED:
            numbers = read_as.numbers(box)
            limits = (1, 1) if is_part else (width or math.inf, height or math.inf)
            margin = _PART_MARGIN if is_part else MARGIN
            for kind in get_args(Kind):
                self._misfits[kind] += not _fits(Coordinates(kind).corners(numbers), *limits, margin)


def _are_ordinary(boxes: Sequence[Box], width: float, height: float) -> bool:
    """Whether there is nothing to say of any box: within the picture, its sides in order, larger than a pixel."""
    return all(
        0 <= left <= right <= width and 0 <= top <= bottom <= height and right > 1 for left, top, right, bottom in boxes
    )


def _wrong(box: Box, width: float, height: float, margin: float) -> str:
    """Why a box is not used; empty where it is. One that crosses the picture's edge is."""
    left, top, right, bottom = box
    if not _is_finite(box):
        return _NOT_FINITE
    if right < left or bottom < top:
        return _INVERTED
    is_outside = right < -margin or bottom < -margin or left > width + margin or top > height + margin
    return _OUTSIDE if width and height and is_outside else ""


def _is_finite(numbers: Sequence[float]) -> bool:
    try:
        return all(map(math.isfinite, numbers))
    except OverflowError:  # an integer of hundreds of digits
        return False


def _fits(box: Box, width: float, height: float, margin: float) -> bool:
    """Whether a box lies wholly in its picture."""
    left, top, right, bottom = box
    is_ordered = left <= right and top <= bottom
    return is_ordered and min(left, top) >= -margin and right <= width + margin and bottom <= height + margin
