"""Box files of every form as records, and an index of them that stays on disk."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import mmap
import os
import posixpath
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from mgtool import jsonlists, tars, urls
from mgtool.errors import InputError, ItemError, OutputError, RecordError
from mgtool.records import Box, BoxRecord, Detections, FrameDetections, SampleId, convert, dumps, parse
from mgtool.shards import list_shards

_BATCH_ROWS = 1024


class _Entry(NamedTuple):
    """A record, with the id of the sample it belongs to where the file is one of ids."""

    id: SampleId | None
    record: BoxRecord


class _Frame(msgspec.Struct, frozen=True):
    boxes: tuple[Box, ...] = ()
    scores: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    index: int | None = None
    time: float = 0.0


class _Published(msgspec.Struct, frozen=True):
    """One element of the published files, which know only the sample's id."""

    id: SampleId
    boxes: tuple[Box, ...] = ()
    scores: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    frames: tuple[_Frame, ...] | None = None


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
    return (entry.record for entry in _entries(path))


class BoxIndex:
    """Box records by picture, video or sample id, held in a temporary file; memory stays flat.

    A pickled index opens the same file; only the one that made it deletes it.

    Attributes:
        count: number of records.
        sha256: of the records, whatever form the file had.
    """

    def __init__(self, path: str) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = tempfile.TemporaryDirectory(prefix="mgtool-boxes-")
        self._file = str(Path(self._folder.name) / "boxes.sqlite")
        self._database = sqlite3.connect(self._file)
        try:
            self.count = self._fill(path)
        except sqlite3.OperationalError as error:
            self.close()
            raise OutputError(f"{self._file}: cannot be written: {error}; TMPDIR names another folder") from error
        except BaseException:
            self.close()
            raise

    def __getstate__(self) -> dict[str, Any]:
        return {"file": self._file, "count": self.count, "sha256": self.sha256}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._folder, self._file = None, state["file"]
        self.count, self.sha256 = state["count"], state["sha256"]
        self._database = sqlite3.connect(f"file:{self._file}?mode=ro", uri=True)

    def __enter__(self) -> BoxIndex:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close, and delete the file where this index made it."""
        self._database.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def find_record(
        self,
        *,
        sha256: str | None = None,
        image: str | None = None,
        video: str | None = None,
        id: Any = None,
        size: Callable[[], tuple[int, int]] | None = None,
    ) -> BoxRecord | None:
        """The record of a picture or video: by its bytes, else by its name, else by the sample's id.

        Args:
            sha256, image, video, id: what is known of it.
            size: gives the picture's width and height; asked where the name alone agrees.

        Raises:
            ItemError: ``bad_boxes`` where the picture of that name has another size.
        """
        keys = (f"s:{sha256}" if sha256 else "", f"i:{image}" if image else "", f"v:{video}" if video else "")
        for key in (*keys, f"d:{id}" if id is not None else ""):
            query = "SELECT data FROM keys JOIN records ON record = number WHERE key = ?"
            row = self._database.execute(query, (key,)).fetchone() if key else None
            if row is not None:
                record = parse(row[0], BoxRecord, where=self._file)
                if record.image and record.sha256 != sha256 and size is not None:
                    _refuse_other_size(record, *size())
                return record
        return None

    def find(
        self,
        *,
        sha256: str | None = None,
        image: str | None = None,
        id: Any = None,
        size: Callable[[], tuple[int, int]] | None = None,
    ) -> Detections | None:
        """The objects of a picture; None where the file does not know it (which is not the same as no objects).

        Arguments and errors are those of `find_record`.
        """
        record = self.find_record(sha256=sha256, image=image, id=id, size=size)
        return None if record is None or record.frames is not None else record.detections

    def find_video(
        self, *, sha256: str | None = None, video: str | None = None, id: Any = None
    ) -> tuple[Detections, ...] | None:
        """The objects of each frame of a video, in order of time; None where the file does not know it."""
        record = self.find_record(sha256=sha256, video=video, id=id)
        if record is None or record.frames is None:
            return None
        return tuple(tars.frame_detections(frame) for frame in record.frames)

    def _fill(self, path: str) -> int:
        database = self._database
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.execute("CREATE TABLE records (number INTEGER PRIMARY KEY, data BLOB)")
        database.execute("CREATE TABLE keys (key TEXT PRIMARY KEY, record INTEGER) WITHOUT ROWID")
        number, content = 0, hashlib.sha256()
        for number, entry in enumerate(_entries(path), 1):
            data = dumps(entry.record)
            content.update(data + b"\n")
            database.execute("INSERT INTO records VALUES (?, ?)", (number, data))
            names = ((key, number) for key in _keys(entry))
            database.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?)", names)
        database.commit()
        self.sha256 = content.hexdigest()
        return number


def _refuse_other_size(record: BoxRecord, width: int, height: int) -> None:
    if record.width and (record.width, record.height) != (width, height):
        is_of = f"{record.width} x {record.height} pixels, the picture has {width} x {height}"
        raise ItemError("bad_boxes", f"{record.image}: the boxes are of one of {is_of}")


def _keys(entry: _Entry) -> list[str]:
    """What a record is looked up by; a text may name a picture, as the ids of `detect --format mg-llava` do."""
    record = entry.record
    named = {"s:": record.sha256, "i:": record.image, "v:": record.video}
    names = [] if isinstance(entry.id, int) else [prefix + name for prefix, name in named.items() if name]
    return names if entry.id is None else [f"d:{entry.id}", *names]


def _entries(path: str) -> Iterator[_Entry]:
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


def _fetched(url: str) -> Iterator[_Entry]:
    """Those of a copy, as files of boxes are read here and there."""
    with tempfile.TemporaryDirectory(prefix="mgtool-boxes-") as folder:
        copy = Path(folder) / posixpath.basename(url.partition("?")[0].rstrip("/"))
        try:
            urls.fetch(url, copy)
        except OSError as error:
            raise InputError(f"{url}: cannot be read: {error}") from error
        yield from _entries(str(copy))


def _folder(folder: Path) -> Iterator[_Entry]:
    files = list_shards(folder, "boxes", ".jsonl") or sorted(folder.glob("*.parquet")) or _json_files(folder)
    if not files:
        raise InputError(f"{folder}: no boxes-*.jsonl, parquet or box JSON in this folder")
    for file in files:
        yield from _file(file)


def _json_files(folder: Path) -> list[Path]:
    """JSON files that hold a list: the images JSON beside COCO results is no box file of its own."""
    files = sorted(folder.glob("*.json"))
    return [path for path in files if _first_byte(path) == b"["] or files


def _file(path: Path) -> Iterator[_Entry]:
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


def _lines(file: IO[bytes], where: str) -> Iterator[_Entry]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield _line(line, f"{where}:{number}")


def _line(line: bytes, where: str) -> _Entry:
    try:
        return _Entry(None, parse(line, BoxRecord, where=where))
    except RecordError:  # one by id, or one whose fault is told by field
        return _entry(parse(line, dict[str, Any], where=where), where)


def _entry(fields: Mapping[str, Any], where: str) -> _Entry:
    if "id" in fields and "sha256" not in fields:
        if not {"boxes", "frames"} & fields.keys():
            raise RecordError(f"{where}: neither `boxes` nor `frames` in the record of {fields['id']}")
        return _published(convert(fields, _Published, where=where), where)
    return _Entry(None, convert(fields, BoxRecord, where=where))


def _parquet(path: Path) -> Iterator[_Entry]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                for row in batch.to_pylist():
                    yield _entry({key: value for key, value in row.items() if value is not None}, str(path))
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable parquet file: {error}") from error


def _json(path: Path) -> Iterator[_Entry]:
    with path.open("rb") as file:
        if _first_byte(path) == b"[":
            yield from _listed(jsonlists.elements(file, where=str(path)), path)
            return
        with _mapped(file) as data:
            try:
                whole = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
            except (msgspec.DecodeError, UnicodeDecodeError):
                file.seek(0)
                yield from _lines(file, str(path))
                return
            yield from _decoded(whole, path)


def _listed(elements: Iterator[bytes], path: Path) -> Iterator[_Entry]:
    first = next(elements, None)
    if first is None:
        return
    elements = itertools.chain([first], elements)
    if "bbox" in parse(first, dict[str, Any], where=f"{path}: record 1"):
        yield from _coco(elements, *_images_beside(path), path)
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


def _decoded(whole: dict[str, msgspec.Raw], path: Path) -> Iterator[_Entry]:
    if "annotations" in whole and "images" in whole:
        results = parse(whole["annotations"], list[msgspec.Raw], where=f"{path}: annotations")
        yield from _coco(results, *_images_of(whole, path), path)
    elif "sha256" in whole or "boxes" in whole:
        yield _entry({key: msgspec.json.decode(raw) for key, raw in whole.items()}, str(path))
    else:
        for name, raw in whole.items():
            where = f"{path}: {name}"
            yield _entry({**parse(raw, dict[str, Any], where=where), "id": name}, where)


def _published(entry: _Published, where: str) -> _Entry:
    name, frames = str(entry.id), None
    if entry.frames is not None:
        frames = tuple(
            FrameDetections(index if frame.index is None else frame.index, frame.time, *_ranked(frame, where))
            for index, frame in enumerate(entry.frames)
        )
        return _Entry(entry.id, BoxRecord(sha256="", width=0, height=0, video=name, frames=frames))
    boxes, scores, labels = _ranked(entry, where)
    return _Entry(
        entry.id, BoxRecord(sha256="", width=0, height=0, image=name, boxes=boxes, scores=scores, labels=labels)
    )


def _ranked(found: _Published | _Frame, where: str) -> tuple[tuple[Box, ...], tuple[float, ...], tuple[str, ...]]:
    """Boxes, scores and labels, best first."""
    if not len(found.boxes) == len(found.scores) == len(found.labels):
        raise InputError(f"{where}: {len(found.boxes)} boxes, {len(found.scores)} scores, {len(found.labels)} labels")
    order = sorted(range(len(found.scores)), key=lambda row: -found.scores[row])
    return (
        tuple(found.boxes[row] for row in order),
        tuple(found.scores[row] for row in order),
        tuple(found.labels[row] for row in order),
    )


def _images_beside(path: Path) -> tuple[list[_Picture], dict[int, str]]:
    """The images JSON that goes with COCO results: the object with `images`, best with `categories`, beside them."""
    found = []
    for other in sorted(path.parent.glob("*.json")):
        if other != path and _first_byte(other) == b"{":
            whole = parse(other.read_bytes(), dict[str, msgspec.Raw], where=str(other))
            found += [(whole, other)] if "images" in whole else []
    if found:
        return _images_of(*next((one for one in found if "categories" in one[0]), found[0]))
    raise InputError(f"{path}: COCO results need the JSON with their `images` and `categories` in the same folder")


def _images_of(whole: Mapping[str, msgspec.Raw], path: Path) -> tuple[list[_Picture], dict[int, str]]:
    pictures = parse(whole["images"], list[_Picture], where=f"{path}: images")
    categories = parse(whole.get("categories", b"[]"), list[_Category], where=f"{path}: categories")
    return pictures, {category.id: category.name for category in categories}


def _coco(
    results: Iterable[bytes | msgspec.Raw], pictures: list[_Picture], names: Mapping[int, str], path: Path
) -> Iterator[_Entry]:
    found: dict[SampleId, list[_Result]] = {picture.id: [] for picture in pictures}
    for number, raw in enumerate(results, 1):
        result = parse(raw, _Result, where=f"{path}: record {number}")
        if result.image_id not in found:
            raise InputError(f"{path}: record {number}: image_id {result.image_id} is not among the images")
        found[result.image_id].append(result)
    for picture in pictures:
        ranked = sorted(found.pop(picture.id, []), key=lambda result: -result.score)
        yield _Entry(
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
