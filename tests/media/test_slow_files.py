"""Files of pictures that would keep a decoder busy for minutes: a reason within moments."""

from __future__ import annotations

import contextlib
import io
import struct
import time
import zlib

import pytest
from PIL import Image, TiffImagePlugin

from mgtool.errors import ItemError
from mgtool.media import images, opening

MOST_S = 5.0
"""Of computing; each took more than ten, or would of a file that is a few times larger."""


def _saved(form: str, size: tuple[int, int] = (16, 16), mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 7).save(file, form, **options)
    return file.getvalue()


def _chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_of_chunks() -> bytes:
    whole = _saved("PNG")
    return whole[:33] + _chunk(b"teSt") * 500_000 + whole[33:]


def _png_of_pixels() -> bytes:
    whole = _saved("PNG", (8, 8))
    return whole[:33] + _chunk(b"IDAT") * 2_200_000 + whole[33:]


def _jpeg_of_segments() -> bytes:
    return b"\xff\xd8" + b"\xff\xef\0\2" * 500_000 + _saved("JPEG")[2:]


def _jpeg_of_exif() -> bytes:
    segment = b"\xff\xe1\xff\xffExif\0\0" + bytes(0xFFFF - 8)
    return b"\xff\xd8" + segment * 1000 + _saved("JPEG")[2:]


def _jpeg_of_scans() -> bytes:
    """A table of one code, for a run of 16,384 blocks or more without anything, and scans of such a run."""
    whole = _saved("JPEG", (1024, 1024), "L", progressive=True)
    table = b"\xff\xc4" + struct.pack(">HB", 20, 0x10) + bytes([1, *[0] * 15]) + b"\xe0"
    scan = b"\xff\xda" + struct.pack(">H", 8) + bytes([1, 1, 0, 1, 63, 0]) + b"\0\1"
    return whole[:-2] + table + scan * 200_000 + whole[-2:]


def _gif_of_comments() -> bytes:
    whole = _saved("GIF")
    return whole[:13] + b"!\xfe" + b"\1x" * 500_000 + b"\0" + whole[13:]


SLOW = {
    "chunks before the pixels": (_png_of_chunks, "corrupt"),
    "chunks of pixels": (_png_of_pixels, "corrupt"),
    "segments": (_jpeg_of_segments, "corrupt"),
    "EXIF in a thousand parts": (_jpeg_of_exif, "corrupt"),
    "scans": (_jpeg_of_scans, "corrupt"),
    "a comment in parts": (_gif_of_comments, "corrupt"),
    "a long comment in a header": (lambda: b"P6\n#" + b" " * 5_000_000 + b"\n1 1 255\n\1\2\3", "corrupt"),
    "comments between digits": (lambda: b"P3\n2 2 255\n" + b"#\n" * 300_000 + b"1 " * 12, "corrupt"),
    "digits": (lambda: b"P3\n2000 2000 255\n" + b"7 " * 12_000_000, "unsupported"),
    "values of other sizes": (lambda: b"P6\n2000 2000 1000\n" + b"\0\7" * 12_000_000, "unsupported"),
}


@pytest.mark.parametrize("what", SLOW)
def test_a_reason_in_time(what: str) -> None:
    make, reason = SLOW[what]
    data = make()
    images.orientation(data)
    for read in (images.decode, lambda data: images.reduce(data, 16)):
        began = time.process_time()
        with pytest.raises(ItemError) as error:
            read(data)
        assert error.value.reason == reason
        assert time.process_time() - began < MOST_S
    began = time.process_time()
    with contextlib.suppress(ItemError):  # where a walk from part to part finds it whole
        images.check(data)
    assert time.process_time() - began < MOST_S


@pytest.mark.parametrize(
    "data", [b"P3\n1024 768 255\n" + b"7 " * 2_359_296, b"P6\n1024 768 1000\n" + b"\0\7" * 2_359_296]
)
def test_slow_forms_as_large_as_a_screen_are_read(data: bytes) -> None:
    assert images.decode(data).size == (1024, 768)


def test_runs_of_a_bitmap_of_many_pixels() -> None:
    header = struct.pack("<2sIHHI", b"BM", 0, 0, 0, 1078)
    header += struct.pack("<IiiHHIIiiII", 40, 5000, 5000, 1, 8, 1, 0, 1, 1, 256, 0) + bytes(1024)
    with pytest.raises(ItemError, match="unsupported"):
        images.decode(header + b"\1\7" * 10_000)


@pytest.mark.parametrize("form", ["P1", "P2", "P3"])
def test_small_ones_are_read(form: str) -> None:
    values = "1 0 1 1 0 1" if form == "P1" else "0 50 100\n# no value\n150 200 250\n" * (3 if form == "P3" else 1)
    head = "3 2" if form == "P1" else "3 2 255"
    assert images.decode(f"{form}\n{head}\n{values}\n".encode()).size == (3, 2)


def test_a_file_may_be_of_layers_for_the_most_part() -> None:
    layers = TiffImagePlugin.ImageFileDirectory_v2()
    layers[37724], layers.tagtype[37724] = bytes(40 << 20), 7  # as Photoshop keeps them
    assert images.decode(_saved("TIFF", tiffinfo=layers)).getpixel((0, 0)) == (7, 0, 0)


def test_usual_files_are_read_in_few_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_HEADER_READS", 200)
    monkeypatch.setattr(opening, "_READS", 2000)
    for form in ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF"):
        assert images.decode(_saved(form, (640, 480))).size == (640, 480)
    assert images.decode(_saved("JPEG", (640, 480), progressive=True)).size == (640, 480)
