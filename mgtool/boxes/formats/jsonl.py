"""mgtool's own box shards: one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from mgtool.boxes.formats.base import Entry, _entry
from mgtool.errors import RecordError
from mgtool.records import BoxRecord, parse


def _lines(file: IO[bytes], where: str) -> Iterator[Entry]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield _line(line, f"{where}:{number}")


def _line(line: bytes, where: str) -> Entry:
    try:
        return Entry(None, parse(line, BoxRecord, where=where))
    except RecordError:  # one by id, or one whose fault is told by field
        return _entry(parse(line, dict[str, Any], where=where), where)
