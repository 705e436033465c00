"""CSV with a box a row: Open Images', and those of training scripts with `filename`, `class`, `xmin`, ..."""

from __future__ import annotations

import csv
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from pathlib import Path

from mgtool.boxes.coordinates import Coordinates, converted
from mgtool.boxes.formats import labelled
from mgtool.boxes.formats.base import BoxEntry, BoxFile, BoxFormat
from mgtool.boxes.formats.grouped import Best, Grouped
from mgtool.boxes.formats.labelled import Labelled, Picture
from mgtool.errors import InputError
from mgtool.files.folder_tree import named_below
from mgtool.records import BoxRecord, name_text

ENDING = ".csv"
_OPEN_IMAGES = "imageid"
_COLUMNS = {
    "picture": (_OPEN_IMAGES, "filename", "file_name", "image", "image_path", "image_name", "image_id", "path"),
    "label": ("labelname", "class", "label", "class_name", "category"),
    "left": ("xmin", "x_min", "x1"),
    "top": ("ymin", "y_min", "y1"),
    "right": ("xmax", "x_max", "x2"),
    "bottom": ("ymax", "y_max", "y2"),
    "score": ("score", "confidence"),
    "width": ("width",),
    "height": ("height",),
    "group": ("isgroupof",),
}
"""What a column may be called, in lower case."""
_NEEDED = frozenset({"picture", "left", "top", "right", "bottom"})
_SIDES = ("left", "top", "right", "bottom")
_MOST_LINE = 1 << 18
"""Characters."""
_TOGETHER = 1000
"""Pictures whose rows are sorted at once."""
_CLASSES = "*class-descriptions*.csv"
"""Where Open Images says what its classes are called."""

Row = dict[str, str]
"""The values of `_COLUMNS`."""


def in_folder(folder: Path) -> list[Path]:
    """The CSV files of boxes in a folder; those below it where it has none."""
    here = [path for path in sorted(folder.glob(f"*{ENDING}")) if _has_boxes(path)]
    return here or [path for path in named_below(folder, f"*{ENDING}") if _has_boxes(path)]


def _has_boxes(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK) and _header(path).keys() >= _NEEDED


def read(file: BoxFile) -> Iterator[BoxEntry]:
    """A record a picture.

    Raises:
        InputError: no column of pictures, or of a side of their boxes.
    """
    columns = _header(file.path)
    if missing := _NEEDED - columns.keys():
        listed = "; ".join(f"{name}: {' or '.join(_COLUMNS[name])}" for name in _COLUMNS if name in missing)
        raise InputError(f"{file.path}: a CSV file of boxes needs a row of columns' names, with {listed}")
    classes = _classes(file.path.parent) if columns["picture"] == _OPEN_IMAGES else {}
    is_parts = columns["picture"] == _OPEN_IMAGES and file.coordinates is None
    as_parts = Coordinates(is_normalised=is_parts)
    for picture, best in _pictures(file, columns, classes):
        record = BoxRecord(
            image=picture.name, sha256="", width=picture.width, height=picture.height,
            boxes=best.boxes, scores=best.scores, labels=best.labels,
        )  # fmt: skip
        yield BoxEntry(None, converted(record, as_parts), is_loose=True)


def _pictures(file: BoxFile, columns: Mapping[str, str], classes: Mapping[str, str]) -> Iterator[tuple[Picture, Best]]:
    """Each picture with its objects; all of them in memory together only where those of one stand apart."""
    rows = _rows(file.path, columns)
    if not _are_distinct(name for name, _ in itertools.groupby(_rows(file.path, columns), itemgetter("picture"))):
        yield from _grouped(file, rows, classes)
        return
    for _, some in itertools.groupby(rows, _Stretches()):
        yield from _grouped(file, some, classes)


class _Stretches:
    """Numbers rows so that those of some pictures after each other have one number."""

    def __init__(self) -> None:
        self._name, self._pictures = "", 0

    def __call__(self, row: Row) -> int:
        self._pictures += row["picture"] != self._name
        self._name = row["picture"]
        return self._pictures // _TOGETHER


def _grouped(file: BoxFile, rows: Iterable[Row], classes: Mapping[str, str]) -> Iterator[tuple[Picture, Best]]:
    """The pictures of some rows, in the order of their first ones, with their objects."""
    places, pictures, found = dict[str, int](), list[Picture](), Grouped()
    for row in rows:
        place = places.setdefault(row["picture"], len(pictures))
        if place == len(pictures):
            pictures.append(_picture(file, row["picture"], row))
        for one in _objects(row, classes, file):
            found.add(place, one.label, one.box, one.score)
    for picture, best in zip(pictures, found.pictures(len(pictures)), strict=True):
        best.tell(file.left_out, picture.name)
        yield picture, best


def _header(path: Path) -> dict[str, str]:
    """What the columns that are used are called, by what they are."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            names = [name.strip().lower() for name in next(csv.reader([file.readline(_MOST_LINE)]), [])]
        except csv.Error:
            return {}
    found = ((what, next((name for name in choices if name in names), "")) for what, choices in _COLUMNS.items())
    return {what: name for what, name in found if name}


def _rows(path: Path, columns: Mapping[str, str]) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(iter(lambda: file.readline(_MOST_LINE), ""))
        names = [name.strip().lower() for name in next(reader)]
        places = {what: names.index(name) for what, name in columns.items()}
        try:
            for row in reader:
                if row:
                    yield {what: row[place].strip() if place < len(row) else "" for what, place in places.items()}
        except csv.Error as error:
            raise InputError(f"{path}:{reader.line_num}: not readable as CSV: {error}") from error


def _are_distinct(names: Iterable[str]) -> bool:
    """Whether no name comes again, judged by hashes alone: two names of one hash count as one."""
    seen = set[int]()
    for number in map(hash, names):
        if number in seen:
            return False
        seen.add(number)
    return True


def _picture(file: BoxFile, name: str, row: Row) -> Picture:
    """The picture, called as from the folder on that was given where it lies beside the file."""
    plain = labelled.plain_name(name_text(name))
    if file.root is not None and file.path.parent != file.root and (file.path.parent / plain).is_file():
        plain = f"{file.path.parent.relative_to(file.root).as_posix()}/{plain}"
    return Picture(plain, *labelled.size_of(row.get("width"), row.get("height")))


def _objects(row: Row, classes: Mapping[str, str], file: BoxFile) -> Iterable[Labelled]:
    """The row's object; none where it only names a picture."""
    if not any(row[side] for side in _SIDES):
        return ()
    if row.get("group") == "1":
        file.left_out.add("boxes of groups (`IsGroupOf`)", row["picture"])
        return ()
    try:
        x0, y0, x1, y1 = (float(row[side]) for side in _SIDES)
        score = float(row.get("score") or 1)
    except ValueError:
        x0 = y0 = x1 = y1 = score = math.nan
    label = row.get("label", "")
    return (Labelled(classes.get(label, label), (x0, y0, x1, y1), score),)


def is_read(path: Path) -> bool:
    """Whether a file is one that says what classes are called."""
    return path.match(_CLASSES)


def _classes(folder: Path) -> dict[str, str]:
    """Names of Open Images' classes by their codes, where the file that says them lies beside."""
    found = dict[str, str]()
    for path in sorted(folder.glob(_CLASSES)):
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            found |= {row[0]: row[1] for row in csv.reader(file) if len(row) > 1}
    return found


FORMAT = BoxFormat(ending=ENDING, in_folder=in_folder, read=read, has_videos=False)
