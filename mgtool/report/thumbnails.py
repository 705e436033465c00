"""Thumbnails as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from PIL import Image

from mgtool.errors import ItemError
from mgtool.media.images import reduce

SIDES = ((100, 1024), (1000, 512))
"""Number of pictures -> pixels of the longer side; the fewer there are, the more of each has room in a page."""
SIDE, QUALITY, WORKERS = 256, 68, 4
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


def side_of(count: int) -> int:
    """Pixels of the longer side, for so many pictures in a page.

    >>> side_of(3), side_of(500), side_of(5000)
    (1024, 512, 256)
    """
    return next((side for most, side in SIDES if count <= most), SIDE)


def thumbnails(names: Iterable[str], read: ReadBytes, side: int) -> Iterator[Thumbnail]:
    """A thumbnail for each name, in order.

    Args:
        names: pictures.
        read: gives a picture's bytes, or None where there is none.
        side: pixels of the longer side.
    """
    wanted = list(names)
    with ThreadPoolExecutor(WORKERS) as pool:
        yield from pool.map(lambda name: thumbnail(read(name), side), wanted)


def thumbnail(data: bytes | None, side: int) -> Thumbnail:
    """A picture file's thumbnail, its longer side at most `side` pixels; `NO_PICTURE` where it cannot be read."""
    if data is None:
        return NO_PICTURE
    try:
        width, height, small = reduce(data, side)
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
