"""What the box file formats share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec

from mgtool.errors import RecordError
from mgtool.files.atomic import atomic_file
from mgtool.records import Box, BoxRecord, FrameDetections, SampleId, check_numbers, convert, dumps


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


def _first_byte(path: Path) -> bytes:
    if not os.access(path, os.R_OK):
        return b""
    with path.open("rb") as file:
        return file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]


def _entry(fields: Mapping[str, Any], where: str) -> Entry:
    if "id" in fields and "sha256" not in fields:
        if not {"boxes", "frames"} & fields.keys():
            raise RecordError(f"{where}: neither `boxes` nor `frames` in the record of {fields['id']}")
        return _published(convert(fields, _Published, where=where))
    return Entry(None, convert(fields, BoxRecord, where=where))


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


Pairs: TypeAlias = Iterable[tuple[SampleId, BoxRecord]]


def _write_list(path: Path, values: Iterable[Any]) -> None:
    with atomic_file(path) as file:
        file.write(b"[")
        for number, value in enumerate(values):
            file.write((b",\n" if number else b"\n") + dumps(value))
        file.write(b"\n]\n")
