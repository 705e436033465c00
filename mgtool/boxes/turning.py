"""A picture that is turned or mirrored as its EXIF says, and its boxes with it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from PIL import Image

from mgtool.records import Box, Detections

_METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPPED, _FROM_RIGHT, _FROM_BELOW = {5, 6, 7, 8}, {2, 3, 6, 7}, {3, 4, 7, 8}
"""Orientations whose sides change places, whose x and whose y then count from the other end."""


@dataclass(frozen=True)
class Turning:
    """Moves one picture and its boxes from the stored pixels to those that are to be shown.

    Attributes:
        width, height: the stored picture's, in pixels.
        orientation: 1 to 8, as EXIF counts; 1 leaves everything as it is.
    """

    width: int
    height: int
    orientation: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height afterwards."""
        return (self.height, self.width) if self.orientation in _SWAPPED else (self.width, self.height)

    def move_picture(self, picture: Image.Image) -> Image.Image:
        """The picture as it is to be shown."""
        method = _METHODS.get(self.orientation)
        return picture if method is None else picture.transpose(method)

    def move_boxes(self, detections: Detections) -> Detections:
        """The same objects with their boxes (n, 4), xyxy float pixels, in the picture as it is to be shown."""
        if self.orientation not in _METHODS:
            return detections
        return msgspec.structs.replace(detections, boxes=tuple(map(self._moved, detections.boxes)))

    def _moved(self, box: Box) -> Box:
        left, top, right, bottom = box
        width, height = self.size
        if self.orientation in _SWAPPED:
            left, top, right, bottom = top, left, bottom, right
        if self.orientation in _FROM_RIGHT:
            left, right = width - right, width - left
        if self.orientation in _FROM_BELOW:
            top, bottom = height - bottom, height - top
        return left, top, right, bottom
