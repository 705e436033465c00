"""Box files of every form as records."""

from __future__ import annotations

import contextlib
import errno
import itertools
import mmap
import os
import posixpath
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from mgtool.errors import InputError, RecordError
from mgtool.files import json_lists, urls
from mgtool.files.shard_names import list_shards
from mgtool.records import Box, BoxRecord, FrameDetections, SampleId, check_numbers, convert, parse

_BATCH_ROWS = 1024


class Entry(NamedTuple):
    """A record, with the id of the sample it belongs to where the file is one of ids."""

    id: SampleId | None
    record: BoxRecord


class _Frame(msgspec.Struct, frozen=True):
    boxes: tuple[Box, ...] = ()
    scores: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    index: int | None = None
    time: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self.boxes, self.scores, self.labels)


class _Published(msgspec.Struct, frozen=True):
    """One element of the published files, which know only the sample's id."""

    id: SampleId
    boxes: tuple[Box, ...] = ()
    scores: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    frames: tuple[_Frame, ...] | None = None

    def __post_init__(self) -> None:
        check_numbers(self.boxes, self.scores, self.labels)


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


def read(path: str) -> Iterator[BoxRecord]:
    """The records of a box file, one at a time.

    Args:
        path: a folder of ``boxes-*.jsonl``, a JSONL or parquet file, COCO results beside their images JSON,
            a published list or dict by id (the id stands in for the picture's name), an fsspec URL of one of these, or
            ``-`` for JSONL on stdin.

    Raises:
        InputError: no such file, or one of no known form; a `RecordError` names file, line and field.
    """
    return (entry.record for entry in entries(path))


def entries(path: str) -> Iterator[Entry]:
    """The records of a box file with the ids that it knows them by; arguments and errors are those of `read`."""
    if path == "-":
        return _lines(sys.stdin.buffer, "-")
    if "://" in path:
        return _fetched(path)
    file = Path(path)
    if file.is_dir():
        return _folder(file)
    if not file.exists():
        raise InputError(f"{path}: no such box file or folder")
    return _file(file)


def _fetched(url: str) -> Iterator[Entry]:
    """Those of a copy, as files of boxes are read here and there."""
    with tempfile.TemporaryDirectory(prefix="mgtool-boxes-") as folder:
        copy = Path(folder) / posixpath.basename(url.partition("?")[0].rstrip("/"))
        try:
            urls.fetch(url, copy)
        except OSError as error:
            raise InputError(f"{url}: cannot be read: {error}") from error
        yield from entries(str(copy))


def _folder(folder: Path) -> Iterator[Entry]:
    files = list_shards(folder, "boxes", ".jsonl") or sorted(folder.glob("*.parquet")) or _json_files(folder)
    if not files:
        raise InputError(f"{folder}: no boxes-*.jsonl, parquet or box JSON in this folder")
    for file in files:
        yield from _file(file)


def _json_files(folder: Path) -> list[Path]:
    """JSON files that hold a list: the images JSON beside COCO results is no box file of its own."""
    files = sorted(folder.glob("*.json"))
    return [path for path in files if _first_byte(path) == b"["] or files


def _file(path: Path) -> Iterator[Entry]:
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: cannot be read: {os.strerror(errno.EACCES)}")
    if path.suffix.lower() == ".parquet":
        yield from _parquet(path)
    elif path.suffix.lower() == ".jsonl":
        with path.open("rb") as file:
            yield from _lines(file, str(path))
    else:
        yield from _json(path)


def _first_byte(path: Path) -> bytes:
    if not os.access(path, os.R_OK):
        return b""
    with path.open("rb") as file:
        return file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]


def _lines(file: IO[bytes], where: str) -> Iterator[Entry]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield _line(line, f"{where}:{number}")


def _line(line: bytes, where: str) -> Entry:
    try:
        return Entry(None, parse(line, BoxRecord, where=where))
    except RecordError:  # one by id, or one whose fault is told by field
        return _entry(parse(line, dict[str, Any], where=where), where)


def _entry(fields: Mapping[str, Any], where: str) -> Entry:
    if "id" in fields and "sha256" not in fields:
        if not {"boxes", "frames"} & fields.keys():
            raise RecordError(f"{where}: neither `boxes` nor `frames` in the record of {fields['id']}")
        return _published(convert(fields, _Published, where=where))
    return Entry(None, convert(fields, BoxRecord, where=where))


def _parquet(path: Path) -> Iterator[Entry]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                for row in batch.to_pylist():
                    yield _entry({key: value for key, value in row.items() if value is not None}, str(path))
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable parquet file: {error}") from error


def _json(path: Path) -> Iterator[Entry]:
    with path.open("rb") as file:
        if _first_byte(path) == b"[":
            yield from _listed(json_lists.elements(file, where=str(path)), path)
            return
        with _mapped(file) as data:
            try:
                whole = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
            except (msgspec.DecodeError, UnicodeDecodeError):
                file.seek(0)
                yield from _lines(file, str(path))
                return
            yield from _decoded(whole, path)


def _listed(elements: Iterator[bytes], path: Path) -> Iterator[Entry]:
    first = next(elements, None)
    if first is None:  # no object in any picture, where it is of COCO's form
        beside = _images_beside(path)
        yield from _coco((), *beside, path) if beside else ()
        return
    elements = itertools.chain([first], elements)
    if "bbox" in parse(first, dict[str, Any], where=f"{path}: record 1"):
        beside = _images_beside(path)
        if beside is None:
            raise InputError(f"{path}: COCO results need the JSON with their `images` and `categories` beside them")
        yield from _coco(elements, *beside, path)
        return
    for number, element in enumerate(elements, 1):
        where = f"{path}: record {number}"
        yield _entry(parse(element, dict[str, Any], where=where), where)


@contextlib.contextmanager
def _mapped(file: IO[bytes]) -> Iterator[bytes | mmap.mmap]:
    try:
        yield mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise InputError(f"{file.name}: the file is empty") from error


def _decoded(whole: dict[str, msgspec.Raw], path: Path) -> Iterator[Entry]:
    if "annotations" in whole and "images" in whole:
        results = parse(whole["annotations"], list[msgspec.Raw], where=f"{path}: annotations")
        yield from _coco(results, *_images_of(whole, path), path)
    elif "sha256" in whole or "boxes" in whole:
        yield _entry({key: msgspec.json.decode(raw) for key, raw in whole.items()}, str(path))
    else:
        for name, raw in whole.items():
            where = f"{path}: {name}"
            yield _entry({**parse(raw, dict[str, Any], where=where), "id": name}, where)


def _published(entry: _Published) -> Entry:
    name, frames = str(entry.id), None
    if entry.frames is not None:
        frames = tuple(
            FrameDetections(index if frame.index is None else frame.index, frame.time, *_ranked(frame))
            for index, frame in enumerate(entry.frames)
        )
        return Entry(entry.id, BoxRecord(sha256="", width=0, height=0, video=name, frames=frames))
    boxes, scores, labels = _ranked(entry)
    return Entry(
        entry.id, BoxRecord(sha256="", width=0, height=0, image=name, boxes=boxes, scores=scores, labels=labels)
    )


def _ranked(found: _Published | _Frame) -> tuple[tuple[Box, ...], tuple[float, ...], tuple[str, ...]]:
    """Boxes, scores and labels, best first."""
    order = sorted(range(len(found.scores)), key=lambda row: -found.scores[row])
    return (
        tuple(found.boxes[row] for row in order),
        tuple(found.scores[row] for row in order),
        tuple(found.labels[row] for row in order),
    )


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
