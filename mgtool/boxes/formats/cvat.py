"""CVAT for images: one XML file, an element a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from mgtool.boxes.formats import labelled
from mgtool.boxes.formats.base import BoxEntry, BoxFile, BoxFormat
from mgtool.boxes.formats.labelled import Labelled, Picture
from mgtool.boxes.formats.xml_elements import elements, is_of
from mgtool.errors import InputError
from mgtool.records import Box

ENDING, ROOT = ".xml", "annotations"
_SIDES = ("xtl", "ytl", "xbr", "ybr")
_WITH_POINTS = ("polygon",)


def recognises(file: BoxFile) -> bool:
    """An XML file of CVAT's."""
    return file.ending == ENDING and is_of(file.path, ROOT)


def in_folder(folder: Path) -> list[Path]:
    """CVAT's files of a folder."""
    return [path for path in sorted(folder.glob(f"*{ENDING}")) if is_of(path, ROOT)]


def read(file: BoxFile) -> Iterator[BoxEntry]:
    """A record a picture.

    Raises:
        InputError: annotations of a video, which stand by track and not by picture.
    """
    if next(elements(file.path, "track"), None) is not None:
        raise InputError(f"{file.path}: CVAT's tracks of a video; export as `CVAT for images` or as COCO")
    for image in elements(file.path, "image"):
        name = labelled.plain_name(image.get("name", ""))
        if not name:
            file.left_out.add("pictures without a name", f"{file.path}: image {image.get('id')}")
            continue
        size = labelled.size_of(image.get("width"), image.get("height"))
        folders = ((file.path.parent / folder, name) for folder in ("", "images"))
        picture = labelled.look_beside(Picture(name, *size), folders)
        yield labelled.entry(picture, list(_objects(image, file, name)))


def _objects(image: Element, file: BoxFile, name: str) -> Iterator[Labelled]:
    """Those with an area; the others, and what is turned, are counted."""
    for shape in image:
        try:
            box = _box(shape)
        except ValueError:
            file.left_out.add("shapes that cannot be read", f"{name}: {shape.tag}")
            continue
        if box is None:
            file.left_out.add("shapes without an area, or turned", f"{name}: {shape.tag}")
        else:
            yield Labelled(shape.get("label", ""), box)


def _box(shape: Element) -> Box | None:
    """The box, or that around a polygon."""
    if shape.tag == "box" and not float(shape.get("rotation", 0)):
        x0, y0, x1, y1 = (float(shape.get(side, "")) for side in _SIDES)
        return (x0, y0, x1, y1)
    if shape.tag in _WITH_POINTS:
        points = [tuple(map(float, point.split(","))) for point in shape.get("points", "").split(";")]
        if any(len(point) != 2 for point in points):
            raise ValueError("points of other than two numbers")
        return labelled.around(points)
    return None


FORMAT = BoxFormat(recognises=recognises, in_folder=in_folder, read=read, says_coordinates=True)
