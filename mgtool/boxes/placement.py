"""The placement that moves a picture and its boxes together, and which boxes become tokens.

Boxes are xyxy. The *picture frame* is pixels of the original picture; the *model frame* is pixels of the
square of `size` pixels that the model sees (768 in the published models).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from mgtool.boxes.suppression import Floats, Indices, best_per_label, nms
from mgtool.errors import ItemError
from mgtool.records import Detections

MAX_SIDE = 1 << 16
"""Longest side of a picture that is padded to a square, in pixels; JPEG has no longer one."""

BAND_PIXELS = 1 << 24
"""Pixels of a padded picture that are resized at once."""

_TALL = 1 << 13
"""Side of a square from which on its padding is looked at: 64 million pixels, a second of computing."""
_REACH = 3
"""Columns of a result beyond those that a picture covers: its resizing looks at two on either side."""


@dataclass(frozen=True)
class BoxRules:
    """Which of a detector's boxes become tokens (reference values of the published models).

    Attributes:
        nms_iou: boxes of one label that overlap a better one by more than this are dropped.
        limit: with more survivors than this, each label is cut.
        per_label: boxes kept of each label then.
        per_label_tight: boxes kept of each label where `limit` is under `tight_below`.
        tight_below: see `per_label_tight`.
    """

    nms_iou: float = 0.2
    limit: int = 100
    per_label: int = 20
    per_label_tight: int = 5
    tight_below: int = 50

    @property
    def cut(self) -> int:
        """Boxes kept of each label once there are more than `limit`."""
        return self.per_label_tight if self.limit < self.tight_below else self.per_label


class PlacedBoxes(NamedTuple):
    """Boxes in the model frame, in token order.

    Attributes:
        boxes: (n, 4) float32 with whole numbers, n >= 1: without any box, one (0, 0, 0, 0) stands in.
        labels: names of the boxes; empty where the stand-in is used.
        kept: places of the boxes among those of the detector.
    """

    boxes: Floats
    labels: tuple[str, ...]
    kept: tuple[int, ...] = ()


class Framed(NamedTuple):
    """A picture and its boxes in the model frame, before normalising.

    Attributes:
        planes: (3, S, S) uint8, RGB.
        boxes: as in `PlacedBoxes`.
    """

    planes: npt.NDArray[np.uint8]
    boxes: PlacedBoxes


@dataclass(frozen=True)
class Framing:
    """How pictures with their boxes come into the model frame.

    Attributes:
        size: side S of the model frame.
        colour: RGB of what a picture is padded with, 0 to 255.
        rules: which boxes are kept.
    """

    size: int
    colour: tuple[int, ...]
    rules: BoxRules

    def fit(self, picture: Image.Image, detections: Detections | None, *, per_label: int | None = None) -> Framed:
        """Move a picture and a detector's boxes; arguments and errors as in `place`."""
        placement = Placement(*picture.size, self.size)
        picture = picture if picture.mode == "RGB" else picture.convert("RGB")  # which would copy RGB, too
        square = placement.move_picture(picture, self.colour)
        planes = np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))
        return Framed(planes, place(detections or Detections(), placement, self.rules, per_label=per_label))


@dataclass(frozen=True)
class Placement:
    """Moves one picture and its boxes into the model frame: padded to a square, scaled to `size`.

    Attributes:
        width, height: the picture's, in pixels.
        size: side of the model frame.
    """

    width: int
    height: int
    size: int

    @property
    def side(self) -> int:
        """Side of the padded square in picture pixels."""
        return max(self.width, self.height)

    @property
    def offset(self) -> tuple[int, int]:
        """Where the picture's left upper corner lies in the padded square."""
        return (self.side - self.width) // 2, (self.side - self.height) // 2

    def move_picture(self, picture: Image.Image, colour: tuple[int, ...]) -> Image.Image:
        """Pad with `colour` and resize (bicubic).

        The square of a very long picture never exists whole: bands of it are made narrow one by one, and the result
        is made low. Pillow resizes in this order itself, so the pixels are those of padding and resizing (within one
        level for a picture over 8,192 pixels that is twice as high as wide, of whose square a part alone is computed).

        Args:
            picture: RGB, `width` x `height`.
            colour: of the padding, 0 to 255.

        Returns:
            RGB, `size` x `size`.

        Raises:
            ItemError: ``too_many_pixels`` for a side over `MAX_SIDE`.
        """
        if self.side > MAX_SIDE:
            raise ItemError("too_many_pixels", f"{self.width} x {self.height} is too long to be padded to a square")
        return self._narrowed(picture, colour).resize((self.size, self.size), Image.Resampling.BICUBIC)

    def _narrowed(self, picture: Image.Image, colour: tuple[int, ...]) -> Image.Image:
        narrow = Image.new(picture.mode, (self.size, self.side), colour)
        (first, last), (begin, end), box = self._columns()
        rows = max(1, BAND_PIXELS // (end - begin))
        left, above = self.offset
        for top in range(above, above + self.height, rows):
            band = Image.new(picture.mode, (end - begin, min(rows, above + self.height - top)), colour)
            band.paste(picture, (left - begin, above - top))
            place = (box[0], 0, box[1], band.height)
            narrow.paste(band.resize((last - first, band.height), Image.Resampling.BICUBIC, place), (first, top))
        return narrow

    def _columns(self) -> tuple[tuple[int, int], tuple[int, int], tuple[float, float]]:
        """Columns of the result that are computed, the square's that they are made of, and where they lie in those.

        All of them, but for a very tall picture: most of its square is padding, which costs as much as pixels do.
        """
        scale, (left, _) = self.side / self.size, self.offset
        first = max(0, int(left / scale) - _REACH)
        last = min(self.size, int((left + self.width) / scale) + _REACH + 1)
        begin = max(0, int((first - _REACH) * scale))
        end = min(self.side, int((last + _REACH) * scale))
        if self.side < _TALL or 2 * (end - begin) > self.side:
            return (0, self.size), (0, self.side), (0, self.side)
        return (first, last), (begin, end), (first * scale - begin, last * scale - begin)

    def pad_boxes(self, boxes: npt.NDArray[np.floating]) -> Floats:
        """Shift (n, 4) boxes of the picture frame into the padded square, still in picture pixels; float32."""
        return np.asarray(boxes + np.array(self.offset * 2), dtype=np.float32)

    def scale_boxes(self, padded: Floats) -> Floats:
        """(n, 4) boxes of the padded square in the model frame, rounded half to even; not clipped."""
        return np.asarray(np.rint(padded * np.float32(self.size / self.side)), dtype=np.float32)

    def restore_boxes(self, boxes: Floats) -> Floats:
        """(n, 4) boxes of the model frame in picture pixels, inside the picture; float32."""
        moved = boxes * np.float32(self.side / self.size) - np.array(self.offset * 2, dtype=np.float32)
        inside = np.clip(moved, 0, np.array((self.width, self.height) * 2, dtype=np.float32))
        return np.asarray(inside, dtype=np.float32)

    def clip(self, boxes: Floats) -> tuple[Floats, Indices]:
        """Clip (n, 4) boxes of the model frame to it; drops those wholly outside.

        Returns:
            The clipped boxes that are left, and their indices.
        """
        inside = (boxes[:, 2:] >= 0).all(axis=1) & (boxes[:, :2] <= self.size).all(axis=1)
        kept = np.flatnonzero(inside)
        return np.clip(boxes[kept], 0, self.size).astype(np.float32), kept


def _finite(detections: Detections) -> tuple[npt.NDArray[np.float64], Floats]:
    """Boxes (n, 4) and scores (n,)."""
    boxes = np.array(detections.boxes, dtype=np.float64).reshape(-1, 4)
    scores = np.array(detections.scores, dtype=np.float32)
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ItemError("bad_boxes", "a box or score is not a finite number")
    return boxes, scores


def place(
    detections: Detections, placement: Placement, rules: BoxRules, *, per_label: int | None = None
) -> PlacedBoxes:
    """A detector's boxes as the model takes them: suppressed, limited, moved, clipped.

    Args:
        detections: boxes in the picture frame.
        placement: of the picture.
        rules: suppression and limits.
        per_label: keep at most this many of each label whatever their number (training on long texts).

    Raises:
        ItemError: ``bad_boxes`` where a number is not finite.
    """
    (boxes, scores), labels = _finite(detections), detections.labels
    padded = placement.pad_boxes(boxes)
    kept = nms(padded, scores, labels, rules.nms_iou)
    most = per_label if per_label is not None else rules.cut if len(kept) > rules.limit else None
    if most is not None:
        kept = kept[best_per_label([labels[i] for i in kept], most)]
    clipped, inside = placement.clip(placement.scale_boxes(padded[kept]))
    if not len(clipped):
        return PlacedBoxes(np.zeros((1, 4), dtype=np.float32), ())
    chosen = tuple(kept[inside].tolist())
    return PlacedBoxes(clipped, tuple(labels[i] for i in chosen), chosen)
