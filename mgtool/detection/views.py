"""A detector that looks at a picture in parts or in several sizes: large pictures, small objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from PIL import Image

from mgtool.boxes.merging import Merging
from mgtool.detectors.base import Detector
from mgtool.errors import UsageError
from mgtool.records import Box, Detections

_MOST_VIEWS = 10_000
"""Of one picture."""
_LARGEST_SCALE = 8


@dataclass(frozen=True)
class Views:
    """How a picture is looked at.

    Attributes:
        slice: side of the squares that it is cut into, beside being looked at as a whole; 0 for the whole alone.
        overlap: of neighbouring squares, in parts of their side.
        scales: sizes of the picture, in parts of its own.
        max_size: longest side of the picture, before all this; 0 for any.

    Raises:
        UsageError: values that make no views.
    """

    slice: int = 0
    overlap: float = 0.2
    scales: tuple[float, ...] = (1.0,)
    max_size: int = 0

    def __post_init__(self) -> None:
        if self.slice < 0 or self.max_size < 0:
            name = "slice" if self.slice < 0 else "max_size"
            raise UsageError(name, f"{getattr(self, name)}: give a number of pixels from 1 on, or 0")
        if not 0 <= self.overlap < 1:
            raise UsageError("overlap", f"{self.overlap:g}: give a part of the slices' side, from 0 to below 1")
        if not self.scales or not all(0 < scale <= _LARGEST_SCALE for scale in self.scales):
            raise UsageError("scales", f": give sizes above 0 and up to {_LARGEST_SCALE}: 0.5,1,2")

    @property
    def is_plain(self) -> bool:
        """Whether a picture is looked at once, as it is."""
        return self == Views(overlap=self.overlap)


def scales_of(text: str) -> tuple[float, ...]:
    """Sizes with commas between them; the picture's own where there are none.

    >>> scales_of("0.5, 1"), scales_of("")
    ((0.5, 1.0), (1.0,))

    Raises:
        UsageError: what is no number.
    """
    try:
        return tuple(map(float, text.split(","))) if text else (1.0,)
    except ValueError as error:
        raise UsageError("scales", f"{text}: give numbers with commas between them: 0.5,1,2") from error


class View(NamedTuple):
    """One look at a picture.

    Attributes:
        picture: what the detector sees.
        place: where it lies in the picture in its size, xyxy in whole pixels.
        scale: that size in parts of the picture's own, across and down.
    """

    picture: Image.Image
    place: tuple[int, int, int, int]
    scale: tuple[float, float]

    def restored(self, found: Detections) -> Iterator[tuple[float, Box, str]]:
        """Objects in pixels of the picture: score, box within the view, label."""
        width, height = self.picture.size
        (left, top, *_), (across, down) = self.place, self.scale
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
            x0, y0, x1, y1 = max(0.0, box[0]), max(0.0, box[1]), min(box[2], width), min(box[3], height)
            if x1 > x0 and y1 > y0:
                yield score, ((x0 + left) / across, (y0 + top) / down, (x1 + left) / across, (y1 + top) / down), label


class ViewingDetector:
    """A `Detector` that asks another one about views of each picture, and merges what it says.

    Args:
        detector: is given as many views at once as it is given pictures.
        views: how pictures are looked at.
        merging: of boxes of several views.
    """

    def __init__(self, detector: Detector, views: Views, merging: Merging) -> None:
        self._detector, self._views, self._merging = detector, views, merging
        self.own_threshold = detector.own_threshold
        self.identity = f"{detector.identity} {views} {merging}"
        for name in ("draw", "labels"):
            if hasattr(detector, name):
                setattr(self, name, getattr(detector, name))

    def detect(self, pictures: Sequence[Image.Image], words: Sequence[Sequence[str]] | None) -> list[Detections]:
        """Objects of each RGB picture, best first, xyxy in its float pixels; `words` picture by picture."""
        found: list[list[tuple[float, Box, str]]] = [[] for _ in pictures]
        looks = ((index, view) for index, picture in enumerate(pictures) for view in views_of(picture, self._views))
        while batch := list(islice(looks, max(1, len(pictures)))):
            asked = None if words is None else [words[index] for index, _ in batch]
            results = self._detector.detect([view.picture for _, view in batch], asked)
            for (index, view), result in zip(batch, results, strict=True):
                found[index] += view.restored(result)
        return [self._together(objects) for objects in found]

    def _together(self, objects: list[tuple[float, Box, str]]) -> Detections:
        scores, boxes, labels = zip(*objects, strict=True) if objects else ((), (), ())
        return self._merging(Detections(boxes, scores, labels))


def views_of(picture: Image.Image, views: Views) -> Iterator[View]:
    """The looks at an RGB picture: in each size its slices, and the whole.

    Raises:
        UsageError: slices so small that there are too many.
    """
    largest = min(1.0, views.max_size / max(picture.size)) if views.max_size else 1.0
    for scale in views.scales:
        width, height = (max(1, round(side * largest * scale)) for side in picture.size)
        size = (width, height)
        sized = picture if size == picture.size else picture.resize(size, Image.Resampling.BILINEAR)
        factors = (sized.width / picture.width, sized.height / picture.height)
        places = slices(*sized.size, views.slice, views.overlap) if views.slice else []
        if len(places) > 1:
            for place in places:
                yield View(sized.crop(place), place, factors)
        yield View(sized, (0, 0, *sized.size), factors)


def slices(width: int, height: int, side: int, overlap: float) -> list[tuple[int, int, int, int]]:
    """Squares that cover a picture, row by row; the last ones are moved inside, so that they are whole.

    >>> slices(100, 60, 60, 0.2)
    [(0, 0, 60, 60), (40, 0, 100, 60)]

    Raises:
        UsageError: more than can be looked at.
    """
    across, down = _starts(width, side, overlap), _starts(height, side, overlap)
    if len(across) * len(down) > _MOST_VIEWS:
        raise UsageError("slice", f"{side}: {len(across) * len(down):,} slices of one picture: give larger ones")
    return [(x, y, min(width, x + side), min(height, y + side)) for y in down for x in across]


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Where slices begin along one side of the picture."""
    step = side - int(overlap * side)
    starts = list(range(0, max(1, length - side + step), step)) if side < length else [0]
    return [min(start, max(0, length - side)) for start in starts]
