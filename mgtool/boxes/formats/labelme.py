"""labelme: a JSON file a picture, whose shapes are given by points in pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from mgtool.boxes.formats import labelled
from mgtool.boxes.formats.base import BoxEntry, BoxFile, BoxFormat
from mgtool.boxes.formats.labelled import Labelled, Picture
from mgtool.errors import RecordError
from mgtool.records import Box, parse

_WITH_AREA = ("rectangle", "polygon", "circle", "mask")


class Shape(msgspec.Struct, frozen=True):
    """One shape."""

    label: str
    points: tuple[tuple[float, float], ...]
    shape_type: str | None = None


def recognises(file: BoxFile) -> bool:
    """An object with shapes and the name of a picture."""
    return file.members is not None and {"shapes", "imagePath"} <= file.members.keys()


def read(file: BoxFile) -> Iterator[BoxEntry]:
    """The record of the file's picture."""
    members = file.members or {}
    where = str(file.path)

    def said(name: str) -> Any:
        return parse(bytes(members[name]), Any, where=f"{where}: {name}") if name in members else None

    name = labelled.plain_name(str(said("imagePath") or "")) or file.path.stem
    size = labelled.size_of(said("imageWidth"), said("imageHeight"))
    beside = ((file.path.parent, one) for one in (name, name.rpartition("/")[2]))
    picture = labelled.look_beside(Picture(name, *size), beside)
    shapes = parse(bytes(members["shapes"]), list[msgspec.Raw], where=f"{where}: shapes")
    found = (_labelled(raw, f"{where}: shape {number}", file) for number, raw in enumerate(shapes, 1))
    yield labelled.entry(picture, [one for one in found if one is not None])


def _labelled(raw: msgspec.Raw, where: str, file: BoxFile) -> Labelled | None:
    """A shape's object; None for one that is counted, as it has no area or is none."""
    try:
        shape = parse(bytes(raw), Shape, where=where)
    except RecordError as error:
        file.left_out.add("shapes that cannot be read", str(error))
        return None
    box = _box(shape)
    if box is None:
        file.left_out.add(f"shapes without an area ({shape.shape_type})", where)
        return None
    return Labelled(shape.label, box)


def _box(shape: Shape) -> Box | None:
    """The smallest box around a shape."""
    kind = shape.shape_type or ("rectangle" if len(shape.points) == 2 else "polygon")
    if kind not in _WITH_AREA or len(shape.points) < 2:
        return None
    if kind == "circle":
        (x, y), (on_x, on_y) = shape.points[:2]
        radius = math.hypot(on_x - x, on_y - y)
        return (x - radius, y - radius, x + radius, y + radius)
    return labelled.around(shape.points)


FORMAT = BoxFormat(recognises=recognises, read=read, says_coordinates=True)
