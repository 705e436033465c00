"""The published boxes: a list of records by sample id, or an object of them by id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mgtool.boxes.formats.base import BoxEntry, BoxFile, BoxFormat, Pairs, Records, write_list
from mgtool.boxes.formats.entries import to_entry
from mgtool.files.not_finite import parse_with_nan
from mgtool.records import BoxRecord, Detections, FrameDetections, SampleId, convert

FILE = "boxes.json"


def recognises(file: BoxFile) -> bool:
    """A list, or an object that is no record itself."""
    return file.is_list or (file.members is not None and not {"sha256", "boxes"} & file.members.keys())


def read(file: BoxFile) -> Iterator[BoxEntry]:
    """Records by id; a list may also hold mgtool's own."""
    if file.members is None:
        for number, element in enumerate(file.elements(), 1):
            where = f"{file.path}: record {number}"
            yield to_entry(parse_with_nan(element, dict[str, Any], where=where), where)
        return
    for name, value in file.values():
        where = f"{file.path}: {name}"
        yield to_entry({**convert(value, dict[str, Any], where=where), "id": name}, where)


def write(folder: Path, records: Records, pairs: Pairs) -> None:
    """The list, an element a sample."""
    write_list(folder / FILE, (_by_id(name, record) for name, record in pairs))


def _by_id(name: SampleId, record: BoxRecord) -> dict[str, Any]:
    if record.frames is not None:
        return {"id": name, "frames": [_objects(frame) for frame in record.frames]}
    return {"id": name, **_objects(record.detections)}


def _objects(found: Detections | FrameDetections) -> dict[str, Any]:
    """Whole pixels are written as integers, as published."""
    boxes = [[int(side) if side.is_integer() else side for side in map(float, box)] for box in found.boxes]
    return {"boxes": boxes, "scores": found.scores, "labels": found.labels}


FORMAT = BoxFormat(recognises=recognises, read=read, files=(FILE,), write=write)
