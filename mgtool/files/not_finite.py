"""JSON with NaN and infinite numbers, which Python's `json` and pandas write and no other reader takes."""

from __future__ import annotations

import json
import mmap
import re
from typing import TypeVar

from mgtool.errors import InputError, RecordError
from mgtool.records import convert, is_deep, parse

T = TypeVar("T")
_NO_NUMBERS = (b"NaN", b"Infinity")
_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_NO_NUMBER = rb"-?\b(?:NaN|Infinity)\b"
_OTHER = rb'[^"NI-]++|' + _TEXT + rb"|(?!" + _NO_NUMBER + rb")[NI-]"
_UP_TO_NO_NUMBER = re.compile(rb"((?:" + _OTHER + rb")*+)" + _NO_NUMBER, re.DOTALL)
MOST_MENDED = 1 << 28
"""Bytes of a file in which nulls are put for what is no number: it is in memory several times then."""


def with_nulls(data: bytes) -> bytes:
    """JSON as Python's `json` and pandas write it, null in place of what is no number; the same bytes without any.

    >>> with_nulls(b'[NaN, -Infinity, "NaN"]')
    b'[null, null, "NaN"]'
    """
    if not any(one in data for one in _NO_NUMBERS):
        return data
    kept, at = bytearray(), 0
    while found := _UP_TO_NO_NUMBER.match(data, at):
        kept += found[1] + b"null"
        at = found.end()
    return bytes(kept + data[at:]) if at else data


def mended(data: mmap.mmap | bytes, *, where: str) -> bytes | None:
    """A file's bytes with nulls as of `with_nulls`; None where there is nothing to be put right.

    Raises:
        InputError: the file is too large for that.
    """
    if all(data.find(one) < 0 for one in _NO_NUMBERS):
        return None
    if len(data) > MOST_MENDED:
        advice = f"over {MOST_MENDED:,} bytes, of which none may be; write null, or split the file"
        raise InputError(f"{where}: NaN or Infinity, which is not JSON, in a file of {len(data):,} bytes: {advice}")
    whole = data[:]
    return None if (finite := with_nulls(whole)) is whole else finite


def parse_with_nan(data: bytes, type: type[T], *, where: str) -> T:
    """As `parse`, NaN and infinite numbers being floats."""
    try:
        return parse(data, type, where=where)
    except RecordError:
        if not any(one in data for one in _NO_NUMBERS) or is_deep(data):
            raise
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where}: {error}") from error
    return convert(value, type, where=where)
