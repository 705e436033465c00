"""mgtool's own box shards: one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from mgtool.boxes.formats.base import BoxEntry, BoxFile, BoxFormat
from mgtool.boxes.formats.entries import to_entry
from mgtool.errors import RecordError
from mgtool.files.lines import bounded
from mgtool.files.not_finite import parse_with_nan
from mgtool.files.shard_names import list_shards
from mgtool.records import BoxRecord, parse

ENDING = ".jsonl"
_MOST_BYTES = 1 << 26
"""Of a record: a million boxes."""


def read(file: BoxFile) -> Iterator[BoxEntry]:
    """A record a line; a file of another ending may be one record over several lines."""
    if file.ending != ENDING and file.members is not None:
        yield to_entry(dict(file.values()), str(file.path))
        return
    with file.path.open("rb") as lines:
        yield from read_lines(lines, str(file.path))


def read_lines(lines: IO[bytes], where: str) -> Iterator[BoxEntry]:
    """A record a line.

    Args:
        lines: empty ones are passed over.
        where: the file's name in errors.
    """
    for number, (line, _) in enumerate(bounded(lines, _MOST_BYTES), 1):
        if line.strip():
            yield _line(line, f"{where}:{number}")


def _line(line: bytes, where: str) -> BoxEntry:
    try:
        return BoxEntry(None, parse(line, BoxRecord, where=where))
    except RecordError:  # one by id, or one whose fault is told by field
        return to_entry(parse_with_nan(line, dict[str, Any], where=where), where)


def in_folder(folder: Path) -> list[Path]:
    """The shards; what failed lies beside them in a file of the same ending."""
    return list_shards(folder, "boxes", ENDING)


FORMAT = BoxFormat(ending=ENDING, in_folder=in_folder, read=read)
