"""FiftyOne's exports: a data set's samples, or labels by the pictures' names; boxes in parts of the pictures' sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mgtool.boxes.coordinates import Coordinates
from mgtool.boxes.formats import labelled
from mgtool.boxes.formats.base import BoxEntry, BoxFile, BoxFormat
from mgtool.boxes.formats.labelled import Labelled, Picture
from mgtool.errors import RecordError
from mgtool.media.names import PICTURE_EXTENSIONS
from mgtool.records import Box, convert, parse

SAMPLES_FILE, LABELS_FILE, PICTURES = "samples.json", "labels.json", "data"
_DETECTIONS = "Detections"
_PARTS = Coordinates("xywh", is_normalised=True)


class Detection(msgspec.Struct, frozen=True):
    """One object."""

    bounding_box: Box
    label: str | int | None = None
    confidence: float | None = None


def recognises(file: BoxFile) -> bool:
    """Samples with the paths of their pictures, or labels with their classes."""
    members = file.members or {}
    if "samples" in members:
        return bytes(memoryview(members["samples"])[:1]) == b"["
    return {"classes", "labels"} <= members.keys()


def in_folder(folder: Path) -> list[Path]:
    """The export's one file."""
    files = [folder / name for name in (SAMPLES_FILE, LABELS_FILE) if (folder / name).is_file()]
    return [path for path in files if recognises(BoxFile(path))][:1]


def read(file: BoxFile) -> Iterator[BoxEntry]:
    """A record a sample; of several fields of boxes the first that any sample has, the others are counted."""
    members = file.members or {}
    yield from _samples(file, members) if "samples" in members else _labels(file, members)


def _samples(file: BoxFile, members: Mapping[str, msgspec.Raw]) -> Iterator[BoxEntry]:
    field = ""
    for number, raw in enumerate(parse(members["samples"], list[msgspec.Raw], where=f"{file.path}: samples"), 1):
        where = f"{file.path}: sample {number}"
        sample = parse(raw, dict[str, Any], where=where)
        fields = [name for name, value in sample.items() if _is_detections(value)]
        field = field or next(iter(fields), "")
        for other in fields:
            if other != field:
                file.left_out.add(f"boxes of other fields than {field}", f"{where}: {other}")
        metadata = sample.get("metadata")
        size = (metadata.get("width"), metadata.get("height")) if isinstance(metadata, dict) else (0, 0)
        name = labelled.plain_name(str(sample.get("filepath") or ""))
        if not name:
            file.left_out.add("samples that name no picture", where)
            continue
        picture = Picture(name, *labelled.size_of(*size))
        found = sample[field]["detections"] if field in fields else []
        yield _entry(file, picture, [name, name.rpartition("/")[2]], found, where)


def _is_detections(value: Any) -> bool:
    return isinstance(value, dict) and value.get("_cls") == _DETECTIONS and isinstance(value.get("detections"), list)


def _labels(file: BoxFile, members: Mapping[str, msgspec.Raw]) -> Iterator[BoxEntry]:
    """Of pictures by their names without an ending; labels are numbers of classes, or names."""
    listed = parse(members["classes"], Any, where=f"{file.path}: classes")
    classes = [str(one) for one in listed] if isinstance(listed, list) else []
    labels = parse(members["labels"], dict[str, list[Any] | None], where=f"{file.path}: labels")
    for name, found in labels.items():
        names = [name, *(f"{name}.{extension}" for extension in sorted(PICTURE_EXTENSIONS))]
        yield _entry(file, Picture(labelled.plain_name(name)), names, found or [], f"{file.path}: {name}", classes)


def _entry(
    file: BoxFile, picture: Picture, names: Sequence[str], found: Sequence[Any], where: str, classes: Sequence[str] = ()
) -> BoxEntry:
    folders = [(folder, name) for name in names for folder in (file.path.parent, file.path.parent / PICTURES)]
    objects = [one for value in found if (one := _object(value, classes, where, file)) is not None]
    return labelled.entry(labelled.look_beside(picture, folders), objects)


def _object(value: Any, classes: Sequence[str], where: str, file: BoxFile) -> Labelled | None:
    try:
        one = convert(value, Detection, where=where)
    except RecordError as error:
        file.left_out.add("detections that are no boxes", str(error))
        return None
    number = one.label if isinstance(one.label, int) else -1
    label = classes[number] if 0 <= number < len(classes) else one.label
    return Labelled(
        "" if label is None else str(label), one.bounding_box, 1.0 if one.confidence is None else one.confidence
    )


FORMAT = BoxFormat(recognises=recognises, in_folder=in_folder, read=read, coordinates=_PARTS, says_coordinates=True)
