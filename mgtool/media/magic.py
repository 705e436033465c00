"""What a file is by its first bytes, whatever it is called."""

from __future__ import annotations

import re

HEAD_BYTES = 64
"""As many bytes are looked at."""

_PICTURE = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|II\*\0|MM\0\*"
    rb"|BM.{4}\0\0\0\0.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"
    rb"|P[1-6][ \t\r\n]+[#\d]|\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    re.DOTALL,
)
_HEIF = re.compile(rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL)
_AVIF = re.compile(rb"....ftyp.{4,48}?avi[fs]", re.DOTALL)


_ENDINGS = {
    b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"GIF8": "gif", b"RIFF": "webp",
    b"II*\0": "tif", b"MM\0*": "tif", b"BM": "bmp",
}  # fmt: skip


_ARCHIVES = {b"PK\x03\x04": "zip", b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!": "RAR", b"\x1f\x8b": "gzip"}


def archive(head: bytes) -> str:
    """What packs the file that begins with these bytes; empty for none that is known.

    >>> archive(b"PK\\3\\4..."), archive(b"{}")
    ('zip', '')
    """
    return next((name for start, name in _ARCHIVES.items() if head.startswith(start)), "")


def ending(head: bytes) -> str:
    """What a picture file that begins with these bytes is called, ``img`` where that is not known.

    >>> ending(b"GIF89a"), ending(b"P6 1 1")
    ('gif', 'img')
    """
    return next((name for start, name in _ENDINGS.items() if head.startswith(start)), "img")


def is_heif(head: bytes) -> bool:
    """Whether a file that begins with these bytes is of HEIC's family and not AVIF."""
    return _HEIF.match(head) is not None and _AVIF.match(head[:HEAD_BYTES]) is None


def is_avif(head: bytes) -> bool:
    """Whether a file that begins with these bytes is an AVIF one."""
    return _AVIF.match(head[:HEAD_BYTES]) is not None


def is_picture(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a picture of a format that is read, or a HEIC one."""
    return bool(_PICTURE.match(head) or _HEIF.match(head) or _AVIF.match(head[:HEAD_BYTES]))
