"""Opening pictures of strangers: which decoders are tried, and how far a file may keep them."""

from __future__ import annotations

import importlib
import io
import math
import struct
import warnings
import zlib
from typing import Any, Literal

from PIL import Image, UnidentifiedImageError, features

from mgtool.errors import ItemError
from mgtool.media import magic

DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError,
    RuntimeError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What decoders raise at damaged bytes; what ends a program is not among it."""

MOST_BYTES_A_PIXEL = 8
"""Memory that a picture's decoding may take, for each pixel that the limit of pixels lets through."""

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF")
"""Names of Pillow's decoders that are tried; others run programs on what they are given."""

_HEADER_READS, _HEADER_BYTES, _READS = 1 << 16, 1 << 25, 1 << 21
"""Pieces and bytes that a header is read in, and pieces of all the rest: Pillow's loops over them are of Python."""

_TIFF_ORDERS, _TIFF_ENTRY = {b"II*\0": "<", b"MM\0*": ">"}, 12
_TIFF_KEPT = (1, 2, 7)
"""Types of entries that stay bytes: Photoshop keeps a file's layers in one."""

_IN_PYTHON = {"ppm": 6_000_000, "ppm_plain": 6_000_000, "bmp_rle": 1 << 24}
"""Decoders that are written in Python, and the values that they are given to do in some seconds."""
_MOST_COMMENTS = 100
"""In a PPM of digits; Pillow copies what stands behind each."""

_MOST_SCANNED = 1 << 34
"""Pixels times scans of a progressive JPEG; ten scans are usual, and one of nothing takes a few bytes."""
_SCAN = b"\xff\xda"

_BYTES = {"WEBP": 12, "AVIF": 12, "HEIF": 12}
"""Of a pixel in decoders that hold a picture several times."""
_CODESTREAM, _TILE = b"\xff\x4f\xff\x51", struct.Struct(">2I")
_TILE_BEHIND, _MOST_CODESTREAMS = 24, 100
_RESULT_BYTES = 4
_STORED_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
_IN_PLACE = ("RGB", "RGBA", "LA")
_ROWS_A_STRIP, _BITS, _SAMPLES, _TILE_HEIGHT = 278, 258, 277, 323


class _Pieces(io.BytesIO):
    """A file that ends a decoder which reads it in too many pieces."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads, self._bytes = _HEADER_READS, _HEADER_BYTES + _layer_bytes(data)

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file.

        Raises:
            OSError: after too many pieces.
        """
        self._reads -= 1
        self._bytes -= max(size or 0, 0)
        if self._reads < 0 or self._bytes < 0:
            raise OSError("its header is too long, or its parts are too many to be read")
        return super().read(size)

    def begin_pixels(self) -> None:
        """Count what comes behind the header."""
        self._reads, self._bytes = _READS, 1 << 62


def opened(data: bytes) -> Image.Image:
    """A picture whose header has been read.

    Raises:
        ItemError: ``empty``, ``not_an_image``, ``too_many_pixels``, ``truncated``, ``corrupt`` or ``unsupported``.
    """
    if not data:
        raise ItemError("empty", "0 bytes")
    file = _Pieces(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(file, formats=_formats_of(data))
    except UnidentifiedImageError as error:
        raise ItemError("not_an_image", f"no decoder knows these {len(data):,} bytes") from error
    except Image.DecompressionBombError as error:
        raise ItemError("too_many_pixels", short(error)) from error
    except DECODER_ERRORS as error:
        raise ItemError("corrupt", short(error)) from error
    file.begin_pixels()
    return picture


def decoding_bytes(picture: Image.Image, data: bytes) -> int:
    """About the most memory that bringing a picture to RGB takes at once, the result among it.

    Args:
        picture: as `opened` gives it.
        data: its file's bytes.
    """
    stored = _STORED_BYTES.get(picture.mode, 4)
    result = 0 if picture.mode in _IN_PLACE else _RESULT_BYTES
    each = stored + max(result, _decoder_bytes(picture, data))
    return math.ceil(each * picture.width * picture.height)


def refuse_slow(picture: Image.Image, data: bytes) -> None:
    """Refuse what decoders would be busy with for minutes.

    Args:
        picture: as `opened` gives it.
        data: its file's bytes.

    Raises:
        ItemError: ``unsupported`` or ``corrupt``.
    """
    size = picture.width * picture.height
    tiles: Any = getattr(picture, "tile", None)
    decoder = tiles[0][0] if tiles else ""
    values, most = size * len(picture.getbands()), _IN_PYTHON.get(decoder)
    if most is not None and values > most:
        raise ItemError("unsupported", f"{values:,} values in a slow form of {picture.format}; {most:,} are read")
    if decoder == "ppm_plain" and data.count(b"#") > _MOST_COMMENTS:
        raise ItemError("corrupt", f"more than {_MOST_COMMENTS} comments")
    if picture.info.get("progressive") and size * (scans := data.count(_SCAN)) > _MOST_SCANNED:
        raise ItemError("corrupt", f"{scans:,} scans, far more than a progressive JPEG of {size:,} pixels has")


def _layer_bytes(data: bytes) -> int:
    """Bytes of a TIFF's first directory that nothing is made of, each counted once."""
    if (order := _TIFF_ORDERS.get(data[:4])) is None:
        return 0
    try:
        (at,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, at)
        places = range(at + 2, at + 2 + count * _TIFF_ENTRY, _TIFF_ENTRY)
        entries = [struct.unpack_from(f"{order}HHI", data, place) for place in places]
    except struct.error:
        return 0
    return min(len(data), sum(int(size) for _, kind, size in entries if kind in _TIFF_KEPT))


def why(error: Exception) -> Literal["truncated", "corrupt", "too_many_pixels"]:
    """The reason that a decoder's error stands for."""
    if isinstance(error, Image.DecompressionBombError):
        return "too_many_pixels"
    text = str(error).lower()
    if isinstance(error, EOFError) or any(word in text for word in ("truncated", "incomplete", "premature", "end of")):
        return "truncated"
    return "corrupt"


def short(error: Exception) -> str:
    """An error's first line."""
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _decoder_bytes(picture: Image.Image, data: bytes) -> float:
    """Bytes a pixel that a decoder has of its own, beside what it gives."""
    tags: Any = getattr(picture, "tag_v2", {})
    if picture.format in ("JPEG", "MPO") and picture.info.get("progressive"):
        layers: Any = getattr(picture, "layer", ())
        most = max((h for _, h, *_ in layers), default=1) * max((v for _, _, v, *_ in layers), default=1)
        return float(sum(2 * h * v for _, h, v, *_ in layers) / max(1, most))  # coefficients of 16 bits
    if picture.format == "TIFF" and getattr(picture, "use_load_libtiff", False):
        bits = max(tags.get(_BITS, (1,)), default=1) * tags.get(_SAMPLES, 1)
        rows = tags.get(_TILE_HEIGHT) or tags.get(_ROWS_A_STRIP, picture.height)
        return float(bits / 8 * min(rows, picture.height) / picture.height)
    if picture.format == "JPEG2000":
        return 5 * len(picture.getbands()) * _largest_tile(picture, data)  # values of 32 bits, and of 8
    return _BYTES.get(picture.format or "", 0)


def _largest_tile(picture: Image.Image, data: bytes) -> float:
    """The part of a JPEG 2000 picture that is decoded at once, by whatever may be its header."""
    parts, at = [0.0], -1
    while (at := data.find(_CODESTREAM, at + 1)) >= 0 and len(parts) < _MOST_CODESTREAMS:
        tile = data[at + _TILE_BEHIND : at + _TILE_BEHIND + _TILE.size]
        parts.append(math.prod(_TILE.unpack(tile)) / (picture.width * picture.height) if len(tile) == _TILE.size else 1)
    return min(1.0, max(parts)) if 1 < len(parts) < _MOST_CODESTREAMS else 1.0


def _formats_of(data: bytes) -> tuple[str, ...]:
    """Decoders to try; those of HEIC and AVIF are Pillow's own, or else plugins where they are installed."""
    if magic.is_heif(data):
        _plugin("a HEIC picture", "pillow-heif").register_heif_opener()
        return ("HEIF",)
    if magic.is_avif(data) and not features.check("avif"):
        _plugin("an AVIF picture", "pillow-avif-plugin")
    return _FORMATS


def _plugin(what: str, package: str) -> Any:
    try:
        return importlib.import_module(package.removesuffix("-plugin").replace("-", "_"))
    except ModuleNotFoundError as error:
        raise ItemError("unsupported", f"{what}; `pip install {package}` lets it be read") from error
