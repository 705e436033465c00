"""JSON lists of any length, element by element: memory holds about one element.

By hand: ijson's yajl is as fast, but ends the whole list at the first NaN, 1e999 or integer of more than 64 bits, which
here cost one record; its reader in Python needs six times as long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import IO

import msgspec

from mgtool.errors import InputError
from mgtool.files import lines
from mgtool.records import MAX_DEPTH, decode

_CHUNK = 1 << 20
BLANK = b" \t\r\n"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT = rb'(?:[^"{}\[\]]*+' + _TEXT + rb')*+[^"{}\[\]]*+'
_SHALLOW = _FLAT + rb"(?:[{\[]" + _FLAT + rb"[}\]]" + _FLAT + rb")*+"
_TOKEN = re.compile(_FLAT + rb"([{\[]" + _SHALLOW + rb"[}\]]|[{}\[\]])", re.DOTALL)
"""What holds no bracket, then an object or list in which others hold none, or a bracket."""

_BRACKET = re.compile(_TEXT + rb"|[{}\[\]]", re.DOTALL)
_OPENING, _CLOSED = (b"{", b"["), (b"}", b"]")
_KEPT_DEPTH = 2 * MAX_DEPTH

_CLOSING = frozenset(b"}]")


def elements(
    file: IO[bytes], *, where: str, offset: int = 0, begins: Callable[[int], None] = lambda offset: None
) -> Iterator[bytes]:
    """The elements of a JSON list, undecoded; objects and lists among them are bounded, not checked.

    Args:
        file: a list from its first byte on, or from an element on.
        where: the file's name in errors.
        offset: of that element; 0 for the whole list.
        begins: told where an object or list begins, before it is given.

    Raises:
        InputError: no list, one that is cut off or followed by something else, or a value in it that is too long.
    """
    head, before = file.read(_CHUNK), b"["
    buffer = head if offset else _opened(head, where)
    offset += len(head) - len(buffer)
    while True:
        begin, depth, at, end = 0, 0, 0, 0
        while token := _TOKEN.match(buffer, end):
            start, end = token.span(1)
            is_closing = buffer[start] in _CLOSING
            if is_closing and not depth:
                rest = buffer[begin:start]
                if before == b"[0" and rest.strip(BLANK) == b",":
                    rest = b""  # a comma behind the last element, which hand-written lists have
                yield from _between(before, rest, b"]", where)
                _refuse_more(buffer[end:], file, where)
                return
            at = at if depth else start
            depth += -1 if is_closing else end - start == 1
            if not depth:
                yield from _between(before, buffer[begin:at], b"0]", where)
                begins(offset + at)
                yield buffer[at:end]
                begin, before = end, b"[0"
        buffer, offset = buffer[begin:] + _more(file, len(buffer) - begin, where), offset + begin


def _opened(head: bytes, where: str) -> bytes:
    """What stands behind the bracket with which a list begins."""
    begun = head.removeprefix(BYTE_ORDER_MARK).lstrip(BLANK)
    if not begun.startswith(b"["):
        raise InputError(f"{where}: not valid JSON: no list")
    return begun[1:]


def bounds(buffer: bytes, most: int = 0) -> tuple[int, int | None]:
    """Where the last whole element in the rest of a list or object ends, and where the rest does, which has no end yet.

    Args:
        buffer: from an element on; those that are neither objects nor lists are not told apart.
        most: elements to look at; all where it is 0.

    >>> bounds(b'{"a": 1}, {"a": [2]}, {"a"'), bounds(b'{"a": 1}]}')
    ((20, None), (8, 8))
    """
    depth, end, last = 0, 0, 0
    while token := _TOKEN.match(buffer, end):
        start, end = token.span(1)
        is_closing = buffer[start] in _CLOSING
        if is_closing and not depth:
            return last, start
        depth += -1 if is_closing else end - start == 1
        if not depth:
            last, most = end, most - 1
            if not most:
                break
    return last, None


def _more(file: IO[bytes], length: int, where: str) -> bytes:
    """What follows an element's first bytes, of this length, so that a long one is looked at a few times only."""
    if length > lines.MOST_BYTES:
        raise InputError(f"{where}: a value of more than {lines.MOST_BYTES:,} bytes in the list")
    if not (more := file.read(max(_CHUNK, length))):
        raise InputError(f"{where}: not valid JSON: the list has no end")
    return more


def pruned(data: bytes) -> bytes:
    """JSON in which nulls stand for what is nested so deeply that the whole could not be decoded.

    What is left is still deeper than `records.MAX_DEPTH` there, so that no reader takes it for what was written.
    """
    kept, begin, depth = list[bytes](), 0, 0
    for token in _BRACKET.finditer(data):
        if token[0] in _OPENING:
            depth += 1
            if depth == _KEPT_DEPTH:
                kept.append(data[begin : token.start()])
        elif token[0] in _CLOSED:
            if depth == _KEPT_DEPTH:
                kept.append(b"null")
                begin = token.end()
            depth -= 1
    return b"".join((*kept, data[begin:])) if depth == 0 else data


def _between(before: bytes, text: bytes, after: bytes, where: str) -> Iterator[bytes]:
    """Numbers, texts and the like between two objects or lists, for which zeros stand in."""
    if before == b"[0" and after == b"0]" and text.strip(BLANK) == b",":
        return
    try:
        found = decode(before + text + after, list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not valid JSON: {error}") from error
    yield from map(bytes, found[len(before) - 1 : len(found) - len(after) + 1])


def _refuse_more(rest: bytes, file: IO[bytes], where: str) -> None:
    while rest:
        if rest.strip(BLANK):
            raise InputError(f"{where}: not valid JSON: something stands behind the list")
        rest = file.read(_CHUNK)
