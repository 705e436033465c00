"""Long lists and objects in JSON files, decoded some thousand elements at a time, as fast as all at once.

Where one element ends and the next begins is guessed from how the first two meet: only a right guess can be decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, TypeVar

import msgspec

from mgtool.files.json_lists import BLANK, BYTE_ORDER_MARK, bounds
from mgtool.records import decode

T = TypeVar("T")
CHUNK = 1 << 18
_MEMBER = re.compile(rb'\s*(,?)\s*("[^"\\]*+(?:\\.[^"\\]*+)*+")\s*:\s*', re.DOTALL)
_VALUE = re.compile(rb'(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"|[^"{}\[\],]*+)*+', re.DOTALL)
_MEETING = re.compile(rb'(\s*,\s*)("[^"\\]*+"\s*:\s*)?([{\[]\s*(?:"[^"\\]*+"\s*:)?)', re.DOTALL)
_CLOSING = {b"[": b"]", b"{": b"}"}
_TAIL = 1 << 16
"""Bytes at the end of a chunk in which the last elements are looked for first."""


class OddJsonError(Exception):
    """Not as this reader takes it, be it JSON or not."""


class Member(NamedTuple):
    """A member of an object, or the whole of a file.

    Attributes:
        name: its name.
        source: what comes next is its value.
    """

    name: str
    source: Source

    def listed(self, type: type[T]) -> Iterator[T]:
        """The elements of a list.

        Raises:
            OddJsonError: for another value, or one that cannot be decoded.
        """
        return self.source.listed(type)


class Source:
    """A file that is read in chunks.

    Args:
        file: from its first byte on.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._buffer = file.read(CHUNK).removeprefix(BYTE_ORDER_MARK)
        self._is_begun, self._is_owed = False, False

    def _more(self) -> bool:
        added = self._file.read(max(CHUNK, len(self._buffer)))
        self._buffer += added
        return bool(added)

    def _fill(self) -> None:
        while len(self._buffer) < CHUNK and self._more():
            pass

    def begin(self) -> bytes:
        """The first sign of what comes next, which is taken away where it opens a list or an object."""
        self._fill()
        self._is_begun = True
        self._buffer = self._buffer.lstrip(BLANK)
        sign = self._buffer[:1]
        if sign in _CLOSING:
            self._buffer = self._buffer[1:]
        return sign

    def members(self) -> Iterator[Member]:
        """The members of an object that is the whole of the file; one that is not read is passed over.

        Raises:
            OddJsonError: for anything else.
        """
        if self.begin() != b"{":
            raise OddJsonError
        comma = b""
        while found := _MEMBER.match(self._buffer):
            if found[1] != comma:
                raise OddJsonError
            self._buffer = self._buffer[found.end() :]
            self._is_begun = False
            yield Member(_whole(b"[", found[2], list[str])[0], self)
            if not self._is_begun:
                self._pass()
            comma = b","
            self._fill()
        if not self._buffer.lstrip(BLANK).startswith(b"}"):
            raise OddJsonError
        self._buffer = self._buffer.lstrip(BLANK)[1:]
        self.end()

    def listed(self, type: type[T]) -> Iterator[T]:
        """The elements of a list.

        Raises:
            OddJsonError: for another value, or one that cannot be decoded.
        """
        if self.begin() != b"[":
            raise OddJsonError
        of: Any = type
        for block in self.blocks(b"[", list[of]):
            yield from block

    def named(self, type: type[T]) -> Iterator[tuple[str, T]]:
        """The members of an object with their names.

        Raises:
            OddJsonError: for another value, or one that cannot be decoded.
        """
        if self.begin() != b"{":
            raise OddJsonError
        of: Any = type
        for block in self.blocks(b"{", dict[str, of]):
            yield from block.items()

    def end(self) -> None:
        """Make sure that nothing is left.

        Raises:
            OddJsonError: where something is.
        """
        while self._buffer or self._more():
            if self._buffer.strip(BLANK):
                raise OddJsonError
            self._buffer = b""

    def _pass(self) -> None:
        opening = self.begin()
        if opening in _CLOSING:
            for _ in self.blocks(opening, list[msgspec.Raw] if opening == b"[" else dict[str, msgspec.Raw]):
                pass
            return
        value = _VALUE.match(self._buffer)
        if value is None or value.end() == len(self._buffer) or not value[0].strip(BLANK):
            raise OddJsonError
        _whole(b"[", value[0], list[msgspec.Raw])
        self._buffer = self._buffer[value.end() :]

    def blocks(self, opening: bytes, whole: type[T]) -> Iterator[T]:
        """What stands between two brackets, the first of which was taken away, in parts of a type.

        Raises:
            OddJsonError: where a part cannot be decoded.
        """
        meeting, self._is_owed = self._meeting(), False
        while True:
            self._fill()
            cut = _last(meeting, self._buffer)
            block = _decoded(opening, self._buffer[:cut], whole) if cut else None
            if block is None:
                cut, end = bounds(self._buffer)
                if end is not None:
                    yield self._ended(opening, end, whole)
                    return
                if not cut:
                    if not self._more():
                        raise OddJsonError
                    continue
                block = _whole(opening, self._buffer[:cut], whole)
            yield block
            self._cut(opening, cut)

    def _ended(self, opening: bytes, end: int, whole: type[T]) -> T:
        """The last part, which is empty only behind no comma."""
        text, closing = self._buffer[:end], self._buffer[end : end + 1]
        if closing != _CLOSING[opening] or (self._is_owed and not text.strip(BLANK)):
            raise OddJsonError
        self._buffer, self._is_owed = self._buffer[end + 1 :], False
        return _whole(opening, text, whole)

    def _cut(self, opening: bytes, cut: int) -> None:
        """Take away elements and the comma behind them."""
        while not (rest := self._buffer[cut:].lstrip(BLANK)):
            if not self._more():
                raise OddJsonError
        self._is_owed = rest.startswith(b",")
        if not self._is_owed and not rest.startswith(_CLOSING[opening]):
            raise OddJsonError
        self._buffer = rest.removeprefix(b",")

    def _meeting(self) -> re.Pattern[bytes] | None:
        """What stands where the first element ends and the second begins, whatever its name is; None where unknown."""
        self._fill()
        first, _ = bounds(self._buffer, most=1)
        found = _MEETING.match(self._buffer, first) if first else None
        if found is None:
            return None
        name = rb'"[^"\\]*+"\s*:\s*' if found[2] else b""
        closing = re.escape(self._buffer[first - 1 : first])
        return re.compile(closing + rb"(?=" + re.escape(found[1]) + name + re.escape(found[3]) + rb")")


def _last(meeting: re.Pattern[bytes] | None, buffer: bytes) -> int:
    """Where the last element before another ends; 0 where none is found."""
    if meeting is None:
        return 0
    for begin in (max(len(buffer) - _TAIL, 0), 0):
        cut = max((found.end() for found in meeting.finditer(buffer, begin)), default=0)
        if cut:
            return cut
    return 0


def _decoded(opening: bytes, text: bytes, whole: type[T]) -> T | None:
    try:
        return decode(opening + text + _CLOSING[opening], whole, strict=False)  # as `records.parse` does
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _whole(opening: bytes, text: bytes, whole: type[T]) -> T:
    found = _decoded(opening, text, whole)
    if found is None:
        raise OddJsonError
    return found
