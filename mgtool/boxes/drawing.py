"""Boxes and labels drawn on a picture, legible on any: light lines in a dark halo, labels on their own ground."""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageFont

from mgtool.records import Box, Detections

MAX_SIDE = 1600
MIN_SIDE = 320
Draw = Callable[[Image.Image, Detections], Image.Image]
"""An RGB picture and its boxes (xyxy in its pixels) -> a copy with the boxes on it."""
DARK, LIGHT = (16, 16, 16), (255, 255, 255)


def draw(picture: Image.Image, found: Detections) -> Image.Image:
    """A copy of an RGB picture with its boxes (xyxy in its pixels), brought to a size that can be looked at."""
    scale = min(MAX_SIDE / max(picture.size), max(1.0, MIN_SIDE / max(picture.size)))
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    canvas = picture.resize(size, Image.Resampling.BICUBIC if scale <= 1 else Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(canvas)
    line = max(2, round(max(size) / 300))
    font = ImageFont.load_default(size=max(12, round(max(size) / 42)))
    boxes = [tuple(side * scale for side in _upright(box)) for box in found.boxes]
    worst_first = list(zip(boxes, found.scores, found.labels, strict=True))[::-1]
    for (x0, y0, x1, y1), _, label in worst_first:
        pen.rectangle((x0 - line, y0 - line, x1 + line, y1 + line), outline=DARK, width=3 * line)
        pen.rectangle((x0, y0, x1, y1), outline=_colour(label), width=line)
    for (x0, y0, _, _), score, label in worst_first:
        _write(pen, (x0, y0), f"{label} {score:.2f}", _colour(label), font)
    return canvas


def _upright(box: Box) -> Box:
    x0, y0, x1, y1 = box
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def _write(
    pen: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    text: str,
    colour: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """A label above its box's upper left corner, or inside where there is no room; never outside the picture."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height, gap = right - left + 8, bottom - top + 6, 2
    x = max(0.0, min(corner[0], pen.im.size[0] - width))
    y = corner[1] - height - gap if corner[1] - height - gap >= 0 else corner[1] + gap
    y = max(0.0, min(y, pen.im.size[1] - height))
    pen.rectangle((x, y, x + width, y + height), fill=DARK, outline=colour, width=1)
    pen.text((x + 4 - left, y + 3 - top), text, fill=LIGHT, font=font)


def _colour(label: str) -> tuple[int, int, int]:
    """A light colour of the label's own, the same in every run."""
    red, green, blue = colorsys.hsv_to_rgb(zlib.crc32(label.encode()) % 360 / 360, 0.55, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)
