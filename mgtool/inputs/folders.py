"""What lies in a folder: tars, tables of a data set, or pictures and videos, perhaps with metadata."""

from __future__ import annotations

import errno
import os
import posixpath
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from mgtool.errors import InputError
from mgtool.files.folder_tree import named_below
from mgtool.media import magic
from mgtool.media.names import MEDIA_SUFFIXES
from mgtool.records import Failure, LeftOut, name_text
from mgtool.runs.run_file import DRAWN_FOLDER, RUN_FILE
from mgtool.tars import paths

BESIDE_TARS = "files beside tars"
"""Why a picture in a folder of tars is left out."""

SAVED, OF_PARQUET = "data set saved by Hugging Face `datasets`", "Hugging Face data set of Parquet files"
TARS, PICTURES = "folder of tars", "folder of pictures"

_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_HEAD_BYTES = 1 << 16
_SAVED = ("state.json", "dataset_dict.json", "dataset_info.json")
_OF_DATA_SETS = frozenset({*_SAVED, "dataset_infos.json", "README.md", "readme.md"})
"""Files of a data set that are no data."""
_MOST_DEPTH = 200
"""Folders within each other that are read."""
_MOST_VISITS = 100
"""Times that links lead to one folder."""
_NUMBERED = re.compile(r"\d{4}\.parquet|.*-\d{5}-of-\d{5}(?:-[0-9a-f]+)?\.parquet")


class Contents(NamedTuple):
    """What is read of a folder.

    Attributes:
        kind: one of `KINDS`.
        paths: in the order in which they are read; a folder that cannot be read is a `Failure`.
    """

    kind: str
    paths: Iterator[Path | Failure]


def contents(folder: Path, left_out: LeftOut | None = None) -> Contents:
    """What is read of a folder: its tars, the tables of a data set, or the pictures and videos below it.

    A picture of another ending is known by its first bytes. Where there is none of these, tars or tables below the
    folder are read. Hidden files are left out, and what `mgtool detect` has drawn; `left_out` is told of any other
    file that is. The metadata of an image folder come before its pictures.

    Raises:
        InputError: `folder` itself cannot be read.
    """
    if not os.access(folder, os.R_OK | os.X_OK):
        raise InputError(f"{folder}: cannot be read: {os.strerror(errno.EACCES)}")
    unused = LeftOut() if left_out is None else left_out
    if shards := sorted(path for path in folder.glob("*.t*") if path.name.lower().endswith(paths.ENDINGS)):
        if left_out is not None:
            _leave_out_beside(folder, {*shards}, left_out)
        return Contents(TARS, iter(shards))
    kind, tables = _tables(folder)
    if tables:
        return Contents(kind, _and_leave_out(folder, tables, unused))
    return _pictures_or_others(folder, unused)


def _leave_out_beside(folder: Path, shards: Collection[Path], left_out: LeftOut) -> None:
    """Count pictures below a folder of tars, and what else lies in it but for mgtool's own files."""
    for one in _walk(folder, (), LeftOut()):
        if isinstance(one, Path):
            left_out.add(BESIDE_TARS, one.relative_to(folder).as_posix())
    for path in sorted(folder.iterdir()) if not (folder / RUN_FILE).exists() else ():
        is_other = path.is_file() and path not in shards and path.suffix.lower() not in MEDIA_SUFFIXES
        if is_other and not is_hidden(path.name) and not is_of_data_set(path.name):
            left_out.add(kind_of_file(path.name), path.as_posix())


def files(folder: Path, left_out: LeftOut | None = None) -> Iterator[Path | Failure]:
    """The paths of `contents`; errors are the same."""
    return contents(folder, left_out).paths


def tables_among(names: Iterable[str]) -> list[str]:
    """Those names of files that are tables of a Hugging Face data set; none where it is another folder.

    >>> tables_among(["d/README.md", "d/data/train-00000-of-00001.parquet"]), tables_among(["boxes.parquet", "a.jpg"])
    (['d/data/train-00000-of-00001.parquet'], [])
    """
    listed = [name for name in names if not posixpath.basename(name).startswith(".")]
    if any(posixpath.basename(name) in _SAVED for name in listed) and (
        saved := [name for name in listed if name.endswith(".arrow")]
    ):
        return sorted(name for name in saved if not posixpath.basename(name).startswith("cache-"))
    parquet = [name for name in listed if name.endswith(".parquet") and not name.endswith("/metadata.parquet")]
    is_set = any(_NUMBERED.fullmatch(posixpath.basename(name)) for name in parquet)
    only = not any(posixpath.splitext(name)[1].lower() in MEDIA_SUFFIXES for name in listed)
    return sorted(parquet) if is_set or only else []


def kind_of(listed: Iterable[str]) -> str:
    """What a folder with these tables is, or one without any."""
    names = [*listed]
    return (SAVED if names[0].endswith(".arrow") else OF_PARQUET) if names else PICTURES


def is_of_data_set(name: str) -> bool:
    """Whether a file of a data set's folder is its description."""
    return posixpath.basename(name) in _OF_DATA_SETS


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder above it, is one that listings do not show.

    >>> is_hidden(".gitattributes"), is_hidden(".cache/a.jpg"), is_hidden("b/a.jpg")
    (True, True, False)
    """
    return any(part.startswith(".") for part in name.split("/"))


def kind_of_file(name: str) -> str:
    """The reason for which a file that is no picture, video or tar is left out."""
    ending = posixpath.splitext(name)[1].lower()
    return f"{ending} files" if ending else "files without an ending"


def _tables(folder: Path) -> tuple[str, list[Path]]:
    """What a data set's folder is, and its tables; none where it may be another folder."""
    if any((folder / name).is_file() for name in _SAVED) and named_below(folder, "*.arrow"):
        return SAVED, _named(folder, "*.arrow")
    below = ("*/*.parquet", "*/*/*.parquet") if (folder / "README.md").is_file() else ("data/*.parquet",)
    numbered = (path for pattern in ("*.parquet", *below) for path in folder.glob(pattern))
    if any(_NUMBERED.fullmatch(path.name) for path in numbered) and not (folder / RUN_FILE).exists():
        return OF_PARQUET, _named(folder, "*.parquet")
    return "", []


def _named(folder: Path, pattern: str) -> list[Path]:
    names = [path.relative_to(folder).as_posix() for path in named_below(folder, "*") if path.is_file()]
    return [folder / name for name in tables_among(names) if Path(name).match(pattern)]


def _and_leave_out(folder: Path, tables: list[Path], left_out: LeftOut) -> Iterator[Path | Failure]:
    used = {*tables}
    for path in named_below(folder, "*"):
        if (
            path.is_file()
            and path not in used
            and not is_hidden(path.relative_to(folder).as_posix())
            and not is_of_data_set(path.name)
        ):
            left_out.add(kind_of_file(path.name), path.as_posix())
    return iter(tables)


def _pictures_or_others(folder: Path, left_out: LeftOut) -> Contents:
    found = _walk(folder, (), left_out)
    first = next(found, None)
    if first is not None:
        return Contents(PICTURES, chain([first], found))
    if tars := paths.below(folder):
        left_out.clear()
        return Contents(TARS, iter(tars))
    if tables := _named(folder, "*.parquet"):
        left_out.clear()
        return Contents(OF_PARQUET, _and_leave_out(folder, tables, left_out))
    return Contents(PICTURES, iter(()))


def _is_picture_file(path: Path) -> bool:
    """Whether a file of another ending is a picture by what it holds; only plain files are opened."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return magic.is_picture(file.read(magic.HEAD_BYTES))
    except OSError:
        return False


def is_metadata(path: Path) -> bool:
    """Whether a file says something of the pictures of an image folder."""
    if path.name not in _METADATA or not path.is_file():
        return False
    try:
        if path.suffix == ".parquet":
            from mgtool.inputs import tables

            return any("file_name" in name for name in tables.columns(path))
        with path.open("rb") as file:
            return b"file_name" in file.read(_HEAD_BYTES).partition(b"\n")[0]
    except (OSError, InputError):
        return False


def _walk(
    folder: Path, above: tuple[Path, ...], left_out: LeftOut, visits: Counter[tuple[int, int]] | None = None
) -> Iterator[Path | Failure]:
    """Pictures and videos, one folder's names in memory at a time.

    Args:
        folder: one that exists.
        above: the folders that lead here.
        left_out: told of other files.
        visits: how often links have led to a folder, by device and number: a few links can make more ways than
            anyone walks.
    """
    visits = Counter() if visits is None else visits
    try:
        entries = _entries(folder, len(above))
    except OSError as error:
        name = name_text(folder.as_posix())
        yield Failure(id=name, stage="read", reason="unreadable", detail=f"the folder cannot be read: {error.strerror}")
        return
    has_run = any(name == RUN_FILE for name, _, _ in entries)
    metadata = [
        name for name in _METADATA if (name, False) in {one[:2] for one in entries} and is_metadata(folder / name)
    ]
    yield from (folder / name for name in metadata[:1])
    for name, is_folder, is_link in sorted(entries):
        path = folder / name
        if name.startswith(".") or (has_run and name == DRAWN_FOLDER) or name in metadata[:1]:
            continue
        if is_folder and is_link:
            yield from _linked(path, (*above, folder), left_out, visits)
        elif is_folder:
            yield from _walk(path, (*above, folder), left_out, visits)
        elif path.suffix.lower() in MEDIA_SUFFIXES or _is_picture_file(path):
            yield path
        elif not has_run:
            left_out.add(kind_of_file(name), path.as_posix())


def _entries(folder: Path, depth: int) -> list[tuple[str, bool, bool]]:
    """Names in a folder, whether each is a folder, and whether it is a link; an `OSError` for one that is not read."""
    if depth > _MOST_DEPTH:
        raise OSError(errno.ELOOP, f"{_MOST_DEPTH} folders lead to it")
    with os.scandir(folder) as scanned:
        return [(entry.name, entry.is_dir(), entry.is_symlink()) for entry in scanned]


def _linked(
    path: Path, above: tuple[Path, ...], left_out: LeftOut, visits: Counter[tuple[int, int]]
) -> Iterator[Path | Failure]:
    """What `_walk` gives of a folder that a link leads to, unless that lies above it; arguments as of `_walk`."""
    if any(path.samefile(other) for other in above):
        return
    told = path.stat()
    visits[told.st_dev, told.st_ino] += 1
    if visits[told.st_dev, told.st_ino] <= _MOST_VISITS:
        yield from _walk(path, above, left_out, visits)
    elif visits[told.st_dev, told.st_ino] == _MOST_VISITS + 1:
        name = name_text(path.as_posix())
        detail = f"links lead to this folder in more than {_MOST_VISITS} ways; it is not read once more"
        yield Failure(id=name, stage="read", reason="unreadable", detail=detail)
