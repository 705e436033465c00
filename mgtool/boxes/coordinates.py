"""How four numbers are a box: corners or a corner with sides, in pixels or in parts of the picture's sides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgspec

from mgtool.errors import InputError, UsageError
from mgtool.records import Box, BoxRecord, FrameDetections

Kind = Literal["xyxy", "xywh", "cxcywh"]
_NORMALISED = "-normalised"


@dataclass(frozen=True)
class Coordinates:
    """What a box's four numbers are.

    Attributes:
        kind: two corners, the upper left corner with width and height, or the centre with these.
        is_normalised: whether they are parts of the picture's width and height, 0 to 1, rather than pixels.
    """

    kind: Kind = "xyxy"
    is_normalised: bool = False

    def corners(self, box: Sequence[float], width: float = 1, height: float = 1) -> Box:
        """Numbers of this kind as xyxy; normalised ones in pixels of a picture of this size, by default as they are.

        >>> Coordinates("cxcywh", True).corners((0.5, 0.5, 0.5, 1.0), 64, 48)
        (16.0, 0.0, 48.0, 48.0)
        """
        try:
            x, y, right, bottom = map(float, box)
        except OverflowError:  # an integer of hundreds of digits
            return (math.nan,) * 4
        if self.kind != "xyxy":
            if self.kind == "cxcywh":
                x, y = x - right / 2, y - bottom / 2
            right, bottom = x + right, y + bottom
        if self.is_normalised:
            return (x * width, y * height, right * width, bottom * height)
        return (x, y, right, bottom)

    def numbers(self, box: Box, width: float = 1, height: float = 1) -> Box:
        """A box (xyxy in pixels of a picture of this size) as numbers of this kind.

        >>> Coordinates("cxcywh", True).numbers((16, 0, 48, 48), 64, 48)
        (0.5, 0.5, 0.5, 1.0)
        """
        x, y, right, bottom = box
        if self.is_normalised:
            x, y, right, bottom = x / width, y / height, right / width, bottom / height
        if self.kind == "xyxy":
            return (x, y, right, bottom)
        across, down = right - x, bottom - y
        return ((x + right) / 2, (y + bottom) / 2, across, down) if self.kind == "cxcywh" else (x, y, across, down)


CORNERS = Coordinates()
NAMES = {
    f"{kind}{_NORMALISED if is_normalised else ''}": Coordinates(kind, is_normalised)
    for is_normalised in (False, True)
    for kind in get_args(Kind)
}
"""By what `box_format` calls them."""


def named(box_format: str) -> Coordinates | None:
    """What `box_format` names; None where it is empty.

    >>> named("cxcywh-normalised")
    Coordinates(kind='cxcywh', is_normalised=True)

    Raises:
        UsageError: no such name.
    """
    if box_format and box_format not in NAMES:
        raise UsageError("box_format", f"{box_format}: give one of {', '.join(NAMES)}")
    return NAMES[box_format] if box_format else None


class UnscaledRecord(BoxRecord, frozen=True, kw_only=True, omit_defaults=True):
    """Boxes of a picture whose size is not known, as parts of its width and height: xyxy from 0 to 1."""

    def scaled(self, width: int, height: int) -> BoxRecord:
        """The record of a picture of this size, in its pixels."""
        to_pixels = Coordinates(is_normalised=True).corners
        boxes = tuple(to_pixels(box, width, height) for box in self.boxes or ())
        return _as(BoxRecord, self, width=width, height=height, boxes=boxes)


def _as(kind: type[BoxRecord], record: BoxRecord, **changes: Any) -> BoxRecord:
    return kind(**{name: getattr(record, name) for name in BoxRecord.__struct_fields__} | changes)


def converted(record: BoxRecord, given: Coordinates | None) -> BoxRecord:
    """A record whose boxes are of the coordinates that are given, as xyxy; None for xyxy in pixels.

    Raises:
        InputError: normalised boxes of a video whose size the record does not have.
    """
    if given is None or given == CORNERS:
        return record
    width, height = record.width, record.height
    if given.is_normalised and not (width and height):
        if record.frames is not None:
            raise InputError(f"{record.video}: normalised boxes of a video need its `width` and `height`")
        return _as(UnscaledRecord, record, boxes=tuple(map(given.corners, record.boxes or ())))
    if record.frames is None:
        boxes = tuple(given.corners(box, width, height) for box in record.boxes or ())
        return msgspec.structs.replace(record, boxes=boxes)
    frames = tuple(_frame(frame, given, width, height) for frame in record.frames)
    return msgspec.structs.replace(record, frames=frames)


def _frame(frame: FrameDetections, given: Coordinates, width: int, height: int) -> FrameDetections:
    return msgspec.structs.replace(frame, boxes=tuple(given.corners(box, width, height) for box in frame.boxes))
