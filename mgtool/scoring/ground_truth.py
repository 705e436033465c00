"""Reading the files that benchmarks come in: JSON, JSONL, TSV/CSV, Parquet, alone, zipped or in a folder."""

from __future__ import annotations

import ast
import builtins
import codecs
import csv
import io
import json
import lzma
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from mgtool.errors import InputError
from mgtool.files.regular import open_input, read_regular, refuse_endless
from mgtool.records import parse
from mgtool.scoring.layouts import described
from mgtool.scoring.parquet_rows import parquet_rows

T = TypeVar("T")
Row = dict[str, Any]
TABLES = frozenset({".tsv", ".csv"})
SHEETS = TABLES | {".xlsx"}
IDS = ("question_id", "questionId", "index", "image_id", "id")
_ID_COLUMNS = frozenset(IDS)
PICTURE = "image"
LONGEST_NAME = 255
"""Characters of a picture's name; longer cells hold the picture itself, in base64."""
LONGEST_CELL = 1 << 13
"""Characters of a cell that may be a list of names, in a column of pictures."""
_HEAD = 1 << 12
"""Bytes of a file in which its first sign stands."""
MOST_UNPACKED_BYTES = 1 << 30
"""Of a member of a zip archive, and of all parts of a workbook."""
_BROKEN_ARCHIVE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, EOFError, OSError, struct.error)
_BROKEN_WORKBOOK = (
    SyntaxError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, AssertionError, *_BROKEN_ARCHIVE,
)  # fmt: skip
"""What readers raise at damaged bytes."""
READABLE = frozenset({".json", ".jsonl", ".parquet", ".zip", ".txt"}) | TABLES


@dataclass(frozen=True)
class Truth:
    """The files that hold a benchmark's questions and targets.

    Attributes:
        paths: official files, or folders that hold them.
        questions: the question file, where the official set has it apart from the answers.
        split: the one split to read, where the files hold or belong to several.
    """

    paths: tuple[Path, ...]
    questions: Path | None = None
    split: str = ""

    @cached_property
    def files(self) -> tuple[Document, ...]:
        """All readable files, folders opened, sorted by name.

        Raises:
            InputError: when a path does not exist or a folder holds nothing readable.
        """
        return tuple(document for path in self.paths for document in _documents(path))

    @cached_property
    def question_files(self) -> tuple[Document, ...]:
        """The files of `questions`; none when it was not given."""
        return _documents(self.questions) if self.questions else ()

    def mismatch(self, expected: str) -> InputError:
        """The error for files that are not what a benchmark needs, with what the first of them looks like."""
        found = next((path for path in self.paths if path.is_file()), None)
        looks = described(Document(found)) if found is not None and found.suffix != ".tar" else ""
        looks = f"; {looks}" if looks else ""
        return InputError(f"{', '.join(str(path) for path in self.paths)}: expected {expected}{looks}")


@dataclass(frozen=True)
class Document:
    """One file, or one member of a zip archive.

    Attributes:
        path: the file.
        member: the name inside an archive; empty for a plain file.
        content: its bytes, where they were read already.
    """

    path: Path
    member: str = ""
    content: bytes | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """File name without its folder."""
        return Path(self.member or self.path.name).name

    @property
    def stem(self) -> str:
        """File name without folder and ending."""
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        """The name's ending, lower case, with its dot."""
        return Path(self.name).suffix.lower()

    @property
    def bytes(self) -> bytes:
        """The whole content, without the byte order mark that Windows' editors put before a text.

        Raises:
            InputError: when it cannot be read.
        """
        stored = self._stored() if self.content is None else self.content
        return stored.removeprefix(codecs.BOM_UTF8)

    @property
    def opened(self) -> IO[builtins.bytes]:
        """The content as a file that seeks, which a plain file is itself; errors as of `bytes`."""
        if self.member or self.content is not None:
            return io.BytesIO(self.bytes)
        try:
            return open_input(self.path)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error}") from error

    def _stored(self) -> builtins.bytes:
        try:
            if not self.member:
                return read_regular(self.path)
            with zipfile.ZipFile(self.path) as archive:
                _refuse_bomb(archive, [archive.getinfo(self.member)])
                return archive.read(self.member)
        except _BROKEN_ARCHIVE as error:
            raise InputError(f"{self.path}: cannot be read: {error}") from error

    @cached_property
    def keys(self) -> Mapping[str, msgspec.Raw]:
        """The top level of a JSON object, values undecoded; empty for anything else."""
        if self.suffix != ".json":
            return {}
        data = self.bytes.lstrip()
        return parse(data, dict[str, msgspec.Raw], where=str(self.path)) if data.startswith(b"{") else {}

    def json(self, type: type[T]) -> T:
        """Decode the whole file as one JSON value of a type; errors as in `records.parse`."""
        return parse(self.bytes, type, where=str(self.path))

    def part(self, key: str, type: type[T]) -> T:
        """Decode one value of a JSON object; errors as in `records.parse`."""
        return parse(bytes(self.keys[key]), type, where=f"{self.path}: `{key}`")

    def rows(self, keep: Collection[str] = ()) -> list[Row]:
        """All of `each`."""
        return list(self.each(keep))

    def each(self, keep: Collection[str] = ()) -> Iterator[Row]:
        """A list of objects from any of the formats: a JSON list, JSON lines, a table, a workbook or Parquet.

        Args:
            keep: the columns of a table or workbook whose empty cells stay, as ""; all others' are left out.

        Raises:
            InputError: when the file is none of them.
        """
        if self.suffix in SHEETS:
            table = _workbook(self) if self.suffix == ".xlsx" else _table(self)
            yield from (_filled(row, keep) for row in table)
            return
        if self.suffix == ".parquet":
            with self.opened as file:
                yield from parquet_rows(file, PICTURE, where=self.path)
            return
        with self.opened as file:
            if file.read(_HEAD).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
                yield from parse(self.bytes.lstrip(), list[Row], where=str(self.path))
                return
            file.seek(0)
            for number, line in enumerate(lines_of(file), 1):
                if line.strip():
                    yield parse(line, Row, where=f"{self.path}:{number}")


def lines_of(file: Iterable[builtins.bytes]) -> Iterator[builtins.bytes]:
    """The lines of a text, without its byte order mark.

    >>> list(lines_of(io.BytesIO(b"a\\n\\nb\\r\\nc")))
    [b'a', b'', b'b', b'c']
    """
    for number, line in enumerate(file):
        plain = line if number else line.removeprefix(codecs.BOM_UTF8)
        if b"\r" in plain:
            yield from plain.splitlines()
        else:
            yield plain.rstrip(b"\n")


def of_split(documents: Sequence[Document], split: str) -> list[Document]:
    """The files whose name holds the split; all of them where none does, or no split is asked for."""
    named = [document for document in documents if split and split in document.name]
    return named or list(documents)


def data_rows(document: Document) -> list[Row]:
    """The records of a JSON object's `data`, or of a table; none of a file that has neither."""
    if "data" in document.keys:
        return document.part("data", list[Row])
    return document.rows() if document.suffix in (".tsv", ".parquet") else []


def _documents(path: Path) -> tuple[Document, ...]:
    if path.is_dir():
        names = sorted(file for file in path.iterdir() if file.suffix.lower() in READABLE)
        # a data set of the Hub, and MMMU's own results, have one folder for each subject or part
        names = names or sorted(path.glob("*/*.parquet")) or sorted(path.glob("*/output.json"))
        if not names:
            raise InputError(f"{path}: holds no {', '.join(sorted(READABLE))} file")
        return tuple(document for name in names for document in _documents(name))
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    refuse_endless(path)
    if path.suffix.lower() != ".zip":
        return (Document(path),)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if Path(name).suffix.lower() in READABLE - {".zip"}]
    except _BROKEN_ARCHIVE as error:
        raise InputError(f"{path}: cannot be read as a zip archive: {error}") from error
    return tuple(Document(path, member) for member in sorted(members) if not member.startswith("__MACOSX"))


def _refuse_bomb(archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo]) -> None:
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


def _table(document: Document) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)
    with document.opened as stored, io.TextIOWrapper(stored, "utf-8-sig", newline="") as text:
        lines = _Lines(text)
        rows = csv.DictReader(lines, delimiter="\t" if document.suffix == ".tsv" else ",")
        try:
            _refuse_open_quote(lines, 1, rows.fieldnames)
            begin = rows.line_num + 1
            for row in rows:
                _refuse_open_quote(lines, begin, row)
                yield {key: cell for key, cell in row.items() if not _is_embedded(key, cell)}
                begin = rows.line_num + 1
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{document.path}: not a readable table: {error}") from error


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


def _workbook(document: Document) -> Iterator[Row]:
    """The rows of a workbook's first sheet, as pandas writes it: the names above, one row a record."""
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        data = document.bytes
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.filename = str(document.path)
            _refuse_bomb(archive, archive.infolist())
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        rows = iter(book.worksheets[0].iter_rows(values_only=True))
        names = next(rows, ())
        yield from (dict(zip(map(str, names), row, strict=False)) for row in rows)
    except (InvalidFileException, *_BROKEN_WORKBOOK) as error:
        data = document.bytes
        damaged = "it is cut off or damaged" if data.startswith(b"PK") else "it is of another kind"
        looks = damaged if data else "it is empty"
        raise InputError(f"{document.path}: not a readable workbook: {looks} ({error})") from error


def _filled(row: Row, keep: Collection[str]) -> Row:
    """A record without its empty cells, but for those of `keep`; a whole id in pandas' spelling, 7.0, is a 7."""
    cells = {key: "" if value is None else value for key, value in row.items() if key}
    for key in _ID_COLUMNS & cells.keys():
        cell = cells[key]
        if isinstance(cell, str) and cell.endswith(".0") and cell[:-2].isdecimal():
            cells[key] = cell[:-2]
    return {key: value for key, value in cells.items() if value != "" or key in keep}


def listed(cell: Any) -> list[str]:
    """A table's cell that holds one answer or a written list of them.

    >>> listed("['red', 'dark red']"), listed("red"), listed(3)
    (['red', 'dark red'], ['red'], ['3'])
    """
    if isinstance(cell, list | tuple):
        return [str(value) for value in cell]
    text = str(cell)
    if text.startswith("[") and text.endswith("]"):
        for read in (ast.literal_eval, json.loads):
            try:
                values = read(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(values, list):
                return [str(value) for value in values]
    return [text]


def first(row: Mapping[str, Any], names: Iterable[str], default: Any = None) -> Any:
    """The first of several names that a row has.

    >>> first({"index": 3, "answer": "no"}, ("question_id", "index"))
    3
    """
    return next((row[name] for name in names if row.get(name) is not None), default)


def picture_name(row: Mapping[str, Any], names: Iterable[str]) -> str:
    """A picture's name, under the first of several names that a row has; empty for a picture inside the row.

    >>> picture_name({"image": "a.jpg"}, ("image_path", "image")), picture_name({"image": "/9j/" * 99}, ("image",))
    ('a.jpg', '')
    """
    name = str(first(row, names, ""))
    return name if len(name) <= LONGEST_NAME else ""


_WHOLE = re.compile(r"0|[1-9][0-9]{0,4299}")
"""Longer numbers Python itself refuses to read."""


def whole(value: Any) -> Any:
    """An id as an integer where it is written like one.

    >>> whole("12"), whole("v1_0"), whole(3.0)
    (12, 'v1_0', 3)
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    text = str(value)
    return int(text) if _WHOLE.fullmatch(text) else value
