"""Pascal VOC: an XML file a picture, its pixels counted from 1, a box's last ones included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from mgtool.boxes.formats import labelled
from mgtool.boxes.formats.base import BoxEntry, BoxFile, BoxFormat, Pairs, Records
from mgtool.boxes.formats.labelled import Labelled, Picture
from mgtool.boxes.formats.xml_elements import elements, is_of, text_of
from mgtool.files.atomic import atomic_folder
from mgtool.files.folder_tree import named_below
from mgtool.media.names import PICTURE_EXTENSIONS
from mgtool.records import BoxRecord, LeftOut

ENDING = ".xml"
ROOT = "annotation"
FOLDER, PICTURES = "Annotations", ("", "../JPEGImages", "../images", "../imgs")
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def recognises(file: BoxFile) -> bool:
    """An XML file of one picture."""
    return file.ending == ENDING and is_of(file.path, ROOT)


def in_folder(folder: Path) -> list[Path]:
    """The XML files of pictures, in folders below it, too."""
    return [path for path in named_below(folder, f"*{ENDING}") if is_of(path, ROOT)]


def read(file: BoxFile) -> Iterator[BoxEntry]:
    """The record of the file's picture."""
    for root in elements(file.path, ROOT):
        objects = (_object(found, file.left_out, str(file.path)) for found in root.iterfind("object"))
        found = [one for one in objects if one is not None]
        yield labelled.entry(_picture(root, file.path), found)


def _picture(root: Element, path: Path) -> Picture:
    """The picture that a file names, or else the one that is called as the file is."""
    said = labelled.plain_name(text_of(root, "filename"))
    size = labelled.size_of(text_of(root, "size/width"), text_of(root, "size/height"))
    names = [said, *(f"{path.stem}.{extension}" for extension in sorted(PICTURE_EXTENSIONS))]
    folders = [(path.parent / folder, name) for name in names for folder in PICTURES]
    sha256 = text_of(root, "sha256")
    if sha256:
        return Picture(text_of(root, "filename"), *size, sha256)
    return labelled.look_beside(Picture(said or path.stem, *size), folders)


def _object(found: Element, left_out: LeftOut, where: str) -> Labelled | None:
    """An object; None for one without a box, which is counted."""
    sides = [text_of(found, f"bndbox/{side}") for side in _SIDES]
    try:
        x0, y0, x1, y1 = map(float, sides)
        score = float(text_of(found, "score") or 1)
    except ValueError:
        left_out.add("objects without a box in numbers", f"{where}: {text_of(found, 'name')}")
        return None
    left, top, right, bottom = labelled.around([(x0, y0), (x1, y1)])
    return Labelled(text_of(found, "name"), (left - 1, top - 1, right, bottom), score)


def write(folder: Path, records: Records, pairs: Pairs) -> None:
    """A file a picture."""
    used = set[str]()
    with atomic_folder(folder / FOLDER) as aside:
        for record in records():
            path = aside / labelled.written_name(record.image, ENDING, used)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tostring(_element(record), encoding="utf-8"))


def _element(record: BoxRecord) -> Element:
    root = Element(ROOT)
    SubElement(root, "filename").text = _printable(record.image)
    SubElement(root, "sha256").text = record.sha256
    size = SubElement(root, "size")
    for name, value in (("width", record.width), ("height", record.height), ("depth", 3)):
        SubElement(size, name).text = str(value)
    found = record.detections
    for (x0, y0, x1, y1), score, label in zip(found.boxes, found.scores, found.labels, strict=True):
        one = SubElement(root, "object")
        SubElement(one, "name").text = _printable(label)
        SubElement(one, "score").text = repr(score)
        box = SubElement(one, "bndbox")
        for side, edge in zip(_SIDES, (x0 + 1, y0 + 1, x1, y1), strict=True):
            SubElement(box, side).text = repr(edge)
    indent(root)
    return root


def _printable(text: str) -> str:
    """A text without the control characters and halves of characters that XML has no place for."""
    return "".join(one if one.isprintable() else "�" for one in text)


FORMAT = BoxFormat(
    recognises=recognises,
    in_folder=in_folder,
    read=read,
    folders=(FOLDER,),
    write=write,
    by_name=True,
    says_coordinates=True,
    has_videos=False,
)
