"""Lines of files of strangers, which may be of any length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

MOST_BYTES = 1 << 28
"""Of a line that holds a record, perhaps with a picture."""
MOST_FIRST_BYTES = 1 << 29
"""Of a file's first line, which may be the whole of a COCO file."""


def bounded(file: IO[bytes], most: int = MOST_BYTES, *, first: int | None = None) -> Iterator[tuple[bytes, int]]:
    """The lines of a file with the bytes that each takes there.

    Of a longer line than `most` bytes, so many are given, which are no JSON any more; the rest is passed over.

    Args:
        file: where it stands.
        most: bytes of a line.
        first: of the first one; None for `most`.
    """
    room = most if first is None else first
    while line := file.readline(room):
        size, last = len(line), line
        while len(last) == room and not last.endswith(b"\n"):
            last = file.readline(room)
            size += len(last)
        yield line, size
        room = most
