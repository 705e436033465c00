"""COCO: results with the JSON of their images beside them, or images and annotations in one file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mgtool.boxes.formats.base import BoxEntry, BoxFile, BoxFormat, Pairs, Records, first_byte, write_list
from mgtool.errors import InputError
from mgtool.files.atomic import atomic_file
from mgtool.records import Box, BoxRecord, SampleId, dumps, parse

RESULTS_FILE, IMAGES_FILE = "boxes.json", "images.json"


class CocoResult(msgspec.Struct, frozen=True, gc=False):
    """One detection of COCO's results (or an annotation, whose score is 1)."""

    image_id: SampleId
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float = 1.0


class CocoImage(msgspec.Struct, frozen=True, gc=False):
    """One picture of the images JSON."""

    id: SampleId
    file_name: str
    width: int = 0
    height: int = 0
    sha256: str = ""


class CocoCategory(msgspec.Struct, frozen=True):
    """One class of the images JSON."""

    id: int
    name: str


class CocoImages(NamedTuple):
    """The images JSON: pictures, and classes' names by number."""

    pictures: list[CocoImage]
    names: dict[int, str]


def recognises(file: BoxFile) -> bool:
    """A list of results (an empty one is of pictures without an object), or an object of images and annotations."""
    if file.is_list:
        return file.head is None or "bbox" in file.head
    return file.members is not None and {"images", "annotations"} <= file.members.keys()


def read(file: BoxFile) -> Iterator[BoxEntry]:
    """A record a picture, in the order of the images.

    Raises:
        InputError: results without their images, or of a picture that is not among these.
    """
    if file.members is not None:
        annotations = parse(file.members["annotations"], list[msgspec.Raw], where=f"{file.path}: annotations")
        yield from _entries(annotations, _images_of(file.members, file.path), file.path)
    elif (images := _images_beside(file.path)) is not None:
        yield from _entries(file.elements(), images, file.path)
    elif file.head is not None:
        raise InputError(f"{file.path}: COCO results need the JSON with their `images` and `categories` beside them")


def _images_beside(path: Path) -> CocoImages | None:
    """The images JSON that goes with COCO results: the object with `images`, best with `categories`, beside them."""
    found = []
    for other in sorted(path.parent.glob("*.json")):
        if other != path and first_byte(other) == b"{":
            whole = parse(other.read_bytes(), dict[str, msgspec.Raw], where=str(other))
            found += [(whole, other)] if "images" in whole else []
    return _images_of(*next((one for one in found if "categories" in one[0]), found[0])) if found else None


def _images_of(whole: Mapping[str, msgspec.Raw], path: Path) -> CocoImages:
    pictures = parse(whole["images"], list[CocoImage], where=f"{path}: images")
    categories = parse(whole.get("categories", b"[]"), list[CocoCategory], where=f"{path}: categories")
    return CocoImages(pictures, {category.id: category.name for category in categories})


def _entries(results: Iterable[bytes | msgspec.Raw], images: CocoImages, path: Path) -> Iterator[BoxEntry]:
    found: dict[SampleId, list[CocoResult]] = {picture.id: [] for picture in images.pictures}
    for number, raw in enumerate(results, 1):
        result = parse(raw, CocoResult, where=f"{path}: record {number}")
        if result.image_id not in found:
            raise InputError(f"{path}: record {number}: image_id {result.image_id} is not among the images")
        found[result.image_id].append(result)
    for picture in images.pictures:
        yield BoxEntry(None, _record(picture, found.pop(picture.id, []), images.names))


def _record(picture: CocoImage, results: list[CocoResult], names: Mapping[int, str]) -> BoxRecord:
    ranked = sorted(results, key=lambda result: -result.score)
    return BoxRecord(
        sha256=picture.sha256,
        width=picture.width,
        height=picture.height,
        image=picture.file_name,
        boxes=tuple(_xyxy(result) for result in ranked),
        scores=tuple(result.score for result in ranked),
        labels=tuple(names.get(result.category_id, str(result.category_id)) for result in ranked),
    )


def _xyxy(result: CocoResult) -> Box:
    x, y, width, height = result.bbox
    return (x, y, x + width, y + height)


def write(folder: Path, records: Records, pairs: Pairs) -> None:
    """Results, and the JSON of their images and categories."""
    names = sorted({label for record in records() for label in record.labels or ()})
    numbers = {name: number for number, name in enumerate(names, 1)}
    pictures = [
        {"id": number, "file_name": r.image, "width": r.width, "height": r.height, "sha256": r.sha256}
        for number, r in enumerate(records(), 1)
    ]
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    with atomic_file(folder / IMAGES_FILE) as file:
        file.write(dumps({"images": pictures, "categories": categories}) + b"\n")
    write_list(folder / RESULTS_FILE, _results(records(), numbers))


def _results(records: Iterable[BoxRecord], numbers: dict[str, int]) -> Iterator[dict[str, Any]]:
    for number, record in enumerate(records, 1):
        found = record.detections
        for (x0, y0, x1, y1), score, label in zip(found.boxes, found.scores, found.labels, strict=True):
            yield {
                "image_id": number,
                "category_id": numbers[label],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "score": score,
            }


FORMAT = BoxFormat(recognises=recognises, read=read, files=(RESULTS_FILE, IMAGES_FILE), write=write)
