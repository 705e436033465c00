"""The identity of bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256; of a file's bytes it is a picture's identity everywhere in mgtool."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, however many."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
