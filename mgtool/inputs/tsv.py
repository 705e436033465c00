"""VLMEvalKit's benchmark TSVs as samples."""

from __future__ import annotations

import base64
import binascii
import csv
import re
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping

from mgtool.errors import InputError, ItemError
from mgtool.inputs.line_index import Start
from mgtool.inputs.seen import Seen
from mgtool.inputs.text_lines import OpenFile, TextLines
from mgtool.media.names import MEDIA_SUFFIXES
from mgtool.media.reading import Find
from mgtool.records import Failure, Media, Sample, SampleId, Turn

Row = dict[str, str]

_FIRST = 2
"""Number of the first row behind the heading."""
_ROWS_KEPT = 8
"""Of those that others name, as their questions stand together."""
_LONGEST_REFERENCE = 64
"""Letters of a cell that may be the index of another row; no picture in base64 is so short."""
_MOST_REFERENCES = 100
"""Rows that refer on to others before one has a picture."""
_NUMBERED = re.compile(r"(image|img)(_path)?_?(\d{1,9})", re.IGNORECASE)
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_WHOLE = re.compile(r"(\d+)\.0+")
_DATA_URL = re.compile(r"\s*data:[\w/.+-]*;base64,", re.IGNORECASE)
_BLANK = ("", "nan", "none", "null")


def read_tsv(
    open_file: OpenFile, find: Find, seen: Seen, *, where: str, start: Start | None = None
) -> Iterator[Sample | Failure]:
    """A VLMEvalKit benchmark: `index`, `image` (base64, or the index of the row that has it), `question`, ...

    Args:
        open_file: opens the file anew; it is read once more where rows name others, so that these are found.
        find: gives the picture that an `image_path` entry names.
        seen: told where rows begin.
        where: the file's name for messages.
        start: the row to begin with; None for the first.
    """
    csv.field_size_limit(sys.maxsize)
    named = _NamedRows(open_file, seen, where, None if start is None else start.rows)
    cells = _Cells(find, named)
    begin, first = (0, _FIRST) if start is None else (start.offset, start.line)
    with TextLines(open_file()) as lines:
        for number, (offset, row) in enumerate(_rows(lines, where, begin), first):
            seen.begins(where, offset, number)
            named.passes(offset, row)
            try:
                yield _sample(row, cells)
            except ItemError as error:
                given = row.get("index", "")
                yield Failure.of(_number(given) if _is_text(given) and given else f"line {number}", "read", error)


def _rows(lines: TextLines, where: str, begin: int = 0) -> Iterator[tuple[int, Row]]:
    """Where each row begins, and the row; from one on that begins at a byte, or all."""
    reader = csv.DictReader(lines, delimiter="\t", restval="")
    try:
        names = reader.fieldnames or ()
        if not all(map(_is_text, names)):
            raise InputError(f"{where}: not a readable TSV: its first line is not UTF-8")
        if not {"index", "question"} <= {*names}:
            raise InputError(f"{where}: a TSV needs the columns index and question, found {names}")
        if begin:
            lines.seek(begin)
        offset = lines.offset
        for row in reader:
            yield offset, {key: value for key, value in row.items() if isinstance(key, str)}
            offset = lines.offset
    except csv.Error as error:
        raise InputError(f"{where}: not a readable TSV: {error}") from error


class _NamedRows:
    """The rows whose pictures other rows name, by their index; each is read where it stands.

    Args:
        open_file, seen, where: as of `read_tsv`.
        places: where each begins; None where that is not known yet.
    """

    def __init__(self, open_file: OpenFile, seen: Seen, where: str, places: Mapping[str, int] | None) -> None:
        self._open, self._seen, self._where, self._places = open_file, seen, where, places
        self._kept = OrderedDict[int, Row]()

    def passes(self, offset: int, row: Row) -> None:
        """A row that is read anyway: the next ones may name it."""
        if len(row.get("image", "")) > _LONGEST_REFERENCE:
            self._keep(offset, row)

    def get(self, name: str) -> Row | None:
        """The row of a name; None where there is none."""
        if self._places is None:
            self._places = self._found()
        if (offset := self._places.get(name)) is None:
            return None
        row = self._kept.get(offset) or self._read(offset)
        self._keep(offset, row)
        return row

    def _read(self, offset: int) -> Row:
        with TextLines(self._open()) as lines:
            return next((row for _, row in _rows(lines, self._where, offset)), {"index": ""})

    def _keep(self, offset: int, row: Row) -> None:
        self._kept[offset] = row
        self._kept.move_to_end(offset)
        if len(self._kept) > _ROWS_KEPT:
            self._kept.popitem(last=False)

    def _found(self) -> dict[str, int]:
        """Of two rows of one index the last counts."""
        places, wanted = dict[str, int](), set[str]()
        with TextLines(self._open()) as lines:
            for offset, row in _rows(lines, self._where):
                places[_index(row["index"])] = offset
                wanted.update(_references(row))
        found = {name: places[name] for name in sorted(wanted & places.keys())}
        for name, offset in found.items():
            self._seen.refers(self._where, name, offset)
        return found


def _references(row: Row) -> Iterator[str]:
    for column in _picture_columns(row):
        for part in _parts(row[column]):
            if _is_reference(part) and "path" not in column.lower():
                yield _index(part)


def _index(text: str) -> str:
    """An index as rows refer to it: pandas writes whole numbers of a column with gaps as 1.0."""
    whole = _WHOLE.fullmatch(text.strip())
    return whole[1] if whole else text.strip()


def _is_reference(part: str) -> bool:
    return len(part) <= _LONGEST_REFERENCE and not part.lower().endswith(tuple(MEDIA_SUFFIXES))


_MOST_DIGITS = 4300
"""Longer numbers Python itself refuses to read and to write."""


def _number(text: str) -> SampleId:
    return int(text) if text.isdecimal() and len(text) < _MOST_DIGITS else text


def _is_text(cell: str) -> bool:
    """Whether a cell was UTF-8."""
    return cell.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in cell)


class _Cells:
    """Cells that show pictures.

    Args:
        find: gives the picture or video of a name.
        rows: those whose pictures others name.
    """

    def __init__(self, find: Find, rows: _NamedRows) -> None:
        self.find, self.rows = find, rows

    def pictures(self, row: Row, seen: tuple[str, ...] = ()) -> tuple[Media, ...]:
        """All that a row shows; `seen` are the rows that lead to it."""
        found: list[Media] = []
        for column in _picture_columns(row):
            for part in _parts(row[column]):
                if "path" in column.lower():
                    found.append(self.find(part))
                else:
                    found += self._pictures_of(part, row["index"], len(found), seen)
        return tuple(found)

    def _pictures_of(self, part: str, index: str, number: int, seen: tuple[str, ...]) -> tuple[Media, ...]:
        if not _is_reference(part):
            is_name = len(part) <= _LONGEST_REFERENCE or part.lower().endswith(tuple(MEDIA_SUFFIXES))
            return (self.find(part) if is_name else _embedded(part, f"{index}_{number}" if number else index),)
        other = _index(part)
        if len(seen) > _MOST_REFERENCES:
            raise ItemError("unknown_id", f"image refers to index {part}, after {_MOST_REFERENCES} rows that refer on")
        named = None if other in seen else self.rows.get(other)
        if named is None:
            raise ItemError("unknown_id", f"image refers to index {part}, which no row with a picture has")
        shown = self.pictures(named, (*seen, other))
        if not shown:
            raise ItemError("unknown_id", f"image refers to index {part}, whose row has no picture")
        return shown


def _sample(row: Row, cells: _Cells) -> Sample:
    if bad := [column for column, cell in row.items() if not _is_text(cell)]:
        raise ItemError("bad_record", f"{bad[0]} is not UTF-8")
    pictures, video = cells.pictures(row), _video_column(row)
    if not pictures and not video and not row["question"].strip():
        raise ItemError("bad_record", "neither a picture, a video nor a question")
    used = {"index", "image", "image_path", video, *_picture_columns(row)}
    rest = {key: value for key, value in row.items() if key not in used and value != ""}
    return Sample(
        id=_number(row["index"]),
        images=pictures,
        video=cells.find(row[video]) if video else None,
        turns=(Turn("human", row["question"]),),
        metadata=rest,
    )


def _picture_columns(row: Row) -> list[str]:
    """The columns in which a row shows pictures: `image` or `image_path`, else `image_1`, `image_2` ..."""
    one = [column for column in ("image", "image_path") if not _is_blank(row.get(column, ""))]
    matches = [match for match in map(_NUMBERED.fullmatch, row) if match and not _is_blank(row[match[0]])]
    several = [match[0] for match in sorted(matches, key=lambda match: (bool(match[2]), int(match[3])))]
    paths = [column for column in several if "path" in column.lower()]
    return one[:1] or [column for column in several if column not in paths] or paths


def _video_column(row: Row) -> str:
    """The column that names a video, the one with its path best; empty without one."""
    return next((column for column in ("video_path", "video") if not _is_blank(row.get(column, ""))), "")


def _is_blank(cell: str) -> bool:
    return len(cell) <= _LONGEST_REFERENCE and cell.strip().lower() in _BLANK


def _parts(cell: str) -> list[str]:
    """Several pictures stand in one cell as a Python or JSON list."""
    text = cell.strip()
    if not text.startswith("["):
        return [text]
    quoted = [single or double for single, double in _QUOTED.findall(text)]
    return quoted or [part.strip() for part in text.strip("[] ").split(",") if part.strip()]


def _embedded(text: str, name: str) -> Media:
    try:
        data = base64.b64decode("".join(_DATA_URL.sub("", text, count=1).split()), validate=True)
        return Media(name=f"{name}.jpg", data=data)
    except (binascii.Error, ValueError) as error:
        raise ItemError("bad_record", f"the image is not base64: {error}") from error
