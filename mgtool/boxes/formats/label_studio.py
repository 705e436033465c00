"""Label Studio: a JSON list of tasks (or the short form of them), boxes in parts of a hundred."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from mgtool.boxes.coordinates import Coordinates
from mgtool.boxes.formats import labelled
from mgtool.boxes.formats.base import BoxEntry, BoxFile, BoxFormat
from mgtool.boxes.formats.labelled import Labelled, Picture
from mgtool.files.not_finite import parse_with_nan
from mgtool.records import Box

_ANSWERS = ("annotations", "completions", "predictions")
"""Who labelled a task: people, people in old exports, a model."""
_OF_AN_UPLOAD = re.compile(r"^[0-9a-f]{8}-")
_MOST_NAME = 4096
_PARTS = Coordinates("xywh", is_normalised=True)


def recognises(file: BoxFile) -> bool:
    """A list of tasks, whose data lies below `data` or, in the short form, among the labels."""
    return file.is_list and isinstance(file.head, dict) and (_is_task(file.head) or bool(_short(file.head)))


def read(file: BoxFile) -> Iterator[BoxEntry]:
    """A record a task: what the first of its annotators found, or a model where nobody did; the others are counted."""
    for number, raw in enumerate(file.elements(), 1):
        where = f"{file.path}: task {number}"
        task = parse_with_nan(raw, dict[str, Any], where=where)
        stored = _stored_name(task.get("data") if _is_task(task) else task)
        if not stored:
            file.left_out.add("tasks that name no picture", where)
            continue
        results = _results(task, file, where) if _is_task(task) else _short(task)
        size = next((size for one in results if (size := _size(one)) != (0, 0)), (0, 0))
        objects = [found for one in results if (found := _object(one, file, where)) is not None]
        yield labelled.entry(_picture(stored, size, file.path.parent), objects)


def _is_task(task: Mapping[str, Any]) -> bool:
    return isinstance(task.get("data"), dict) and any(isinstance(task.get(name), list) for name in _ANSWERS)


def _short(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The labels of the short form, under whatever key."""
    listed = (value for value in task.values() if isinstance(value, list))
    return next((one for one in listed if one and all(isinstance(e, dict) and "original_width" in e for e in one)), [])


def _results(task: Mapping[str, Any], file: BoxFile, where: str) -> list[dict[str, Any]]:
    answers = [one for name in _ANSWERS for one in _dicts(task.get(name)) if not one.get("was_cancelled")]
    for _ in answers[1:]:
        file.left_out.add("further annotations of one task", where)
    return _dicts(answers[0].get("result")) if answers else []


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _size(result: Mapping[str, Any]) -> tuple[int, int]:
    return labelled.size_of(result.get("original_width"), result.get("original_height"))


def _object(result: Mapping[str, Any], file: BoxFile, where: str) -> Labelled | None:
    """An object; None for what is no box, which is counted."""
    value = result.get("value", result)
    if not isinstance(value, dict):
        file.left_out.add("results that are no boxes", where)
        return None
    labels = next((each for name, each in value.items() if name.endswith("labels") and isinstance(each, list)), [])
    box = _box(value)
    if box is None or not labels:
        reason = "boxes that are turned" if value.get("rotation") else "results that are no boxes"
        file.left_out.add(reason, f"{where}: {result.get('type', '')}")
        return None
    return Labelled(str(labels[0]), box, labelled.number(result.get("score", 1)))


def _box(value: Mapping[str, Any]) -> Box | None:
    """A box, or that around a polygon, as parts of the picture."""
    if value.get("rotation"):
        return None
    points = value.get("points", ())
    if _are_points(points):
        x0, y0, x1, y1 = labelled.around([[*map(labelled.number, point)] for point in points])
        return (x0 / 100, y0 / 100, (x1 - x0) / 100, (y1 - y0) / 100)
    sides = [value.get(name) for name in ("x", "y", "width", "height")]
    numbers = [labelled.number(side) / 100 for side in sides if isinstance(side, int | float)]
    return (numbers[0], numbers[1], numbers[2], numbers[3]) if len(numbers) == 4 else None


def _are_points(points: Any) -> bool:
    return isinstance(points, list) and bool(points) and all(map(_is_point, points))


def _is_point(point: Any) -> bool:
    return isinstance(point, Sequence) and len(point) == 2 and all(isinstance(side, int | float) for side in point)


def _stored_name(data: Any) -> str:
    """The path of the picture where Label Studio keeps it; empty where none is named."""
    values = [value for value in data.values() if isinstance(value, str)] if isinstance(data, dict) else []
    names = (labelled.plain_name(_path(value)) for value in values)
    return next((name for name in names if labelled.stem_of(name) != name), "")


def _picture(stored: str, size: tuple[int, int], folder: Path) -> Picture:
    """The picture under the name it had before it was uploaded or stored, known by its bytes where it lies beside."""
    above, _, last = stored.rpartition("/")
    is_upload = re.search(r"(^|/)upload(/|$)", above) is not None
    name = _OF_AN_UPLOAD.sub("", last) if is_upload else stored
    choices = dict.fromkeys((stored, last, name, name.rpartition("/")[2]))
    beside = ((folder / inner, one) for one in choices for inner in ("", "images"))
    return labelled.look_beside(Picture(name, *size), beside)


def _path(value: str) -> str:
    """What a URL or path leads to; empty for data, and for what is neither."""
    try:
        url = urlsplit("" if value.startswith("data:") else value[:_MOST_NAME])
    except ValueError:
        return ""
    return parse_qs(url.query).get("d", [unquote(url.path)])[0]


FORMAT = BoxFormat(recognises=recognises, read=read, coordinates=_PARTS, says_coordinates=True)
