"""VLMEvalKit's benchmark TSVs as samples."""

from __future__ import annotations

import base64
import binascii
import csv
import sys
from collections.abc import Callable, Iterator
from typing import IO

from mgtool.errors import InputError, ItemError
from mgtool.media.reading import Find
from mgtool.records import Failure, Media, Sample, SampleId, Turn


def read_tsv(open_text: Callable[[], IO[str]], find: Find, *, where: str) -> Iterator[Sample | Failure]:
    """A VLMEvalKit benchmark: `index`, `image` (base64, or the index of the row that has it), `question`, ...

    Args:
        open_text: opens the file anew; it is read twice, so that only pictures that other rows name are kept.
        find: gives the picture that an `image_path` entry names.
        where: the file's name for messages.
    """
    csv.field_size_limit(sys.maxsize)
    with open_text() as file:
        wanted = {row["image"] for row in _rows(file, where) if _is_reference(row.get("image", ""))}
    kept: dict[str, Media] = {}
    with open_text() as file:
        for number, row in enumerate(_rows(file, where), 2):
            try:
                yield _sample(row, wanted, kept, find)
            except ItemError as error:
                yield Failure.of(_number(row.get("index") or f"line {number}"), "read", error)


def _rows(file: IO[str], where: str) -> Iterator[dict[str, str]]:
    reader = csv.DictReader(file, delimiter="\t", restval="")
    try:
        if not {"index", "question"} <= {*(reader.fieldnames or ())}:
            raise InputError(f"{where}: a TSV needs the columns index and question, found {reader.fieldnames}")
        for row in reader:
            yield {key: value for key, value in row.items() if isinstance(key, str)}
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not a readable TSV: {error}") from error


def _is_reference(cell: str) -> bool:
    return 0 < len(cell) <= 64


_MOST_DIGITS = 4300
"""Longer numbers Python itself refuses to read and to write."""


def _number(text: str) -> SampleId:
    return int(text) if text.isdecimal() and len(text) < _MOST_DIGITS else text


def _sample(row: dict[str, str], wanted: set[str], kept: dict[str, Media], find: Find) -> Sample:
    index, cell = row["index"], row.get("image", "")
    pictures: tuple[Media, ...] = ()
    if _is_reference(cell):
        if cell not in kept:
            raise ItemError("unknown_id", f"image refers to index {cell}, which no earlier row has")
        pictures = (kept[cell],)
    elif cell:
        pictures = tuple(_embedded(part, f"{index}_{n}" if n else index) for n, part in enumerate(_cells(cell)))
    elif row.get("image_path"):
        pictures = (find(row["image_path"]),)
    if index in wanted and pictures:
        kept[index] = pictures[0]
    rest = {key: value for key, value in row.items() if key not in ("index", "image", "image_path") and value != ""}
    return Sample(id=_number(index), images=pictures, turns=(Turn("human", row["question"]),), metadata=rest)


def _cells(cell: str) -> list[str]:
    """Several pictures stand in one cell as a Python or JSON list of base64 texts."""
    if not cell.startswith("["):
        return [cell]
    return [part.strip().strip("'\"") for part in cell.strip("[] ").split(",")]


def _embedded(text: str, name: str) -> Media:
    try:
        return Media(name=f"{name}.jpg", data=base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise ItemError("bad_record", f"the image is not base64: {error}") from error
