"""Box files of every format as records: the table of formats.

A new format is a file beside this one, and a line in `FORMATS`.
"""

from __future__ import annotations

import errno
import os
import posixpath
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from mgtool.boxes.coordinates import CORNERS, Coordinates, UnscaledRecord, converted
from mgtool.boxes.formats import coco, cvat, fiftyone, jsonl, label_studio, labelme, mg_llava, parquet, rows, voc, yolo
from mgtool.boxes.formats.base import BoxEntry, BoxFile, BoxFormat, Pairs, Records, first_byte
from mgtool.errors import InputError, UsageError, one_of
from mgtool.files import urls
from mgtool.files.folder_tree import named_below
from mgtool.files.regular import refuse_endless
from mgtool.files.temporary import temporary_folder
from mgtool.media import magic
from mgtool.records import BoxRecord, LeftOut

FORMATS = {
    "jsonl": jsonl.FORMAT,
    "parquet": parquet.FORMAT,
    "yolo": yolo.FORMAT,
    "voc": voc.FORMAT,
    "cvat": cvat.FORMAT,
    "fiftyone": fiftyone.FORMAT,
    "csv": rows.FORMAT,
    "labelme": labelme.FORMAT,
    "label-studio": label_studio.FORMAT,
    "coco": coco.FORMAT,
    "mg-llava": mg_llava.FORMAT,
}
"""By the name that `format` gives. Files are recognised in this order; what no format recognises is read as lines."""

FILES = {name: one.files for name, one in FORMATS.items() if one.write is not None}
"""Files that `write` leaves in the folder."""

FOLDERS = {name: one.folders for name, one in FORMATS.items() if one.write is not None}
"""Folders that `write` leaves there."""


WRITTEN = ("jsonl", *FILES)
"""What `write` and whoever writes shards can write."""


def read(path: str) -> Iterator[BoxRecord]:
    """The records of a box file, one at a time.

    Args:
        path: a folder or file of any of `FORMATS` as it lies (records by id have the id in place of the picture's
            name), an fsspec URL of a file, or ``-`` for JSONL on stdin.

    Raises:
        InputError: no such file, one of no known form, or boxes as parts of a picture whose size nothing says; a
            `RecordError` names file, line and field.
    """
    for entry in entries(path):
        if isinstance(entry.record, UnscaledRecord) and entry.record.boxes:
            raise InputError(
                f"{path}: {entry.record.image}: normalised boxes, and its picture does not lie beside them"
            )
        yield entry.record


def entries(path: str, left_out: LeftOut | None = None, coordinates: Coordinates | None = None) -> Iterator[BoxEntry]:
    """The records of a box file with the ids that it knows them by; `path` and errors are those of `read`.

    Args:
        path: see `read`.
        left_out: told of annotations that are not used.
        coordinates: what the boxes' numbers are; None for what the file's format says.

    Raises:
        UsageError: coordinates for a format that says itself what its numbers are.
    """
    unused = LeftOut() if left_out is None else left_out
    if path == "-":
        return _converted(jsonl.read_lines(sys.stdin.buffer, "-"), coordinates or CORNERS)
    if "://" in path:
        return _fetched(path, unused, coordinates)
    file = Path(path)
    if file.is_dir():
        return _read_folder(file, unused, coordinates)
    if not file.exists():
        raise InputError(f"{path}: no such box file or folder")
    refuse_endless(file)
    return _read_file(file, unused, coordinates)


def _fetched(url: str, left_out: LeftOut, coordinates: Coordinates | None) -> Iterator[BoxEntry]:
    """Those of a copy, as files of boxes are read here and there."""
    with temporary_folder("boxes") as folder:
        copy = folder / posixpath.basename(url.partition("?")[0].rstrip("/"))
        try:
            urls.fetch(url, copy)
        except OSError as error:
            raise InputError(f"{url}: cannot be read: {error}") from error
        yield from entries(str(copy), left_out, coordinates)


def _read_folder(folder: Path, left_out: LeftOut, coordinates: Coordinates | None) -> Iterator[BoxEntry]:
    if tars := sorted(folder.glob("*.tar")):
        detail = f"packed tars ({tars[0].name}), no box file; `mgtool pack --unpack` gives their boxes"
        raise InputError(f"{folder}: {detail}")
    shared, files = _files_of(folder)
    if not files:
        raise InputError(f"{folder}: no boxes-*.jsonl, parquet, YOLO labels, XML, CSV or box JSON in this folder")
    for path in files:
        refuse_endless(path)
        if shared is None:
            yield from _read_file(path, left_out, coordinates, folder)
        else:
            yield from _read_as(shared, BoxFile(path, left_out, coordinates, folder))


def _files_of(folder: Path) -> tuple[BoxFormat | None, list[Path]]:
    """The files of boxes in a folder, or the folder itself, with their format; None where each tells its own."""
    for one in FORMATS.values():
        if files := one.in_folder(folder):
            return one, files
    return None, _json_files(sorted(folder.glob("*.json"))) or _json_files(named_below(folder, "*.json"))


def is_read_of(path: str) -> Callable[[str], bool]:
    """What tells of a local file by its path whether it is among those that `entries` reads boxes of."""
    given = Path(path)
    if "://" in path or not given.exists():
        return lambda name: False
    files = _files_of(given)[1] if given.is_dir() else [given]
    known = {os.path.abspath(file) for file in files}  # noqa: PTH100 - links stay
    is_yolo = files == [given] and (given.is_dir() or yolo.recognises(BoxFile(given)))
    root = f"{os.path.abspath(given if given.is_dir() else given.parent)}/"  # noqa: PTH100

    beside = {path.parent for path in map(Path, known) if path.suffix.lower() == rows.ENDING}

    def is_read(name: str) -> bool:
        whole = os.path.abspath(name)  # noqa: PTH100
        if Path(whole).parent in beside and rows.is_read(Path(whole)):
            return True
        return whole in known or (is_yolo and whole.startswith(root) and yolo.is_read(Path(whole)))

    return is_read


def _json_files(files: list[Path]) -> list[Path]:
    """JSON files that hold a list: the images JSON beside COCO results is no box file of its own."""
    return [path for path in files if first_byte(path) == b"["] or files


def _read_file(
    path: Path, left_out: LeftOut, coordinates: Coordinates | None, root: Path | None = None
) -> Iterator[BoxEntry]:
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: cannot be read: {os.strerror(errno.EACCES)}")
    with path.open("rb") as opened:
        packed = magic.archive(opened.read(magic.HEAD_BYTES))
    if packed:
        raise InputError(f"{path}: packed as {packed}: unpack it, and give the folder or file that it holds")
    file = BoxFile(path, left_out, coordinates, root)
    yield from _read_as(_format_of(file), file)


def _read_as(format: BoxFormat, file: BoxFile) -> Iterator[BoxEntry]:
    if format.says_coordinates and file.coordinates is not None:
        raise UsageError("box_format", f"and {file.path}: this kind of file says itself what its numbers are")
    return _converted(format.read(file), file.coordinates or format.coordinates)


def _format_of(file: BoxFile) -> BoxFormat:
    by_ending = {one.ending: one for one in FORMATS.values() if one.ending}
    if file.ending in by_ending:
        return by_ending[file.ending]
    return next((one for one in FORMATS.values() if one.recognises(file)), jsonl.FORMAT)


def _converted(found: Iterator[BoxEntry], coordinates: Coordinates) -> Iterator[BoxEntry]:
    return (entry._replace(record=converted(entry.record, coordinates), read_as=coordinates) for entry in found)


def check(format: str) -> None:
    """Refuse a format that nobody knows."""
    if format not in WRITTEN:
        raise UsageError("format", f"{format}: give one of {one_of(format, WRITTEN)}")


def write(format: str, folder: Path, records: Records, pairs: Pairs) -> None:
    """Write one format other than shards of JSON lines, atomically.

    Args:
        format: a key of `FILES`.
        folder: where to.
        records: gives each distinct picture's record, as often as it is called.
        pairs: each sample's id with its picture's record, for ``mg-llava``.
    """
    if (whole := FORMATS[format].write) is not None:
        whole(folder, records, pairs)
