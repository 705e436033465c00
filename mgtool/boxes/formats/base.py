"""What a box file format is, and the file that it is asked about."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias, cast

import msgspec

from mgtool.boxes.coordinates import CORNERS, Coordinates
from mgtool.errors import InputError
from mgtool.files import json_lists
from mgtool.files.atomic import atomic_file
from mgtool.files.not_finite import mended, parse_with_nan
from mgtool.records import BoxRecord, LeftOut, SampleId, decode, dumps, parse

_HELD_BYTES = 1 << 26
"""Of a file that is read part by part."""

Records: TypeAlias = Callable[[], Iterator[BoxRecord]]
"""Gives each distinct picture's record, as often as it is called."""

Pairs: TypeAlias = Iterable[tuple[SampleId, BoxRecord]]
"""Each sample's id with its picture's record."""


class BoxEntry(NamedTuple):
    """A record, with the id of the sample it belongs to where the file is one of ids.

    Attributes:
        is_loose: whether its picture's name may begin in another folder, and may lack its ending, as those of
            annotations do.
        read_as: what the numbers of its boxes were taken for.
    """

    id: SampleId | None
    record: BoxRecord
    is_loose: bool = False
    read_as: Coordinates = CORNERS


class BoxFile:
    """A file that may hold boxes. What is in it is looked at when a format first asks, once for all of them.

    Args:
        path: where it is; of a format of folders the folder.
        left_out: told of annotations that are not used.
        coordinates: what the boxes' numbers are; None for what the format says.
        root: the folder that was given, and that has it among others; None where the file itself was.
    """

    def __init__(
        self,
        path: Path,
        left_out: LeftOut | None = None,
        coordinates: Coordinates | None = None,
        root: Path | None = None,
    ) -> None:
        self.path, self.ending, self.root = path, path.suffix.lower(), root
        self.left_out = LeftOut() if left_out is None else left_out
        self.coordinates = coordinates
        self._is_finite = True
        self._pages: mmap.mmap | None = None

    @cached_property
    def is_list(self) -> bool:
        """Whether it begins as a JSON list does."""
        return first_byte(self.path) == b"["

    @cached_property
    def head(self) -> dict[str, Any] | None:
        """The first element of a list; None where it is empty.

        Raises:
            RecordError: it is no object.
        """
        with contextlib.closing(self.elements()) as elements:
            first = next(elements, None)
        return None if first is None else parse_with_nan(first, dict[str, Any], where=f"{self.path}: record 1")

    @cached_property
    def members(self) -> dict[str, msgspec.Raw] | None:
        """Those of one JSON object, undecoded; None where the file is something else.

        Raises:
            InputError: the file is empty.
        """
        if self.is_list or self.path.is_dir():
            return None
        with self.path.open("rb") as file:
            self._pages = _mapped(file)
            try:
                return decode(self._pages, dict[str, msgspec.Raw])
            except (msgspec.DecodeError, UnicodeDecodeError):
                finite = mended(self._pages, where=str(self.path))
        self._is_finite = finite is None
        return None if finite is None else _decoded(finite)

    def values(self) -> Iterator[tuple[str, Any]]:
        """The members, decoded one at a time; NaN and infinite numbers are floats."""
        for name, raw in (self.members or {}).items() if self._is_finite else ():
            yield name, parse(raw, Any, where=f"{self.path}: {name}")
        if not self._is_finite:
            yield from parse_with_nan(self.path.read_bytes(), dict[str, Any], where=str(self.path)).items()

    def elements_of(self, name: str) -> Iterator[bytes]:
        """Those of a member that is a list, undecoded, one at a time.

        Raises:
            InputError: it is no list.
        """
        raw = (self.members or {})[name]
        return json_lists.elements(cast("IO[bytes]", _Window(raw, self._let_go)), where=f"{self.path}: {name}")

    def _let_go(self) -> None:
        """Have the system take back what was read of the file into this process's memory."""
        if self._pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._pages.madvise(mmap.MADV_DONTNEED)

    def elements(self) -> Generator[bytes]:
        """Those of a JSON list, undecoded, one at a time."""
        with self.path.open("rb") as file:
            yield from json_lists.elements(file, where=str(self.path))


class _Window:
    """A part of a file's memory as a file; `let_go` is called now and then, when what was read is done with."""

    def __init__(self, part: Any, let_go: Callable[[], None]) -> None:
        self._part, self._at, self._let_go, self._held = memoryview(part), 0, let_go, 0

    def read(self, size: int = -1, /) -> bytes:
        """As of any file."""
        end = len(self._part) if size < 0 else self._at + size
        data = bytes(self._part[self._at : end])
        self._at += len(data)
        self._held += len(data)
        if self._held > _HELD_BYTES:
            self._held = 0
            self._let_go()
        return data


def _decoded(data: bytes) -> dict[str, msgspec.Raw] | None:
    try:
        return decode(data, dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _mapped(file: IO[bytes]) -> mmap.mmap:
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise InputError(f"{file.name}: the file is empty") from error


def _never(file: BoxFile) -> bool:
    return False


def _none(folder: Path) -> list[Path]:
    return []


@dataclass(frozen=True, kw_only=True)
class BoxFormat:
    """One way to keep boxes in files.

    Attributes:
        read: a file's records.
        recognises: whether a file is of this format by what it holds, whatever it is called.
        ending: of the files that are of this format whatever they hold, in lower case; empty where there is none.
        in_folder: its files in a folder, in their order, or the folder itself where it is one of the format; JSON
            files need not be named, which several formats share.
        files: what `write` leaves in the folder.
        folders: what it leaves there that holds a file for each picture.
        write: puts boxes into a folder, each file whole or not at all; None where whoever finds boxes writes shards of
            them as they come.
        by_name: whether it is of names, so that identical pictures under two names have two records.
        coordinates: what the numbers of the boxes are that `read` gives, where nobody says otherwise.
        says_coordinates: whether its files name what the numbers are, so that `box_format` cannot say otherwise.
        has_videos: whether it has a place for the frames of videos.
    """

    read: Callable[[BoxFile], Iterator[BoxEntry]]
    recognises: Callable[[BoxFile], bool] = _never
    ending: str = ""
    in_folder: Callable[[Path], list[Path]] = _none
    files: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    write: Callable[[Path, Records, Pairs], None] | None = None
    by_name: bool = False
    coordinates: Coordinates = CORNERS
    says_coordinates: bool = False
    has_videos: bool = True


def first_byte(path: Path) -> bytes:
    """The first one that is no space; none of what is empty, cannot be read or is no file."""
    if not path.is_file() or not os.access(path, os.R_OK):
        return b""
    with path.open("rb") as file:
        return file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]


def write_list(path: Path, values: Iterable[Any]) -> None:
    """Write a JSON list, an element a line."""
    with atomic_file(path) as file:
        file.write(b"[")
        for number, value in enumerate(values):
            file.write((b",\n" if number else b"\n") + dumps(value))
        file.write(b"\n]\n")
