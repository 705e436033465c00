"""Bytes that are read of a file, by each opening."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from mgtool.files import regular


def counted(patch: pytest.MonkeyPatch, path: Path) -> list[int]:
    """One number for each opening from now on."""
    counts: list[int] = []

    class Counting(io.FileIO):
        def readinto(self, buffer) -> int:
            count = super().readinto(buffer)
            counts[-1] += count
            return count

    plain = regular.open_regular

    def opened(given: str | os.PathLike[str]) -> io.FileIO:
        if Path(given) != path:
            return plain(given)
        counts.append(0)
        return Counting(given)

    patch.setattr(regular, "open_regular", opened)
    return counts
