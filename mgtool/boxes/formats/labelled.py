"""What the formats of annotation tools share: a picture's objects as a record, and the picture that they are of."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mgtool.boxes.formats.base import BoxEntry
from mgtool.errors import ItemError
from mgtool.files.regular import read_regular
from mgtool.media import images
from mgtool.media.names import PICTURE_EXTENSIONS
from mgtool.records import Box, BoxRecord

_MOST_SIDE = 1 << 31
MOST_BYTES = 1 << 28
"""Of an annotation file of one picture, and of its picture."""


class Labelled(NamedTuple):
    """An object of a picture: its label, the four numbers of its box, and its score (1 where a person drew it)."""

    label: str
    box: Box
    score: float = 1.0


class Picture(NamedTuple):
    """The picture that annotations are of.

    Attributes:
        name: as its file is called from the data set's folder on; the ending may be missing.
        width, height: in pixels; 0 where they are not known.
        sha256: of its bytes, where it lies beside the annotations.
    """

    name: str
    width: int = 0
    height: int = 0
    sha256: str = ""


def entry(picture: Picture, objects: Iterable[Labelled]) -> BoxEntry:
    """The record of a picture's objects, best first; known by its bytes where they are there, else by its name."""
    ranked = sorted(objects, key=lambda one: -one.score)
    record = BoxRecord(
        image=picture.name,
        sha256=picture.sha256,
        width=picture.width,
        height=picture.height,
        boxes=tuple(one.box for one in ranked),
        scores=tuple(one.score for one in ranked),
        labels=tuple(one.label for one in ranked),
    )
    return BoxEntry(None, record, is_loose=not picture.sha256)


def around(points: Sequence[Sequence[float]]) -> Box:
    """The smallest box that holds some points, xyxy in their units.

    >>> around([(3, 1), (0, 2)])
    (0, 1, 3, 2)
    """
    across, down = [point[0] for point in points], [point[1] for point in points]
    return (min(across), min(down), max(across), max(down))


def look_beside(picture: Picture, folders: Iterable[tuple[Path, str]]) -> Picture:
    """The picture with its size and hash, where it lies in one of some folders; as it is where it does not.

    Args:
        picture: as the annotations know it.
        folders: each with a name in it, which a stranger may have written: none leads out of its folder.
    """
    for folder, name in folders:
        if name and _lies_in(folder, name):
            return seen(folder / name, picture.name) or picture
    return picture


def _lies_in(folder: Path, name: str) -> bool:
    """Whether a folder has a file of this name, and no link that leads out of it."""
    path = folder / name
    try:
        return path.is_file() and path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):  # longer than names can be, or with what none has
        return False


def seen(path: Path, name: str) -> Picture | None:
    """A picture's file with its size and hash; None where it is no picture."""
    try:
        data = read_regular(path, MOST_BYTES)
        width, height = images.probe(data)
    except (OSError, ItemError):
        return None
    return Picture(name, width, height, hashlib.sha256(data).hexdigest())


def size_of(width: object, height: object) -> tuple[int, int]:
    """Width and height as a file says them; 0 and 0 where it does not."""
    try:
        found = int(float(str(width))), int(float(str(height)))
    except (ValueError, OverflowError):
        return 0, 0
    return found if min(found) > 0 and max(found) < _MOST_SIDE else (0, 0)


def number(value: object) -> float:
    """A JSON value as a number; not a number (NaN) where it is none."""
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan


def plain_name(name: str) -> str:
    """A picture's name as the tools write it, with ``/`` and without what leads out of a folder.

    >>> plain_name("..\\\\img\\\\a.jpg"), plain_name("/photos/a.jpg")
    ('img/a.jpg', 'photos/a.jpg')
    """
    parts = name.replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def stem_of(name: str) -> str:
    """A name without its ending, where that is one of pictures.

    >>> stem_of("a/b.v2"), stem_of("a/b.JPG")
    ('a/b.v2', 'a/b')
    """
    stem, dot, extension = name.rpartition(".")
    return stem if dot and extension.lower() in PICTURE_EXTENSIONS else name


def are_of_one(name: str, other: str) -> bool:
    """Whether two names may be of one picture: the shorter is how the longer ends, and so are their endings.

    >>> are_of_one("val/a.jpg", "a"), are_of_one("val/a.jpg", "train/a.jpg"), are_of_one("a.jpg", "a.png")
    (True, False, False)
    """
    if name != stem_of(name) and other != stem_of(other) and name.rpartition(".")[2] != other.rpartition(".")[2]:
        return False
    parts, others = PurePosixPath(stem_of(name)).parts, PurePosixPath(stem_of(other)).parts
    least = min(len(parts), len(others))
    return parts[-least:] == others[-least:]


def written_name(image: str, ending: str, used: set[str]) -> str:
    """A path for a picture's annotations: its own with another ending, never out of the folder, never twice.

    >>> used = set()
    >>> [written_name(name, ".txt", used) for name in ("a.jpg", "a.png", "../b.jpg")]
    ['a.txt', 'a.png.txt', 'b.txt']
    """
    plain = plain_name(image) or "picture"
    choices = (f"{stem_of(plain)}{ending}", f"{plain}{ending}", *(f"{plain}.{n}{ending}" for n in range(len(used) + 1)))
    found = next(name for name in choices if name not in used)
    used.add(found)
    return found
