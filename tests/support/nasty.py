"""A folder with every kind of picture that people have and that programs stumble over."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def make(folder: Path) -> dict[str, str | None]:
    """Fill a folder; gives for each name the reason of its failure, or None where it is a good picture."""
    folder.mkdir(parents=True, exist_ok=True)
    good, bad = _good(), _bad()
    for name, data in {**good, **{name: data for name, (data, _) in bad.items()}}.items():
        (folder / name).write_bytes(data)
    return {**dict.fromkeys(good), **{name: reason for name, (_, reason) in bad.items()}}


def photo(seed: int = 0, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A picture with noise and shapes, so that it compresses to something real."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    noise[size[1] // 4 : size[1] // 2] = (200, 30, 60)
    return Image.fromarray(noise)


def encode(picture: Image.Image, format: str, **options: object) -> bytes:
    """A picture's file."""
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def _good() -> dict[str, bytes]:
    grey16 = Image.fromarray(np.linspace(0, 65535, 64 * 48).astype(np.uint16).reshape(48, 64))
    palette = photo(2).quantize(16)
    frames = [photo(seed).quantize(32) for seed in (3, 4, 5)]
    return {
        "photo.jpg": encode(photo(), "JPEG"),
        "one_pixel.png": encode(photo(size=(1, 1)), "PNG"),
        "sixteen_bit.png": encode(grey16, "PNG"),
        "cmyk.jpg": encode(photo(1).convert("CMYK"), "JPEG"),
        "palette.png": encode(palette, "PNG", transparency=0),
        "animated.gif": encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "grey.webp": encode(photo(6).convert("L"), "WEBP"),
        "actually_png.jpg": encode(photo(7), "PNG"),
    }


def _bad() -> dict[str, tuple[bytes, str]]:
    whole = encode(photo(8), "JPEG")
    png = encode(photo(9), "PNG")
    return {
        "truncated.jpg": (whole[: len(whole) // 2], "truncated"),
        "truncated.png": (png[: len(png) // 2], "truncated"),
        "text.jpg": (b"this is no picture\n" * 20, "not_an_image"),
        "empty.jpg": (b"", "empty"),
        "bomb.png": (bomb(30_000, 30_000), "too_many_pixels"),
    }


def bomb(width: int, height: int) -> bytes:
    """A small valid PNG that unpacks to `width` times `height` black 1-bit pixels."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with_data(width: int, height: int, data: bytes) -> bytes:
    """An RGB PNG whose chunks are whole, whatever its compressed data is."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
