"""Box files of every format as records: the table of formats.

A new format is a file beside this one, and a line in `FORMATS`.
"""

from __future__ import annotations

import errno
import os
import posixpath
import sys
from collections.abc import Iterator
from pathlib import Path

from mgtool.boxes.formats import coco, jsonl, mg_llava, parquet
from mgtool.boxes.formats.base import BoxEntry, BoxFile, BoxFormat, Pairs, Records, first_byte
from mgtool.errors import InputError, UsageError, one_of
from mgtool.files import urls
from mgtool.files.regular import refuse_endless
from mgtool.files.temporary import temporary_folder
from mgtool.records import BoxRecord, LeftOut

FORMATS = {
    "jsonl": jsonl.FORMAT,
    "coco": coco.FORMAT,
    "mg-llava": mg_llava.FORMAT,
    "parquet": parquet.FORMAT,
}
"""By the name that `format` gives. Files are recognised in this order; what no format recognises is read as lines."""

FILES = {name: one.files for name, one in FORMATS.items() if one.write is not None}
"""What `write` leaves in the folder."""


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


def entries(path: str, left_out: LeftOut | None = None) -> Iterator[BoxEntry]:
    """The records of a box file with the ids that it knows them by; arguments and errors are those of `read`.

    `left_out` is told of annotations that are not used.
    """
    unused = LeftOut() if left_out is None else left_out
    if path == "-":
        return jsonl.read_lines(sys.stdin.buffer, "-")
    if "://" in path:
        return _fetched(path, unused)
    file = Path(path)
    if file.is_dir():
        return _read_folder(file, unused)
    if not file.exists():
        raise InputError(f"{path}: no such box file or folder")
    refuse_endless(file)
    return _read_file(file, unused)


def _fetched(url: str, left_out: LeftOut) -> Iterator[BoxEntry]:
    """Those of a copy, as files of boxes are read here and there."""
    with temporary_folder("boxes") as folder:
        copy = folder / posixpath.basename(url.partition("?")[0].rstrip("/"))
        try:
            urls.fetch(url, copy)
        except OSError as error:
            raise InputError(f"{url}: cannot be read: {error}") from error
        yield from entries(str(copy), left_out)


def _read_folder(folder: Path, left_out: LeftOut) -> Iterator[BoxEntry]:
    if tars := sorted(folder.glob("*.tar")):
        detail = f"packed tars ({tars[0].name}), no box file; `mgtool pack --unpack` gives their boxes"
        raise InputError(f"{folder}: {detail}")
    listed = (one.in_folder(folder) for one in FORMATS.values())
    files = next(filter(None, listed), None) or _json_files(folder)
    if not files:
        raise InputError(f"{folder}: no boxes-*.jsonl, parquet or box JSON in this folder")
    for file in files:
        yield from _read_file(file, left_out)


def _json_files(folder: Path) -> list[Path]:
    """JSON files that hold a list: the images JSON beside COCO results is no box file of its own."""
    files = sorted(folder.glob("*.json"))
    return [path for path in files if first_byte(path) == b"["] or files


def _read_file(path: Path, left_out: LeftOut) -> Iterator[BoxEntry]:
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: cannot be read: {os.strerror(errno.EACCES)}")
    file = BoxFile(path, left_out)
    yield from _format_of(file).read(file)


def _format_of(file: BoxFile) -> BoxFormat:
    by_ending = {one.ending: one for one in FORMATS.values() if one.ending}
    if file.ending in by_ending:
        return by_ending[file.ending]
    return next((one for one in FORMATS.values() if one.recognises(file)), jsonl.FORMAT)


def check(format: str) -> None:
    """Refuse a format that nobody knows."""
    if format not in FORMATS:
        raise UsageError("format", f"{format}: give one of {one_of(format, FORMATS)}")


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
