"""JSON with NaN and infinite numbers, which Python's `json` and pandas write and no other reader takes."""

from __future__ import annotations

import json
import re
from typing import TypeVar

from mgtool.errors import RecordError
from mgtool.records import convert, is_deep, parse

T = TypeVar("T")
_NO_NUMBERS = (b"NaN", b"Infinity")
_TEXT_OR_NO_NUMBER = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"' + rb"|-?\b(?:NaN|Infinity)\b", re.DOTALL)


def with_nulls(data: bytes) -> bytes:
    """JSON as Python's `json` and pandas write it, null in place of what is no number; the same bytes without any.

    >>> with_nulls(b'[NaN, -Infinity, "NaN"]')
    b'[null, null, "NaN"]'
    """
    if not any(one in data for one in _NO_NUMBERS):
        return data
    return _TEXT_OR_NO_NUMBER.sub(lambda found: found[0] if found[0].startswith(b'"') else b"null", data)


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
