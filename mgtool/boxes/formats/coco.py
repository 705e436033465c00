"""COCO: results with the JSON of their images beside them, or images and annotations in one file."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mgtool.boxes.coordinates import Coordinates
from mgtool.boxes.formats.base import BoxEntry, BoxFile, BoxFormat, Pairs, Records, first_byte, write_list
from mgtool.boxes.formats.grouped import Best, Grouped
from mgtool.boxes.formats.labelled import plain_name
from mgtool.errors import InputError, RecordError
from mgtool.files.atomic import atomic_file
from mgtool.files.not_finite import parse_with_nan, with_nulls
from mgtool.records import BoxRecord, LeftOut, SampleId, Side, dumps, parse

RESULTS_FILE, IMAGES_FILE = "boxes.json", "images.json"
_BOX, _SOME = re.compile(rb'"bbox"'), re.compile(rb"\s*+\[\s*+[^\s\]]")
"""What annotations with boxes hold, and how a list begins that is not empty."""


class CocoResult(msgspec.Struct, frozen=True, gc=False):
    """One detection of COCO's results (or an annotation, whose score is 1)."""

    image_id: SampleId
    category_id: int = 0
    bbox: tuple[float, float, float, float] | None = None
    score: float = 1.0
    iscrowd: int = 0


class CocoImage(msgspec.Struct, frozen=True, gc=False):
    """One picture of the images JSON."""

    id: SampleId
    file_name: str
    width: Side | None = 0
    height: Side | None = 0
    sha256: str = ""


class CocoCategory(msgspec.Struct, frozen=True):
    """One class of the images JSON."""

    id: int
    name: str


class CocoImages(NamedTuple):
    """The images JSON: pictures, classes' names by number, and whether the pictures' names begin with their folder."""

    pictures: list[CocoImage]
    names: dict[int, str]
    is_placed: bool = False

    def label(self, category: int) -> str:
        """A class's name; its number where it has none."""
        return self.names[category] if category in self.names else str(category)


def recognises(file: BoxFile) -> bool:
    """A list of results (an empty one is of pictures without an object), or an object of images and annotations."""
    if file.is_list:
        return file.head is None or "bbox" in file.head
    return file.members is not None and "images" in file.members


def read(file: BoxFile) -> Iterator[BoxEntry]:
    """A record a picture, in the order of the images.

    Raises:
        InputError: results without their images, or of a picture that is not among these; images without annotations.
    """
    if file.members is not None:
        if "annotations" not in file.members:
            raise InputError(f"{file.path}: a COCO file without `annotations`: there are no boxes in it")
        own = _placed(_images_of(file.members, file.path, file.left_out), file)
        annotations = file.members["annotations"]
        if _BOX.search(annotations) or not _SOME.match(annotations):
            yield from _entries(file.elements_of("annotations"), own, file, is_results=False)
        elif file.root is None:
            raise InputError(f"{file.path}: no annotation has a `bbox`, as those of captions: there are no boxes in it")
        else:
            file.left_out.add("COCO files without boxes", str(file.path))
    elif (images := _images_beside(file)) is not None:
        yield from _entries(file.elements(), images, file, is_results=True)
    elif file.head is not None:
        raise InputError(f"{file.path}: COCO results need the JSON with their `images` and `categories` beside them")


def _placed(images: CocoImages, file: BoxFile) -> CocoImages:
    """The images, called as from the folder on that has the file among others, where their own folder is seen."""
    if file.root is None or not images.pictures:
        return images
    beside, split = file.path.parent, file.path.stem.rpartition("_")[2]
    folders = (beside, beside / "images", beside / split, beside.parent / split, beside.parent / "images" / split)
    first = plain_name(images.pictures[0].file_name)
    own = next((folder for folder in folders if (folder / first).is_file()), None)
    if own is None or own == file.root or not own.is_relative_to(file.root):
        return images
    begin = own.relative_to(file.root).as_posix()
    moved = [msgspec.structs.replace(one, file_name=f"{begin}/{one.file_name}") for one in images.pictures]
    return images._replace(pictures=moved, is_placed=True)


def _images_beside(file: BoxFile) -> CocoImages | None:
    """The images JSON that goes with COCO results, of the objects with `images` beside them.

    Raises:
        InputError: several that could be it, and call pictures of the results by different names.
    """
    found: list[tuple[CocoImages, Path]] = []
    for other in sorted(file.path.parent.glob("*.json")):
        if other != file.path and first_byte(other) == b"{":
            whole = parse(with_nulls(other.read_bytes()), dict[str, msgspec.Raw], where=str(other))
            found += [(_images_of(whole, other, file.left_out), other)] if "images" in whole else []
    if len(found) < 2:
        return found[0][0] if found else None
    pictures, classes = _named_in(file)
    return _one_of(found, file.path, pictures, classes)


def _named_in(file: BoxFile) -> tuple[set[str], set[int]]:
    """The ids of pictures and classes that results name."""
    pictures, classes = set(), set()
    for number, raw in enumerate(file.elements(), 1):
        result = parse_with_nan(raw, CocoResult, where=f"{file.path}: record {number}")
        pictures.add(str(result.image_id))
        classes.add(result.category_id)
    return pictures, classes


def _one_of(
    found: Sequence[tuple[CocoImages, Path]], path: Path, pictures: Collection[str], classes: Collection[int]
) -> CocoImages:
    """The one that knows the results' pictures, and whose name shares the most words with theirs."""
    fitting = [one for one in found if set(pictures) <= {str(picture.id) for picture in one[0].pictures}] or found
    words = _words(path)
    most = max(len(words & _words(other)) for _, other in fitting)
    fitting = [one for one in fitting if len(words & _words(one[1])) == most]
    names = [_names_of(images, pictures) for images, _ in fitting]
    if any(one != names[0] for one in names):
        listed = ", ".join(other.name for _, other in fitting)
        raise InputError(f"{path}: ambiguous: each of {listed} may have the `images` of these results; keep one there")
    return max(fitting, key=lambda one: len(set(classes) & one[0].names.keys()))[0]


def _words(path: Path) -> set[str]:
    """Words of a file's name, for instance ``val``; years are part of none."""
    return set(re.findall(r"[a-z]+", path.stem.lower()))


def _names_of(images: CocoImages, wanted: Collection[str]) -> dict[str, str]:
    return {str(picture.id): picture.file_name for picture in images.pictures if str(picture.id) in wanted}


def _images_of(whole: Mapping[str, msgspec.Raw], path: Path, left_out: LeftOut) -> CocoImages:
    """The images and classes; what is none is counted."""
    pictures = list[CocoImage]()
    for number, raw in enumerate(parse(whole["images"], list[msgspec.Raw], where=f"{path}: images"), 1):
        try:
            pictures.append(parse(bytes(raw), CocoImage, where=f"{path}: image {number}"))
        except RecordError as error:
            left_out.add("images of COCO files that are none", str(error))
    categories = parse(whole.get("categories", b"[]"), list[CocoCategory], where=f"{path}: categories")
    return CocoImages(pictures, {category.id: category.name for category in categories})


def _entries(results: Iterable[bytes], images: CocoImages, file: BoxFile, *, is_results: bool) -> Iterator[BoxEntry]:
    """A record a picture; an id is one whether it is a number or its text."""
    places = {str(picture.id): place for place, picture in reversed(list(enumerate(images.pictures)))}
    found = Grouped()
    for number, raw in enumerate(results, 1):
        where = f"{file.path}: record {number}"
        result = _result(raw, where, file.left_out, is_results=is_results)
        if result is None or result.bbox is None:
            continue
        place = places.get(str(result.image_id))
        if place is not None:
            found.add(place, images.label(result.category_id), result.bbox, result.score)
        elif is_results:
            raise InputError(f"{where}: image_id {result.image_id} is not among the images")
        else:
            file.left_out.add("annotations of pictures that the file does not have", where)
    for picture, best in zip(images.pictures, found.pictures(len(images.pictures)), strict=True):
        best.tell(file.left_out, picture.file_name)
        yield BoxEntry(None, _record(picture, best), is_loose=images.is_placed)


def _result(raw: bytes, where: str, left_out: LeftOut, *, is_results: bool) -> CocoResult | None:
    """A box; None for an annotation that has none, or is of a crowd, which are counted."""
    try:
        result = parse_with_nan(raw, CocoResult, where=where)
    except RecordError as error:
        if is_results:
            raise
        left_out.add("annotations that are no boxes", str(error))
        return None
    if result.bbox is None and is_results:
        raise RecordError(f"{where}: Object missing required field `bbox`")
    if result.bbox is None:
        left_out.add("annotations without `bbox`", where)
    elif result.iscrowd:
        left_out.add("annotations of crowds (`iscrowd`)", where)
    return None if result.iscrowd or result.bbox is None else result


def _record(picture: CocoImage, best: Best) -> BoxRecord:
    return BoxRecord(
        sha256=picture.sha256,
        width=picture.width or 0,
        height=picture.height or 0,
        image=picture.file_name,
        boxes=best.boxes,
        scores=best.scores,
        labels=best.labels,
    )


def write(folder: Path, records: Records, pairs: Pairs) -> None:
    """Results, and the JSON of their images and categories."""
    names = sorted({label for record in records() for label in record.labels or ()})
    numbers = {name: number for number, name in enumerate(names, 1)}
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    with atomic_file(folder / IMAGES_FILE) as file:
        file.write(b'{"images":[')
        for number, record in enumerate(records(), 1):
            file.write((b"," if number > 1 else b"") + dumps(_picture(number, record)))
        file.write(b'],"categories":' + dumps(categories) + b"}\n")
    write_list(folder / RESULTS_FILE, _results(records(), numbers))


def _picture(number: int, record: BoxRecord) -> dict[str, Any]:
    size = {"width": record.width, "height": record.height}
    return {"id": number, "file_name": record.image, **size, "sha256": record.sha256}


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


FORMAT = BoxFormat(
    recognises=recognises,
    read=read,
    files=(RESULTS_FILE, IMAGES_FILE),
    write=write,
    coordinates=Coordinates("xywh"),
    by_name=True,
    has_videos=False,
)
