"""The rows of tables as text and of workbooks, without pictures in them."""

from __future__ import annotations

import csv
import io
import lzma
import struct
import sys
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from mgtool.errors import InputError

Row = dict[str, Any]
PICTURE = "image"
LONGEST_CELL = 1 << 13
"""Characters of a cell that may be a list of names, in a column of pictures."""
MOST_UNPACKED_BYTES = 1 << 30
"""Of a member of a zip archive, and of all parts of a workbook."""
BROKEN_ARCHIVE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, EOFError, OSError, struct.error)
_BROKEN_WORKBOOK = (
    SyntaxError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, AssertionError, *BROKEN_ARCHIVE,
)  # fmt: skip
"""What readers raise at damaged bytes."""


def refuse_bomb(archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo]) -> None:
    """See that what is in an archive has room.

    Raises:
        InputError: where it has not.
    """
    size = sum(member.file_size for member in members)
    if size > MOST_UNPACKED_BYTES:
        raise InputError(
            f"{archive.filename}: {size:,} bytes unpacked are more than the {MOST_UNPACKED_BYTES:,} that are read"
        )


class _Lines:
    """A text's lines, and whether all of them were read."""

    def __init__(self, text: Iterable[str]) -> None:
        self.ended = False
        self._text = text

    def __iter__(self) -> Iterator[str]:
        yield from self._text
        self.ended = True


def table_rows(file: IO[bytes], delimiter: str, *, where: Path) -> Iterator[Row]:
    """The rows of a table as text, whose first line has the names; the file is closed with it.

    Raises:
        InputError: it cannot be read.
    """
    csv.field_size_limit(sys.maxsize)
    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        lines = _Lines(text)
        rows = csv.DictReader(lines, delimiter=delimiter)
        try:
            _refuse_open_quote(lines, 1, rows.fieldnames)
            begin = rows.line_num + 1
            for row in rows:
                _refuse_open_quote(lines, begin, row)
                yield {key: cell for key, cell in row.items() if not _is_embedded(key, cell)}
                begin = rows.line_num + 1
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{where}: not a readable table: {error}") from error


def _is_embedded(column: Any, cell: Any) -> bool:
    """Whether a cell is a picture in base64, which no score needs."""
    return isinstance(cell, str) and len(cell) > LONGEST_CELL and str(column).startswith(PICTURE)


def _refuse_open_quote(lines: _Lines, begin: int, record: Collection[Any] | None) -> None:
    """Only a record whose quote is still open makes the parser look for more lines than there are.

    The module's strict mode would find it too, but refuses `"a"b`, which pandas reads.
    """
    if record and lines.ended:
        raise csv.Error(
            f'the record of line {begin} opens a quote that never closes; a cell like "a must be written """a"'
        )


def workbook_rows(data: bytes, *, where: Path) -> Iterator[Row]:
    """The rows of a workbook's first sheet, as pandas writes it: the names above, one row a record.

    Raises:
        InputError: it cannot be read.
    """
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.filename = str(where)
            refuse_bomb(archive, archive.infolist())
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        rows = iter(book.worksheets[0].iter_rows(values_only=True))
        names = next(rows, ())
        yield from (dict(zip(map(str, names), row, strict=False)) for row in rows)
    except (InvalidFileException, *_BROKEN_WORKBOOK) as error:
        damaged = "it is cut off or damaged" if data.startswith(b"PK") else "it is of another kind"
        looks = damaged if data else "it is empty"
        raise InputError(f"{where}: not a readable workbook: {looks} ({error})") from error
