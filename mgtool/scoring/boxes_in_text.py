"""Boxes that a model writes as text."""

from __future__ import annotations

import re

from mgtool.records import Box

SCALES = {
    "official": "fractions of width and height where no number is over 1.5, pixels otherwise",
    "per-mille": "thousandths of width and height",
    "padded": "fractions of the picture padded to a square, as LLaVA's training data has them",
    "lmms-eval": "fractions always, in square brackets, the corners as they are",
    "vlmevalkit": "fractions up to 1.5, thousandths up to 1000, then pixels, cut at the edges; mean over the splits",
    "mg-llava": "four whole numbers, hundredths; boxes have their edges, and overlap by more than half",
}
"""How the numbers of a box are meant, and what that does."""
PER_MILLE = 1000.0
LARGEST_FRACTION = 1.5
"""A box whose numbers are no larger is one of fractions: an object may reach a little over the edge."""
_NUMBER = r"([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)"
_FOUR = re.compile(rf"[\[(<{{>]\s*{_NUMBER}" + rf"[\s,()\[\]]+{_NUMBER}" * 3)
_LIST = re.compile(rf"\[\s*{_NUMBER}" + rf"(?:\s*,\s*|\s+){_NUMBER}" * 3 + r"\s*\]")
_PLAIN = r"(-?\d+(?:\.\d+)?)"
_PLAIN_LIST = re.compile(rf"\[\s*{_PLAIN}" + rf",\s*{_PLAIN}" * 3 + r"\s*\]")


def corners(text: str, scale: str = "official") -> Box | None:
    """Four numbers as they were written; None where there are none.

    They stand behind a bracket, which is a square one in the frameworks; else, but in lmms-eval, the first four of the
    text are taken.

    >>> corners("It is at [0.1, 0.2, 0.5, 0.75]."), corners("<box>(12,34),(56,78)</box>"), corners("1, 2, 3, 4")
    ((0.1, 0.2, 0.5, 0.75), (12.0, 34.0, 56.0, 78.0), (1.0, 2.0, 3.0, 4.0))
    """
    pattern = {"lmms-eval": _PLAIN_LIST, "vlmevalkit": _LIST}.get(scale, _FOUR)
    found = pattern.search(text)
    numbers = found.groups() if found else [] if scale == "lmms-eval" else re.findall(_NUMBER, text)[:4]
    if len(numbers) < 4:
        return None
    x0, y0, x1, y1 = (float(number) for number in numbers)
    return x0, y0, x1, y1


def in_pixels(box: Box, scale: str, size: tuple[float, float] | None) -> Box | None:
    """A written box in the picture's pixels, xyxy; None where the picture's size is needed and not known.

    Args:
        box: as it was written.
        scale: one of `SCALES`; those of ``mg-llava`` are no boxes of pixels, see `hundredths_overlap`.
        size: width and height of the picture.

    >>> in_pixels((0.0, 0.25, 0.5, 0.75), "padded", (100, 50))
    (0.0, 0.0, 50.0, 50.0)
    """
    largest = max(map(abs, box))
    if scale == "official" and largest > LARGEST_FRACTION:
        return _ordered(box)
    if size is None:
        return None
    width, height = size
    if scale == "padded":
        side = max(size)
        left, top = (side - width) // 2, (side - height) // 2
        return _ordered((box[0] * side - left, box[1] * side - top, box[2] * side - left, box[3] * side - top))
    is_vlmevalkit = scale == "vlmevalkit"
    if is_vlmevalkit and largest > PER_MILLE:
        return _ordered(_cut(box, size))
    per_mille = scale == "per-mille" or (is_vlmevalkit and largest > LARGEST_FRACTION)
    unit = PER_MILLE if per_mille else 1.0
    scaled = box[0] / unit * width, box[1] / unit * height, box[2] / unit * width, box[3] / unit * height
    if scale == "lmms-eval":
        return scaled
    return _ordered(_cut(scaled, size) if is_vlmevalkit else scaled)


def hundredths_overlap(text: str, box: Box, size: tuple[float, float]) -> float:
    """How far four whole numbers in a text, hundredths of the picture, are a box, by MG-LLaVA's measure.

    Args:
        text: an answer; any other count of numbers is no box.
        box: xyxy in pixels, cut down to whole hundredths.
        size: width and height of the picture.

    >>> hundredths_overlap("[10, 10, 19, 19]", (10.0, 10.0, 19.0, 19.0), (100, 100))
    1.0
    """
    said = [int(number) for number in re.findall(r"\d+", text)]
    if len(said) != len("xyxy"):
        return 0.0
    expected = [int(edge / side * 100) for edge, side in zip(box, size * 2, strict=True)]
    sides = [min(said[axis + 2], expected[axis + 2]) - max(said[axis], expected[axis]) + 1 for axis in (0, 1)]
    areas = [(one[2] - one[0] + 1) * (one[3] - one[1] + 1) for one in (said, expected)]
    shared = max(0, sides[0]) * max(0, sides[1])
    return shared / (sum(areas) - shared) if sum(areas) != shared else 0.0


def _ordered(box: Box) -> Box:
    x0, y0, x1, y1 = box
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def _cut(box: Box, size: tuple[float, float]) -> Box:
    x0, y0, x1, y1 = (min(max(edge, 0.0), limit) for edge, limit in zip(box, size * 2, strict=True))
    return x0, y0, x1, y1
