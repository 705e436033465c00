"""Thumbnails as data URIs."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from PIL import Image

from mgtool.errors import ItemError
from mgtool.media.images import MAX_PIXELS, decode

FEW, FEW_SIDE, SIDE, QUALITY, WORKERS = 300, 512, 256, 68, 4
ReadBytes = Callable[[str], bytes | None]


class Thumbnail(NamedTuple):
    """A small copy of a picture.

    Attributes:
        uri: ``data:image/webp;base64,...``; empty where the picture could not be read.
        width: of the original, pixels.
        height: of the original, pixels.
    """

    uri: str
    width: int
    height: int


NO_PICTURE = Thumbnail("", 0, 0)


def thumbnails(names: Iterable[str], read: ReadBytes) -> Iterator[Thumbnail]:
    """A thumbnail for each name, in order; larger ones when there are few.

    Args:
        names: pictures.
        read: gives a picture's bytes, or None where there is none.
    """
    wanted = list(names)
    side = FEW_SIDE if len(wanted) <= FEW else SIDE
    with ThreadPoolExecutor(WORKERS) as pool:
        yield from pool.map(lambda name: thumbnail(read(name), side), wanted)


def thumbnail(data: bytes | None, side: int) -> Thumbnail:
    """A picture file's thumbnail, its longer side at most `side` pixels; `NO_PICTURE` where it cannot be read."""
    if data is None:
        return NO_PICTURE
    try:
        width, height, small = _reduced(data, side)
    except ItemError:
        return NO_PICTURE
    return _encoded(small, width, height)


def reduced(picture: Image.Image, side: int) -> Thumbnail:
    """A decoded picture's thumbnail."""
    small = picture.copy()
    small.thumbnail((side, side))
    return _encoded(small, *picture.size)


def _encoded(small: Image.Image, width: int, height: int) -> Thumbnail:
    out = io.BytesIO()
    small.save(out, "WEBP", quality=QUALITY, method=2)
    return Thumbnail("data:image/webp;base64," + base64.b64encode(out.getvalue()).decode(), width, height)


def _reduced(data: bytes, side: int) -> tuple[int, int, Image.Image]:
    """Original width and height, and the picture with its longer side at most `side`.

    A JPEG is decoded at a fraction of its size straight away, which is several times faster.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture: Image.Image = Image.open(io.BytesIO(data))
            width, height = picture.size
            if picture.format != "JPEG" or picture.mode != "RGB" or width * height > MAX_PIXELS:
                picture = decode(data)
            else:
                picture.draft("RGB", (2 * side, 2 * side))
            picture.thumbnail((side, side))
            return width, height, picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise ItemError("corrupt", str(error)) from error
