"""COCO results with the JSON of their images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from mgtool.boxes.formats.base import Entry, _first_byte, _write_list
from mgtool.errors import InputError
from mgtool.files.atomic import atomic_file
from mgtool.records import Box, BoxRecord, SampleId, dumps, parse


class _Result(msgspec.Struct, frozen=True, gc=False):
    """One detection of COCO's results (or an annotation, whose score is 1)."""

    image_id: SampleId
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float = 1.0


class _Picture(msgspec.Struct, frozen=True, gc=False):
    id: SampleId
    file_name: str
    width: int = 0
    height: int = 0
    sha256: str = ""


class _Category(msgspec.Struct, frozen=True):
    id: int
    name: str


def _images_beside(path: Path) -> tuple[list[_Picture], dict[int, str]] | None:
    """The images JSON that goes with COCO results: the object with `images`, best with `categories`, beside them."""
    found = []
    for other in sorted(path.parent.glob("*.json")):
        if other != path and _first_byte(other) == b"{":
            whole = parse(other.read_bytes(), dict[str, msgspec.Raw], where=str(other))
            found += [(whole, other)] if "images" in whole else []
    return _images_of(*next((one for one in found if "categories" in one[0]), found[0])) if found else None


def _images_of(whole: Mapping[str, msgspec.Raw], path: Path) -> tuple[list[_Picture], dict[int, str]]:
    pictures = parse(whole["images"], list[_Picture], where=f"{path}: images")
    categories = parse(whole.get("categories", b"[]"), list[_Category], where=f"{path}: categories")
    return pictures, {category.id: category.name for category in categories}


def _coco(
    results: Iterable[bytes | msgspec.Raw], pictures: list[_Picture], names: Mapping[int, str], path: Path
) -> Iterator[Entry]:
    found: dict[SampleId, list[_Result]] = {picture.id: [] for picture in pictures}
    for number, raw in enumerate(results, 1):
        result = parse(raw, _Result, where=f"{path}: record {number}")
        if result.image_id not in found:
            raise InputError(f"{path}: record {number}: image_id {result.image_id} is not among the images")
        found[result.image_id].append(result)
    for picture in pictures:
        ranked = sorted(found.pop(picture.id, []), key=lambda result: -result.score)
        yield Entry(
            None,
            BoxRecord(
                sha256=picture.sha256,
                width=picture.width,
                height=picture.height,
                image=picture.file_name,
                boxes=tuple(_xyxy(result) for result in ranked),
                scores=tuple(result.score for result in ranked),
                labels=tuple(names.get(result.category_id, str(result.category_id)) for result in ranked),
            ),
        )


def _xyxy(result: _Result) -> Box:
    x, y, width, height = result.bbox
    return (x, y, x + width, y + height)


def _write_coco(folder: Path, records: Callable[[], Iterator[BoxRecord]]) -> None:
    names = sorted({label for record in records() for label in record.labels or ()})
    numbers = {name: number for number, name in enumerate(names, 1)}
    pictures = [
        {"id": number, "file_name": r.image, "width": r.width, "height": r.height, "sha256": r.sha256}
        for number, r in enumerate(records(), 1)
    ]
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    with atomic_file(folder / "images.json") as file:
        file.write(dumps({"images": pictures, "categories": categories}) + b"\n")
    _write_list(folder / "boxes.json", _results(records(), numbers))


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
