"""Safe, whole decoding of pictures: every byte or a reason, never grey pixels, never a bomb."""

from __future__ import annotations

import contextlib
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias, TypeVar, overload

from PIL import Image

from mgtool.errors import ItemError
from mgtool.media.limits import MAX_PIXELS as MAX_PIXELS
from mgtool.media.opening import (
    DECODER_ERRORS,
    MOST_BYTES_A_PIXEL,
    decoding_bytes,
    opened,
    refuse_slow,
    short,
    why,
)

T = TypeVar("T")

_JPEG_FAMILY = {"MPO": "JPEG"}
"""Names of formats that every JPEG reader opens: cameras' files of several pictures."""

_RGB_BYTES = 4
"""Of a pixel in memory."""

_LIKE_RGB = ("RGBA", "LA")
_BLOCK_PIXELS, _LARGE_PIXELS = 1 << 22, 1 << 25
"""From which on Pillow keeps a picture in several pieces of memory, and from which on it is better in one."""

_STRIPE_PIXELS = 1 << 20
"""Grey values that are brought to 8 bits at a time."""

_ORIENTATION = 0x0112
_EXIF_WITHIN = 1 << 18
"""Bytes of a JPEG file that its EXIF begins in."""

_MOST_PARTS = 1 << 18
"""Segments or chunks of a file that are walked."""
_JPEG_SCAN, _JPEG_HUFFMAN = 0xDA, 0xC4
_JPEG_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended and progressive: what every reader decodes."""

_Walk: TypeAlias = Callable[[bytes], "tuple[int, int, str] | None"]
"""Bytes of a file -> width, height and format where it is whole; None where anything is unusual."""


@overload
def probe(data: bytes) -> tuple[int, int]: ...
@overload
def probe(data: bytes, *, with_format: Literal[True]) -> tuple[int, int, str]: ...
def probe(data: bytes, *, with_format: bool = False) -> tuple[int, int] | tuple[int, int, str]:
    """Width and height in pixels from the header alone, as stored (EXIF orientation ignored).

    Args:
        data: the picture file's bytes.
        with_format: also give Pillow's name of the format, for instance ``"JPEG"``.

    Raises:
        ItemError: ``empty``, ``not_an_image`` or ``corrupt``.
    """
    with opened(data) as picture:
        if not with_format:
            return picture.size
        stored = picture.format or ""
        return (*picture.size, _JPEG_FAMILY.get(stored, stored))


def orientation(data: bytes) -> int:
    """How a picture's EXIF says that it is to be shown, 1 for as it is, to 8; mgtool's boxes are of stored pixels."""
    within = _before_scan(data) if data.startswith(b"\xff\xd8") else len(data)
    if all(data.find(mark, 0, within) < 0 for mark in (b"Exif\0", b"eXIf", b"EXIF")):
        return 1
    try:
        with opened(data) as picture:
            found = picture.getexif().get(_ORIENTATION, 1)
            return int(found) if found in range(2, 9) else 1
    except (ItemError, *DECODER_ERRORS):
        return 1


def _before_scan(data: bytes) -> int:
    """Bytes of a JPEG file in which its EXIF can begin: those before its first scan, if its segments are as usual."""
    at = 2
    try:
        while at < _EXIF_WITHIN and data[at] == 0xFF and data[at + 1] != _JPEG_SCAN:
            at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
        return min(at, _EXIF_WITHIN) if data[at] == 0xFF else _EXIF_WITHIN
    except (struct.error, IndexError):
        return _EXIF_WITHIN


def check(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int, str]:
    """Width, height and format of a picture file that is whole, mostly without decoding a pixel.

    JPEG segments up to the end-of-image marker, PNG chunks with their checksums up to the last one, and WebP's
    lengths are walked. A file in which anything is unusual, or of another format, is decoded instead.

    Args:
        data: the picture file's bytes.
        max_pixels: width times height above which the picture is refused.

    Raises:
        ItemError: as `decode`.
    """
    for start, walk in _WALKS.items():
        if data.startswith(start):
            found = _walked(walk, data)
            if found is not None:
                refuse_over(max_pixels, *found[:2])
                return found
    decode(data, max_pixels=max_pixels)
    return probe(data, with_format=True)


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the whole picture to 8-bit RGB, as stored (EXIF orientation ignored, first frame of several).

    16-bit and float grey values are scaled to 8 bits instead of clipped; transparency is dropped, as the
    published data pipeline does.

    Args:
        data: the picture file's bytes.
        max_pixels: width times height above which the picture is refused before it is decoded.

    Raises:
        ItemError: ``empty``, ``not_an_image``, ``too_many_pixels``, ``truncated`` or ``corrupt``.
    """
    return look(data, lambda picture: picture, max_pixels=max_pixels)


def look(data: bytes, use: Callable[[Image.Image], T], *, max_pixels: int = MAX_PIXELS) -> T:
    """What a function makes of a picture as `decode` gives it, while no other thread decodes more than memory is for.

    Args:
        data: the picture file's bytes.
        use: the function.
        max_pixels: as of `decode`, as are the errors.
    """
    with opened(data) as picture:
        needed = _needed(picture, data, max_pixels)
        with _turns.of(needed), _blocks.whole(picture):
            with _explained():
                whole = _to_rgb(picture)
            return use(whole)


def reduce(data: bytes, side: int) -> tuple[int, int, Image.Image]:
    """Width and height of a picture, and a copy in 8-bit RGB with its longer side at most `side`; errors as `decode`.

    A JPEG is decoded at a fraction of its size straight away, which is several times faster.
    """
    with opened(data) as picture:
        width, height = picture.size
        needed = _needed(picture, data, MAX_PIXELS)
        with _turns.of(needed), _blocks.whole(picture), _explained():
            if picture.format == "JPEG" and picture.mode == "RGB":
                picture.draft("RGB", (2 * side, 2 * side))
            small = _to_rgb(picture)
            small.thumbnail((side, side))
            return width, height, small


def _needed(picture: Image.Image, data: bytes, max_pixels: int) -> int:
    """Bytes that decoding an opened picture takes; one with too many pixels, or that needs too much, fails."""
    refuse_over(max_pixels, *picture.size)
    needed, most = decoding_bytes(picture, data), MOST_BYTES_A_PIXEL * max_pixels
    if len(data) + needed > most:
        what = f"{picture.width} x {picture.height} as {picture.format} take {len(data) + needed:,} bytes to decode"
        raise ItemError("too_many_pixels", f"{what}, over the {most:,} that {max_pixels:,} pixels may take")
    refuse_slow(picture, data)
    return needed


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """What decoders raise as an `ItemError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DECODER_ERRORS as error:
        raise ItemError(why(error), short(error)) from error


class _Turns:
    """Lets this process's threads decode what `MAX_PIXELS` take together at most, or one picture alone."""

    def __init__(self) -> None:
        self._free, self._decoding = threading.Condition(), 0

    @contextlib.contextmanager
    def of(self, needed: int) -> Iterator[None]:
        """Wait for the turn of a picture that takes so many bytes."""
        pixels = needed // _RGB_BYTES
        with self._free:
            self._free.wait_for(lambda: not self._decoding or self._decoding + pixels <= MAX_PIXELS)
            self._decoding += pixels
        try:
            yield
        finally:
            with self._free:
                self._decoding -= pixels
                self._free.notify_all()


_turns = _Turns()


def refuse_over(max_pixels: int, width: int, height: int) -> None:
    """Refuse a picture or video of more pixels.

    Raises:
        ItemError: ``too_many_pixels``.
    """
    if width * height > max_pixels:
        raise ItemError("too_many_pixels", f"{width} x {height} is over the limit of {max_pixels:,} pixels")


def _walked(walk: _Walk, data: bytes) -> tuple[int, int, str] | None:
    try:
        found = walk(data)
    except (struct.error, IndexError):
        return None
    return found if found is not None and found[0] and found[1] else None


def _walk_jpeg(data: bytes) -> tuple[int, int, str] | None:
    """Segments up to the first scan, then the end-of-image marker, which no compressed data can hold."""
    at, width, height = 2, 0, 0
    for _ in range(_MOST_PARTS):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == _JPEG_SCAN:
            return (width, height, "JPEG") if data.rfind(b"\xff\xd9", at) > 0 else None
        if marker in _JPEG_FRAMES:
            precision, height, width = struct.unpack_from(">BHH", data, at + 4)
            if precision != 8:
                return None
        elif not (0xDB <= marker <= 0xFE or marker == _JPEG_HUFFMAN):
            return None
        at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    return None


def _walk_png(data: bytes) -> tuple[int, int, str] | None:
    at, view = 8, memoryview(data)
    for _ in range(_MOST_PARTS):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if struct.unpack_from(">I", data, end)[0] != zlib.crc32(view[at + 4 : end]):
            return None
        if kind == b"IEND":
            width, height = struct.unpack_from(">II", data, 16)
            return width, height, "PNG"
        at = end + 4
    return None


def _walk_webp(data: bytes) -> tuple[int, int, str] | None:
    length, kind, chunk = struct.unpack_from("<I4s4s", data, 4)
    if kind != b"WEBP" or len(data) < length + 8 or length + 8 < 20 + int(struct.unpack_from("<I", data, 16)[0]):
        return None
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF, "WEBP"
    if chunk == b"VP8L" and data[20] == 0x2F:
        bits = int(struct.unpack_from("<I", data, 21)[0])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, "WEBP"
    return None


_WALKS: dict[bytes, _Walk] = {b"\xff\xd8\xff": _walk_jpeg, b"\x89PNG\r\n\x1a\n": _walk_png, b"RIFF": _walk_webp}


def _to_rgb(picture: Image.Image) -> Image.Image:
    """The whole picture; what it was decoded to is let go."""
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        grey = _grey8(picture)
        picture.close()
        return grey.convert("RGB")
    picture.load()
    if picture.mode == "RGB":
        return picture._new(picture.im)  # as a copy, without one
    return _relabelled(picture) if picture.mode in _LIKE_RGB else picture.convert("RGB")


class _Blocks:
    """Has large pictures lie in one piece of memory: `_relabelled` wants that, and the system gets it back at once."""

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0

    @contextlib.contextmanager
    def whole(self, picture: Image.Image) -> Iterator[None]:
        """Within the block, a picture and what is made of it, if it is a large one."""
        pixels = picture.width * picture.height
        if pixels <= (_BLOCK_PIXELS if picture.mode in _LIKE_RGB else _LARGE_PIXELS):
            yield
            return
        self._use(1)
        try:
            yield
        finally:
            self._use(-1)

    def _use(self, count: int) -> None:
        with self._lock:
            self._users += count
            Image.core.set_use_block_allocator(int(self._users > 0))  # type: ignore[attr-defined]


_blocks = _Blocks()


def _relabelled(picture: Image.Image) -> Image.Image:
    """As `convert` gives it, of the same memory: Pillow keeps grey and colours with alpha as it keeps RGB."""
    picture.putalpha(255)  # what stands behind each pixel of RGB
    try:
        same = Image.fromarrow(picture, "RGB", picture.size)
    except ValueError:  # in several pieces
        return picture.convert("RGB")
    same.info = picture.info.copy()
    return same


def _grey8(picture: Image.Image) -> Image.Image:
    """Bring grey values to 0..255: 16-bit integers by their full range, floats of 0..1 by theirs.

    In stripes, as numbers of 64 bits of the whole picture would take eight times the memory of the result.
    """
    import numpy as np

    picture.load()
    mode, (width, height), peak = picture.mode, picture.size, 65535.0
    if not mode.startswith("I;16"):
        extrema: Any = picture.getextrema()
        highest = max(extrema[1], 0.0)
        peak = 1.0 if mode == "F" and highest <= 1.0 else 65535.0 if highest > 255 else 255.0
    grey = Image.new("L", picture.size)
    rows = max(1, _STRIPE_PIXELS // width)
    for top in range(0, height, rows):
        stripe = picture.crop((0, top, width, min(top + rows, height)))
        values = np.asarray(stripe, dtype=np.float64) * (255.0 / peak)
        grey.paste(Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)), (0, top))
    return grey
