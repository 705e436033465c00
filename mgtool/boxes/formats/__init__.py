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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from mgtool.boxes.formats.base import Entry, Pairs, _entry, _first_byte, _write_list
from mgtool.boxes.formats.coco import _coco, _images_beside, _images_of, _write_coco
from mgtool.boxes.formats.jsonl import _lines
from mgtool.boxes.formats.mg_llava import _published
from mgtool.boxes.formats.parquet import _parquet, _write_parquet
from mgtool.errors import InputError, UsageError
from mgtool.files import json_lists, urls
from mgtool.files.shard_names import list_shards
from mgtool.records import BoxRecord, parse


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


FORMATS = ("jsonl", "coco", "mg-llava", "parquet")


FILES = {"coco": ("boxes.json", "images.json"), "mg-llava": ("boxes.json",), "parquet": ("boxes.parquet",)}
"""What `write` leaves in the folder."""


def check(format: str) -> None:
    """Refuse a form that nobody knows."""
    if format not in FORMATS:
        raise UsageError("format", f"{format}: give one of {', '.join(FORMATS)}")


def write(format: str, folder: Path, records: Callable[[], Iterator[BoxRecord]], pairs: Pairs) -> None:
    """Write one form other than shards of JSON lines, atomically.

    Args:
        format: a key of `FILES`.
        folder: where to.
        records: gives each distinct picture's record, as often as it is called.
        pairs: each sample's id with its picture's record, for ``mg-llava``.
    """
    if format == "coco":
        _write_coco(folder, records)
    elif format == "mg-llava":
        _write_list(folder / "boxes.json", (_published(name, record) for name, record in pairs))
    elif format == "parquet":
        _write_parquet(folder / "boxes.parquet", records())
