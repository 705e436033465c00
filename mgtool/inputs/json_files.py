"""JSON files as samples: lines, a list, COCO or one record; how they are told apart."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from typing import IO

import msgspec

from mgtool.errors import InputError
from mgtool.files import json_lists, lines
from mgtool.files.not_finite import mended
from mgtool.inputs import json_records, layouts
from mgtool.inputs.seen import Seen
from mgtool.media.reading import Find
from mgtool.records import TOO_DEEP, Item, decode, dumps

# COCO files are one line as a rule, and so look like JSON lines but for their first key.
COCO_START = re.compile(rb'[\xef\xbb\xbf\s]*\{\s*"(?:info|images|annotations|categories|licenses)"\s*:\s*[\[{]')


def is_json_line(head: bytes) -> bool:
    line = head.lstrip(b"\xef\xbb\xbf \t\r\n").partition(b"\n")[0]
    try:
        decode(line, msgspec.Raw)
    except msgspec.DecodeError:
        return len(line) >= (1 << 16) - 4 or b'"' in line[:80]
    return True


def lines_of_objects(head: bytes) -> list[bytes]:
    """Lines that begin as a JSON object does, where the first one, a heading or a broken record, does not."""
    return [line for line in head.splitlines()[1:] if line.startswith(b'{"')][:1]


def read_lines(
    file: IO[bytes], find: Find, seen: Seen, *, where: str, offset: int = 0, first: int = 1
) -> Iterator[Item]:
    """Items of the lines from one on that begins at an offset, where the file stands."""
    longest = lines.MOST_FIRST_BYTES if first == 1 else None
    for number, (line, size) in enumerate(lines.bounded(file, first=longest), first):
        seen.begins(where, offset, number)
        offset += size
        whole = json_records.coco_on_a_line(line) if number == 1 else None
        if number == 1:
            seen.take(where, "JSON lines" if whole is None else "COCO file")
        if whole is not None:
            yield from json_records.coco(whole, find, seen, where=where)
        elif line.strip():
            yield from json_records.of_line(line, f"line {number}", find, seen, where=f"{where}:{number}")


def read_list(
    file: IO[bytes], find: Find, seen: Seen, *, where: str, offset: int = 0, first: int = 1
) -> Iterator[Item]:
    """Items of the records from one on that begins at an offset, where the file stands; of all where that is 0."""
    number = first - 1

    def begins(offset: int) -> None:
        seen.begins(where, offset, number + 1)

    for number, element in enumerate(json_lists.elements(file, where=where, offset=offset, begins=begins), first):
        yield from json_records.of_line(element, f"record {number}", find, seen, where=f"{where}: record {number}")


def read_object(file: IO[bytes], find: Find, seen: Seen, *, where: str) -> Iterator[Item]:
    """A COCO file, or another JSON object over several lines."""
    try:
        whole = _members(_mapped(file), where)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not valid JSON: {error}") from error
    is_record = any(key in whole for key in layouts.TURN_KEYS)
    seen.take(where, "JSON object" if is_record else "COCO file")
    if is_record:
        yield from json_records.of_line(dumps(whole), "record 1", find, seen, where=where)
    else:
        yield from json_records.coco(whole, find, seen, where=where)


def _members(data: mmap.mmap | bytes, where: str) -> dict[str, msgspec.Raw]:
    """Those of a JSON object; what is nested too deeply is left to its record."""
    try:
        return decode(data, dict[str, msgspec.Raw])
    except msgspec.DecodeError as error:
        finite = mended(data, where=where)
        if str(error) != TOO_DEEP:
            if finite is None:
                raise
            return decode(finite, dict[str, msgspec.Raw])
    return decode(json_lists.pruned(finite or data[:]), dict[str, msgspec.Raw])


def _mapped(file: IO[bytes]) -> bytes | mmap.mmap:
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        return file.read()
