"""Boxes that a model writes as text."""

from __future__ import annotations

import re
from typing import Literal, get_args

from mgtool.records import Box

Scale = Literal["official", "per-mille", "padded"]
SCALES: tuple[str, ...] = get_args(Scale)
PER_MILLE = 1000.0
_NUMBER = r"(-?\d+(?:\.\d+)?)"
_FOUR = re.compile(rf"[\[(<{{>]\s*{_NUMBER}" + rf"[\s,()\[\]]+{_NUMBER}" * 3)


def corners(text: str) -> Box | None:
    """The first four numbers behind a bracket; None where there are none.

    >>> corners("It is at [0.1, 0.2, 0.5, 0.75]."), corners("<box>(12,34),(56,78)</box>"), corners("1, 2, 3, 4")
    ((0.1, 0.2, 0.5, 0.75), (12.0, 34.0, 56.0, 78.0), None)
    """
    found = _FOUR.search(text)
    if found is None:
        return None
    x0, y0, x1, y1 = (float(number) for number in found.groups())
    return x0, y0, x1, y1


def in_pixels(box: Box, scale: str, size: tuple[float, float] | None) -> Box | None:
    """A written box in the picture's pixels, xyxy; None where the picture's size is needed and not known.

    Args:
        box: as it was written.
        scale: ``official``: fractions of width and height where no number is over 1, pixels otherwise;
            ``per-mille``: thousandths of width and height; ``padded``: fractions of the picture padded to a square,
            as LLaVA's training data has them.
        size: width and height of the picture.

    >>> in_pixels((0.0, 0.25, 0.5, 0.75), "padded", (100, 50))
    (0.0, 0.0, 50.0, 50.0)
    """
    if scale == "official" and max(box) > 1:
        return box
    if size is None:
        return None
    width, height = size
    if scale == "padded":
        side = max(size)
        left, top = (side - width) // 2, (side - height) // 2
        return box[0] * side - left, box[1] * side - top, box[2] * side - left, box[3] * side - top
    unit = PER_MILLE if scale == "per-mille" else 1.0
    return box[0] / unit * width, box[1] / unit * height, box[2] / unit * width, box[3] / unit * height
