"""Records as files hold them: mgtool's own, or by a sample's id as in the published files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from mgtool.boxes.formats.base import BoxEntry
from mgtool.errors import RecordError
from mgtool.records import Box, BoxRecord, FrameDetections, SampleId, check_numbers, convert


class FrameById(msgspec.Struct, frozen=True):
    """A frame in a record by id; the boxes are in any order."""

    boxes: tuple[Box, ...] = ()
    scores: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    index: int | None = None
    time: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(self.boxes, self.scores, self.labels)


class RecordById(msgspec.Struct, frozen=True):
    """A record that knows only the sample's id, which stands in for the picture's name; the boxes are in any order."""

    id: SampleId
    boxes: tuple[Box, ...] = ()
    scores: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    frames: tuple[FrameById, ...] | None = None

    def __post_init__(self) -> None:
        check_numbers(self.boxes, self.scores, self.labels)


def to_entry(fields: Mapping[str, Any], where: str) -> BoxEntry:
    """A record of either kind, from its fields.

    Args:
        fields: JSON values.
        where: its place, for errors.

    Raises:
        RecordError: fields that do not fit.
    """
    if "id" in fields and "sha256" not in fields:
        if not {"boxes", "frames"} & fields.keys():
            raise RecordError(f"{where}: neither `boxes` nor `frames` in the record of {fields['id']}")
        return _from_id(convert(fields, RecordById, where=where))
    if "sha256" not in fields and {"image", "video"} & fields.keys():
        fields = {"sha256": "", "width": 0, "height": 0, **fields}
    return BoxEntry(None, convert(fields, BoxRecord, where=where))


def _from_id(known: RecordById) -> BoxEntry:
    name = str(known.id)
    if known.frames is not None:
        frames = tuple(
            FrameDetections(index if frame.index is None else frame.index, frame.time, *_best_first(frame))
            for index, frame in enumerate(known.frames)
        )
        return BoxEntry(known.id, BoxRecord(sha256="", width=0, height=0, video=name, frames=frames))
    boxes, scores, labels = _best_first(known)
    record = BoxRecord(sha256="", width=0, height=0, image=name, boxes=boxes, scores=scores, labels=labels)
    return BoxEntry(known.id, record)


def _best_first(found: RecordById | FrameById) -> tuple[tuple[Box, ...], tuple[float, ...], tuple[str, ...]]:
    """Boxes, scores and labels."""
    order = sorted(range(len(found.scores)), key=lambda row: -found.scores[row])
    return (
        tuple(found.boxes[row] for row in order),
        tuple(found.scores[row] for row in order),
        tuple(found.labels[row] for row in order),
    )
