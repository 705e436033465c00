"""Reading the files that benchmarks come in: JSON, JSONL, TSV/CSV, Parquet, alone, zipped or in a folder."""

from __future__ import annotations

import ast
import builtins
import codecs
import io
import itertools
import json
import re
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from mgtool.errors import InputError
from mgtool.files.json_blocks import OddJsonError, Source
from mgtool.files.regular import open_input, read_regular, refuse_endless
from mgtool.records import parse
from mgtool.scoring.layouts import described
from mgtool.scoring.parquet_rows import parquet_rows
from mgtool.scoring.sheet_rows import BROKEN_ARCHIVE, PICTURE, refuse_bomb, table_rows, workbook_rows

T = TypeVar("T")
Row = dict[str, Any]
TABLES = frozenset({".tsv", ".csv"})
SHEETS = TABLES | {".xlsx"}
IDS = ("question_id", "questionId", "index", "image_id", "id")
_ID_COLUMNS = frozenset(IDS)
LONGEST_NAME = 255
"""Characters of a picture's name; longer cells hold the picture itself, in base64."""
_HEAD = 1 << 12
"""Bytes of a file in which its first sign stands."""
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
                refuse_bomb(archive, [archive.getinfo(self.member)])
                return archive.read(self.member)
        except BROKEN_ARCHIVE as error:
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

    def elements(self, key: str, type: type[T]) -> Iterator[T]:
        """The elements of one list in a JSON object, none where it is not there; errors as in `records.parse`."""

        of: Any = type

        def read(source: Source) -> Iterator[T]:
            for member in source.members():
                if member.name == key:
                    yield from member.listed(type)

        if self.suffix == ".json":
            yield from self._streamed(read, lambda: self.part(key, list[of]) if key in self.keys else ())

    def entries(self, type: type[T]) -> Iterator[tuple[str, T]]:
        """The members of a JSON object with their names, none of another value; errors as in `records.parse`."""
        of: Any = type

        def whole() -> Iterable[tuple[str, T]]:
            return self.json(dict[str, of]).items() if self.keys else ()

        yield from self._streamed(lambda source: _to_the_end(source, source.named(type)), whole)

    def _streamed(self, read: Callable[[Source], Iterator[T]], whole: Callable[[], Iterable[T]]) -> Iterator[T]:
        """What one way of reading yields, and the other from there on, which knows what is wrong."""
        count = 0
        try:
            with self.opened as file:
                for one in read(Source(file)):
                    yield one
                    count += 1
        except OddJsonError:
            yield from itertools.islice(whole(), count, None)

    def rows(self, keep: Collection[str] = ()) -> list[Row]:
        """All of `each`."""
        return list(self.each(keep))

    def _sheet(self) -> Iterator[Row]:
        if self.suffix == ".xlsx":
            return workbook_rows(self.bytes, where=self.path)
        return table_rows(self.opened, "\t" if self.suffix == ".tsv" else ",", where=self.path)

    def each(self, keep: Collection[str] = ()) -> Iterator[Row]:
        """A list of objects from any of the formats: a JSON list, JSON lines, a table, a workbook or Parquet.

        Args:
            keep: the columns of a table or workbook whose empty cells stay, as ""; all others' are left out.

        Raises:
            InputError: when the file is none of them.
        """
        if self.suffix in SHEETS:
            yield from (_filled(row, keep) for row in self._sheet())
        elif self.suffix == ".parquet":
            with self.opened as file:
                yield from parquet_rows(file, PICTURE, where=self.path)
        elif self._is_list:
            yield from self._streamed(
                lambda source: _to_the_end(source, source.listed(Row)),
                lambda: parse(self.bytes.lstrip(), list[Row], where=str(self.path)),
            )
        else:
            yield from self._lines()

    @property
    def _is_list(self) -> bool:
        with self.opened as file:
            return file.read(_HEAD).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")

    def _lines(self) -> Iterator[Row]:
        with self.opened as file:
            for number, line in enumerate(lines_of(file), 1):
                if line.strip():
                    yield parse(line, Row, where=f"{self.path}:{number}")


def _to_the_end(source: Source, read: Iterator[T]) -> Iterator[T]:
    yield from read
    source.end()


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
    except BROKEN_ARCHIVE as error:
        raise InputError(f"{path}: cannot be read as a zip archive: {error}") from error
    return tuple(Document(path, member) for member in sorted(members) if not member.startswith("__MACOSX"))


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
    for name in names:
        value = row.get(name)
        if value is not None:
            return value
    return default


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
