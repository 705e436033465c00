"""CVAT: one XML file with an element a picture, or an element a track of a video."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from mgtool.boxes.formats import cvat_tracks, labelled
from mgtool.boxes.formats.base import BoxEntry, BoxFile, BoxFormat
from mgtool.boxes.formats.labelled import Labelled, Picture
from mgtool.boxes.formats.xml_elements import elements, is_of
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
    """A record a picture, or a frame.

    Raises:
        InputError: tracks of frames whose names are not known.
    """
    if next(elements(file.path, "track"), None) is not None:
        yield from _of_frames(file)
    for image in elements(file.path, "image"):
        name = labelled.plain_name(image.get("name", ""))
        if not name:
            file.left_out.add("pictures without a name", f"{file.path}: image {image.get('id')}")
            continue
        size = labelled.size_of(image.get("width"), image.get("height"))
        shapes = ((shape.get("label", ""), shape) for shape in image)
        objects = [found for label, shape in shapes for found in _objects(label, shape, file, name)]
        yield labelled.entry(_beside(file, Picture(name, *size), [name]), objects)


def _of_frames(file: BoxFile) -> Iterator[BoxEntry]:
    """A record a frame, as the frames of `CVAT for images`."""
    frames, objects = cvat_tracks.frames_of(file.path), defaultdict[int, list[Labelled]](list)
    for number, label, shape in cvat_tracks.shapes(file.path):
        objects[number] += _objects(label, shape, file, cvat_tracks.name_of(number))
    for number in sorted({*frames.numbers, *objects}):
        name = cvat_tracks.name_of(number)
        picture = Picture(name, *labelled.size_of(frames.width, frames.height))
        yield labelled.entry(_beside(file, picture, cvat_tracks.files_of(name)), objects.get(number, []))


def _beside(file: BoxFile, picture: Picture, names: Iterable[str]) -> Picture:
    folders = ((file.path.parent / folder, name) for folder in ("", "images") for name in names)
    return labelled.look_beside(picture, folders)


def _objects(label: str, shape: Element, file: BoxFile, name: str) -> Iterator[Labelled]:
    """An object with an area; another, and one that is turned, is counted."""
    try:
        box = _box(shape)
    except ValueError:
        file.left_out.add("shapes that cannot be read", f"{name}: {shape.tag}")
        return
    if box is None:
        file.left_out.add("shapes without an area, or turned", f"{name}: {shape.tag}")
    else:
        yield Labelled(label, box)


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
