"""Objects as data sets of the Hugging Face hub have them: a column ``objects`` beside that of the pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from mgtool.boxes.formats import labelled
from mgtool.boxes.formats.base import BoxEntry, BoxFile
from mgtool.boxes.formats.labelled import Labelled, Picture
from mgtool.errors import InputError, ItemError
from mgtool.media import images
from mgtool.records import decode

COLUMN = "objects"
_BOXES = ("bbox", "boxes", "bboxes")
_LABELS = ("category", "categories", "label", "labels", "category_id")
_NAMES = ("file_name", "image_path", "image_id", "id")


def entry(row: Mapping[str, Any], names: list[str], file: BoxFile, where: str) -> BoxEntry:
    """The record of a row's picture.

    Args:
        row: its values.
        names: of classes by number, as `class_names` gives them.
        file: told of objects that are no boxes.
        where: the row's place.

    Raises:
        InputError: nobody said what the boxes' numbers are.
    """
    if file.coordinates is None:
        advice = "give `box_format`, which is xywh where the data set follows COCO"
        raise InputError(f"{file.path}: the column {COLUMN} does not say what its boxes' numbers are: {advice}")
    return labelled.entry(_picture(row), list(_objects(row[COLUMN], names, file, where)))


def _picture(row: Mapping[str, Any]) -> Picture:
    """The picture by its bytes, where the row has them, and its name."""
    image = row.get("image")
    stored = image if isinstance(image, dict) else {}
    said = stored.get("path") or next((str(row[name]) for name in _NAMES if row.get(name) is not None), "")
    picture = Picture(labelled.plain_name(str(said)), *labelled.size_of(row.get("width"), row.get("height")))
    data = stored.get("bytes")
    if not isinstance(data, bytes):
        return picture
    try:
        width, height = images.probe(data)
    except ItemError:
        return picture
    return Picture(picture.name, width, height, hashlib.sha256(data).hexdigest())


def _objects(found: Any, names: list[str], file: BoxFile, where: str) -> Iterator[Labelled]:
    """Of a column of lists, or of a list of objects."""
    rows = found if isinstance(found, list) else _transposed(found)
    for row in rows:
        box = next((row[name] for name in _BOXES if name in row), None)
        label = next((row[name] for name in _LABELS if row.get(name) is not None), "")
        if not isinstance(box, list) or len(box) != 4:
            file.left_out.add("objects without a box of four numbers", where)
            continue
        x, y, third, fourth = map(labelled.number, box)
        name = names[label] if isinstance(label, int) and 0 <= label < len(names) else str(label)
        yield Labelled(name, (x, y, third, fourth), labelled.number(row.get("score", 1)))


def _transposed(found: Any) -> list[dict[str, Any]]:
    lists = {name: value for name, value in found.items() if isinstance(value, list)} if isinstance(found, dict) else {}
    length = max(map(len, lists.values()), default=0)
    return [{name: value[row] for name, value in lists.items() if row < len(value)} for row in range(length)]


def class_names(metadata: Mapping[bytes, bytes] | None) -> list[str]:
    """Names of the classes that a table's schema has for its objects; none where it has none."""
    try:
        said: Any = decode((metadata or {}).get(b"huggingface", b"{}"), Any)
    except ValueError:
        return []
    return next((names for names in _named_in(_below(said, "info", "features", COLUMN))), [])


def _below(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _named_in(feature: Any) -> Iterator[list[str]]:
    """Names of classes, however deep they stand: older and newer releases nest them otherwise."""
    values = feature.values() if isinstance(feature, dict) else feature if isinstance(feature, list) else ()
    if isinstance(feature, dict) and isinstance(feature.get("names"), list):
        yield list(map(str, feature["names"]))
    for value in values:
        yield from _named_in(value)
