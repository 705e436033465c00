"""A sample's boxes in a tar: ``boxes.npy`` with their sides, ``boxes.json`` with what they are of."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from mgtool.errors import ItemError
from mgtool.records import Box, Detections, parse

_BROKEN_ARRAY = (ValueError, TypeError, SyntaxError, tokenize.TokenError, EOFError, OverflowError, RecursionError)
"""What numpy raises at damaged headers."""
_OWN_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '<f4', 'fortran_order': False, 'shape': \((\d+), 4\), \} *\n", re.DOTALL
)
"""Of a ``boxes.npy`` as NumPy writes it; its own parser takes longer than all the rest of a sample."""


class PackedBoxes(msgspec.Struct, frozen=True, kw_only=True):
    """``KEY.boxes.json``, one entry a row of ``KEY.boxes.npy``, or one stand-in where that has no rows.

    Attributes:
        pictures: index of the picture or frame that a row belongs to.
        tags: a JSON list of lists as text, one list a picture; empty without a tagger.
    """

    scores: tuple[float, ...]
    labels: tuple[str, ...]
    pictures: tuple[int, ...] | None = None
    tags: str = ""


def detections(key: str, parts: Mapping[str, bytes], count: int) -> tuple[Detections, ...] | None:
    """The objects of each of `count` pictures or frames; None where the sample has no boxes."""
    if "boxes.npy" not in parts:
        return None
    rows = read_boxes(parts["boxes.npy"], f"{key}.boxes.npy")
    about = parse(parts.get("boxes.json") or b'{"scores":[],"labels":[]}', PackedBoxes, where=f"{key}.boxes.json")
    scores, labels = about.scores or (1.0,) * len(rows), about.labels or ("",) * len(rows)
    owners = about.pictures or (0,) * len(rows)
    if min(len(scores), len(labels), len(owners)) < len(rows):
        raise ItemError("bad_boxes", f"{key}: {len(rows)} boxes, {len(scores)} scores, {len(labels)} labels")
    tags = parse(about.tags, list[tuple[str, ...] | None], where=f"{key}.boxes.json: tags") if about.tags else []
    boxes = [(left, top, right, bottom) for left, top, right, bottom in rows.tolist()]
    if count == 1 and not any(owners):
        n = len(boxes)
        return (Detections(tuple(boxes), scores[:n], labels[:n], tags[0] if tags else None),)
    return tuple(_of_one(boxes, scores, labels, owners, one, tags) for one in range(count))


def read_boxes(data: bytes, where: str) -> npt.NDArray[Any]:
    """The rows of a ``boxes.npy``, (n, 4), whole and finite; nothing is unpickled or reserved by a false header.

    Raises:
        ItemError: ``bad_boxes``.
    """
    try:
        own = _OWN_HEADER.match(data)
        shape, dtype, start = ((int(own[1]), 4), np.dtype("<f4"), own.end()) if own else _npy_header(data)
        if len(shape) != 2 or shape[1] != 4 or dtype.kind not in "fiu":
            raise ValueError(f"{dtype} {shape}, expected numbers of shape (n, 4)")
        rows = np.frombuffer(data, dtype, offset=start).reshape(shape)
    except (*_BROKEN_ARRAY, MemoryError) as error:
        raise ItemError("bad_boxes", f"{where}: {error}") from error
    if not np.isfinite(rows).all():
        raise ItemError("bad_boxes", f"{where}: a box that is not finite")
    return rows


def _npy_header(data: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if fortran and min(shape, default=0) > 1:
        raise ValueError("columns before rows")
    return shape, dtype, file.tell()


def _of_one(
    boxes: Sequence[Box],
    scores: Sequence[float],
    labels: Sequence[str],
    owners: Sequence[int],
    one: int,
    tags: Sequence[tuple[str, ...] | None],
) -> Detections:
    mine = [row for row in range(len(boxes)) if owners[row] == one]
    return Detections(
        boxes=tuple(boxes[row] for row in mine),
        scores=tuple(scores[row] for row in mine),
        labels=tuple(labels[row] for row in mine),
        tags=tags[one] if one < len(tags) else None,
    )
