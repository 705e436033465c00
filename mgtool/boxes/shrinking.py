"""Pictures made smaller, together with their boxes."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import msgspec
from PIL import Image

from mgtool.records import Detections


@dataclass(frozen=True)
class Shrinking:
    """Moves one picture and its boxes to a smaller size with the same aspect ratio.

    Attributes:
        width, height: the picture's, in pixels.
        longest: longest side that may be left; a picture within it stays as it is.
    """

    width: int
    height: int
    longest: int

    @functools.cached_property
    def size(self) -> tuple[int, int]:
        """Width and height afterwards, at least 1."""
        scale = min(1.0, self.longest / max(self.width, self.height))
        return max(1, round(self.width * scale)), max(1, round(self.height * scale))

    def move_picture(self, picture: Image.Image) -> Image.Image:
        """Resize (Lanczos) where it is too large."""
        return picture if picture.size == self.size else picture.resize(self.size, Image.Resampling.LANCZOS)

    def move_boxes(self, detections: Detections) -> Detections:
        """The same objects with their boxes in pixels of the smaller picture."""
        across, down = self.size[0] / self.width, self.size[1] / self.height
        if across == down == 1:
            return detections
        moved = tuple((x0 * across, y0 * down, x1 * across, y1 * down) for x0, y0, x1, y1 in detections.boxes)
        return msgspec.structs.replace(detections, boxes=moved)
