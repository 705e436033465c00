"""The identity of bytes."""

from __future__ import annotations

import hashlib


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256 of a picture's bytes: its identity everywhere in mgtool."""
    return hashlib.sha256(data).hexdigest()
