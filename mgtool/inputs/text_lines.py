"""Lines of a text, with the byte at which each begins: rows of tables are found again by it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import IO

OpenFile = Callable[[], IO[bytes]]
"""Opens a file anew, at its beginning."""


class TextLines:
    """The lines of a file as csv reads them; bytes that are no UTF-8 are surrogates.

    Args:
        file: from its beginning on; it is closed with the lines.

    Attributes:
        offset: of the next line, in bytes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
        self.offset = 0

    def __enter__(self) -> TextLines:
        return self

    def __exit__(self, *raised: object) -> None:
        self._text.close()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line, is_first = next(self._text), not self.offset
        self.offset += len(line) if line.isascii() else len(line.encode("utf-8", "surrogateescape"))
        return line.removeprefix("\ufeff") if is_first else line

    def seek(self, offset: int) -> None:
        """Go on at a line that begins there."""
        self._text.seek(offset)
        self.offset = offset
