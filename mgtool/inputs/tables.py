"""Tables as records: Parquet, Arrow and texts with columns; pictures whose bytes lie in them come along.

Nothing is unpickled. Rows are read a few at a time.
"""

from __future__ import annotations

import ast
import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from mgtool.errors import InputError
from mgtool.files.parquet_size import rows_at_once
from mgtool.inputs import layouts
from mgtool.inputs.line_index import Start
from mgtool.inputs.text_lines import TextLines
from mgtool.media import magic
from mgtool.records import LeftOut, Media

_ROWS = 32
"""Rows in memory at a time."""
_ARROW_STREAM = b"\xff\xff\xff\xff"
_CARRIED = frozenset({"bytes", "path"})
"""Fields of a picture as Hugging Face `datasets` stores it."""
_DELIMITERS = ",;\t|"
_LISTS = frozenset({*layouts.PICTURE_KEYS, *layouts.VIDEO_KEYS, *layouts.TURN_KEYS})
"""Columns of a text that may hold a JSON or Python list."""
_MOST_DIGITS = 18

OTHER_COLUMNS = "pictures in other columns of tables"
OF_BYTES = "columns of tables with bytes"


class Row(NamedTuple):
    """A row as a record.

    Attributes:
        number: from 1.
        fields: by column, JSON values as far as the table has them; pictures that the row carries by name.
        carried: these pictures and videos.
        wrong: why it cannot be used; empty where it can.
    """

    number: int
    fields: dict[str, Any]
    carried: Mapping[str, Media] = {}
    wrong: str = ""


def is_parquet(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a Parquet file."""
    return head.startswith(b"PAR1")


def is_arrow(head: bytes) -> bool:
    """Whether a file that begins with these bytes is an Arrow file or stream."""
    return head.startswith(b"ARROW1") or (head.startswith(_ARROW_STREAM) and not any(head[6:8]))


def columns(path: Path) -> list[str]:
    """The names of a Parquet file's columns.

    Raises:
        InputError: it cannot be read.
    """
    with path.open("rb") as file:
        return list(_opened(file, str(path))[0])


def read(file: IO[bytes], stem: str, left_out: LeftOut, *, where: str) -> Iterator[Row]:
    """The rows of a Parquet file, or of an Arrow file or stream.

    Args:
        file: one that seeks.
        stem: what pictures without a name are called by, with a number.
        left_out: told of columns that are not used.
        where: the file's name for messages.

    Raises:
        InputError: no such table, or one without a column that says or shows anything.
    """
    import pyarrow as pa

    names, batches = _opened(file, where)
    _refuse_useless(names, where)
    number = 0
    try:
        for batch in batches:
            heavy = [field.name for field in batch.schema if "binary" in str(field.type)]
            for fields in batch.to_pylist():
                number += 1
                yield _carrying(number, fields, heavy, f"{stem}-{number}", left_out)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: row {number + 1}: cannot be read: {_line(error)}") from error


def _opened(file: IO[bytes], where: str) -> tuple[dict[str, str], Iterator[Any]]:
    """Columns with their types, and batches of rows."""
    import pyarrow as pa

    head = file.read(8)
    file.seek(0)
    try:
        if is_parquet(head):
            from pyarrow import parquet

            opened = parquet.ParquetFile(file)
            schema, rows = opened.schema_arrow, rows_at_once(opened.metadata, _ROWS, where)
            batches = opened.iter_batches(batch_size=rows)
        elif head.startswith(b"ARROW1"):
            reader = pa.ipc.open_file(file)
            whole = (reader.get_batch(number) for number in range(reader.num_record_batches))
            schema, batches = reader.schema, (part for batch in whole for part in _cut(batch))
        else:
            stream = pa.ipc.open_stream(file)
            schema, batches = stream.schema, (part for batch in stream for part in _cut(batch))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{where}: not a readable table: {_line(error)}") from error
    return {field.name: str(field.type) for field in schema}, batches


def _cut(batch: Any) -> Iterator[Any]:
    for at in range(0, batch.num_rows, _ROWS):
        yield batch.slice(at, _ROWS)


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _refuse_useless(names: Mapping[str, str], where: str) -> None:
    known = any(layouts.is_known(name) or "bytes: binary" in kind for name, kind in names.items())
    if not known and not any(kind in ("binary", "large_binary") for kind in names.values()):
        shown = ", ".join(list(names)[:8]) or "none"
        raise InputError(f"{where}: no column names or holds a picture, video or text: {shown}; {layouts.EXPECTED}")


def _carrying(number: int, fields: dict[str, Any], heavy: Sequence[str], name: str, left_out: LeftOut) -> Row:
    """A row with its pictures by name: those of a column that is called so, or else of all columns."""
    carried: dict[str, Media] = {}
    shown: dict[str, Any] = {}
    for column in heavy:
        before = len(carried)
        value = _named(fields.pop(column), name, carried, is_media=layouts.is_media(column))
        if len(carried) > before and not isinstance(value, bytes):
            shown[column] = value
        elif value is not None:
            _keep(fields, column, value, name, left_out)
    if shown:
        _show(fields, shown, name, left_out)
    return Row(number, fields, carried)


def _keep(fields: dict[str, Any], column: str, value: Any, name: str, left_out: LeftOut) -> None:
    if isinstance(value, bytes):
        left_out.add(OF_BYTES, f"{name}: {column}")
    else:
        fields[column] = value


def _show(fields: dict[str, Any], shown: Mapping[str, Any], name: str, left_out: LeftOut) -> None:
    """Put carried pictures where records have them; what only names pictures is then no more than a word."""
    texts = {column: value for column, value in shown.items() if column.lower() in layouts.TURN_KEYS}
    fields |= texts
    pictures = {column: value for column, value in shown.items() if column not in texts}
    films = [column for column in pictures if column.lower() in layouts.VIDEO_KEYS]
    fields |= {column: pictures.pop(column) for column in films[:1]}
    if not pictures:
        return
    called = [column for column in pictures if layouts.is_media(column)]
    for column in [*pictures] if called else []:
        if column not in called[:1]:
            del pictures[column]
            left_out.add(OTHER_COLUMNS, f"{name}: {column}")
    for column in [column for column in fields if layouts.is_media(column) and column not in films]:
        fields[f"{column}_"] = fields.pop(column)
    values = [value if isinstance(value, list) else [value] for value in pictures.values()]
    fields["file_names"] = [one for several in values for one in several if one is not None]


def _named(value: Any, name: str, carried: dict[str, Media], *, is_media: bool) -> Any:
    """A value with names in place of the pictures and videos in it, which go to `carried`."""
    if isinstance(value, list):
        return [_named(one, name, carried, is_media=is_media) for one in value]
    if isinstance(value, bytes):
        return _carry(value, None, name, carried) if is_media or magic.is_picture(value[: magic.HEAD_BYTES]) else value
    if not isinstance(value, dict):
        return value
    data = value.get("bytes")
    if not isinstance(data, bytes) or not value.keys() <= _CARRIED:
        return {key: _named(one, name, carried, is_media=is_media) for key, one in value.items()}
    if is_media or magic.is_picture(data[: magic.HEAD_BYTES]):
        return _carry(data, value.get("path"), name, carried)
    return data


def _carry(data: bytes, path: Any, name: str, carried: dict[str, Media]) -> str:
    own = path.replace("\\", "/").rpartition("/")[2] if isinstance(path, str) else ""
    number = f"_{len(carried)}" if carried else ""
    given = own or f"{name}{number}.{magic.ending(data[: magic.HEAD_BYTES])}"
    while given in carried:
        given = f"{len(carried)}_{given}"
    carried[given] = Media(name=given, data=data)
    return given


def is_text_table(head: str) -> bool:
    """Whether a text begins with a line that names columns of a table, one of which is known.

    >>> is_text_table("file_name,text"), is_text_table("a,b.jpg"), is_text_table("question")
    (True, False, False)
    """
    names = column_names(head)
    return len(names) > 1 and any(layouts.is_known(name) for name in names)


def column_names(head: str) -> list[str]:
    """What the first line of a table of texts names."""
    line = head.lstrip("\ufeff").partition("\n")[0].rstrip("\r")
    delimiter = _delimiter(line)
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter, strict=True), [])]
    except csv.Error:
        return []


def _delimiter(line: str) -> str:
    return max(_DELIMITERS, key=line.count)


def read_texts(
    lines: TextLines,
    *,
    where: str,
    start: Start | None = None,
    begins: Callable[[int, int], None] = lambda offset, number: None,
) -> Iterator[Row]:
    """The rows of a CSV file, or of one with tabs, semicolons or bars.

    Args:
        lines: of the whole; a row with what is no UTF-8 is wrong.
        where: the file's name for messages.
        start: the row to begin with; None for the first.
        begins: told where a row begins, and its number, before it is given.

    Raises:
        InputError: no column that says or shows anything.
    """
    csv.field_size_limit(sys.maxsize)
    names = column_names(first := next(lines, ""))
    _refuse_useless(dict.fromkeys(names, "string"), where)
    if start is not None:
        lines.seek(start.offset)
    number, offset = 1 if start is None else start.line, lines.offset
    try:
        for cells in csv.reader(lines, delimiter=_delimiter(first)):
            if cells:
                begins(offset, number)
                yield _text_row(number, names, cells)
            number, offset = number + 1, lines.offset
    except csv.Error as error:
        raise InputError(f"{where}: row {number}: not a readable table: {error}") from error


def _text_row(number: int, names: Sequence[str], cells: Sequence[str]) -> Row:
    if any("\ud800" <= letter <= "\udfff" for cell in cells if not cell.isascii() for letter in cell):
        return Row(number, {}, wrong="not UTF-8")
    if len(cells) > len(names):
        return Row(number, {}, wrong=f"{len(cells)} cells, the table has {len(names)} columns")
    filled = {name: _cell(name.lower(), cell) for name, cell in zip(names, cells, strict=False) if cell != ""}
    return Row(number, filled)


def _cell(name: str, cell: str) -> Any:
    if name in ("id", "question_id") and cell.isdecimal() and len(cell) <= _MOST_DIGITS:
        return int(cell)
    if name not in _LISTS or not cell.lstrip().startswith(("[", "{")):
        return cell
    for read in (json.loads, ast.literal_eval):
        try:
            return read(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return cell
