"""The rows of tables as samples."""

from __future__ import annotations

import functools
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import IO

from mgtool.errors import InputError
from mgtool.inputs import json_records, layouts, tables, tsv
from mgtool.inputs.line_index import Start
from mgtool.inputs.seen import Seen
from mgtool.inputs.text_lines import OpenFile, TextLines
from mgtool.media.reading import Find
from mgtool.records import Failure, Item, Media, Sample

VLMEVALKIT = "row of a VLMEvalKit benchmark"


def read_text_table(
    open_file: OpenFile, find: Find, seen: Seen, *, where: str, start: Start | None = None
) -> Iterator[Item]:
    """A VLMEvalKit benchmark, or another table whose first line names its columns; from a row on, or all."""
    with TextLines(open_file()) as lines:
        head = next(lines, "")
    if "index" not in (names := tables.column_names(head)) and any(map(layouts.is_known, names)):
        seen.take(where, "table of texts")
        with TextLines(open_file()) as lines:
            begins = functools.partial(seen.begins, where)
            found = tables.read_texts(lines, where=where, start=start, begins=begins)
            yield from samples(found, find, seen, where=where)
        return
    if where.endswith(".csv"):
        raise InputError(f"{where}: no column names a picture, video or text; {layouts.EXPECTED}")
    seen.take(where, "VLMEvalKit benchmark")
    for item in tsv.read_tsv(open_file, find, seen, where=where, start=start):
        seen.layouts[VLMEVALKIT] += isinstance(item, Sample)
        yield item


def read_table(file: IO[bytes], find: Find, seen: Seen, *, where: str) -> Iterator[Item]:
    seen.take(where, "Parquet table" if tables.is_parquet(file.read(4)) else "Arrow table")
    file.seek(0)
    stem = posixpath.splitext(posixpath.basename(where))[0]
    yield from samples(tables.read(file, stem, seen.left_out, where=where), find, seen, where=where)


def samples(rows: Iterable[tables.Row], find: Find, seen: Seen, *, where: str) -> Iterator[Item]:
    stem = posixpath.splitext(posixpath.basename(where))[0]
    for row in rows:
        if row.wrong:
            yield Failure(id=f"{stem}:{row.number}", stage="read", reason="bad_record", detail=f"{where}: {row.wrong}")
            continue
        known = functools.partial(_find_carried, row.carried, find)
        place = f"{where}: row {row.number}"
        yield from json_records.of_fields(row.fields, f"{stem}:{row.number}", known, seen, where=place)


def _find_carried(carried: Mapping[str, Media], find: Find, name: str) -> Media:
    return carried.get(name) or find(name)
