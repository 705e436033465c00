"""A sample's boxes in a tar: ``boxes.npy`` with their sides, ``boxes.json`` with what they are of."""

from __future__ import annotations

import array
import io
import itertools
import math
import re
import sys
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from mgtool.errors import ItemError
from mgtool.records import Box, Detections, parse

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_BROKEN_ARRAY = (ValueError, TypeError, SyntaxError, tokenize.TokenError, EOFError, OverflowError, RecursionError)
"""What numpy raises at damaged headers."""
_OWN_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '<f4', 'fortran_order': False, 'shape': \((\d+), 4\), \} *\n", re.DOTALL
)
"""Of a ``boxes.npy`` as NumPy writes it; its own parser takes longer than all the rest of a sample."""
_NPY_START, _NPY_HEADER_BYTES = b"\x93NUMPY\x01\x00", 128
"""NumPy leaves room for the number of rows to grow, so that all are of one length."""


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


def write_boxes(boxes: Iterable[Box]) -> bytes:
    """A ``boxes.npy``, byte for byte as `numpy.save` writes (n, 4) float32, which takes twice as long to import.

    Raises:
        ItemError: ``bad_boxes`` for a box that is not finite in float32.
    """
    numbers = array.array("f", itertools.chain.from_iterable(boxes))
    if not all(map(math.isfinite, numbers)):
        raise ItemError("bad_boxes", "a box that is not finite")
    if sys.byteorder == "big":
        numbers.byteswap()
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 4), }" % (len(numbers) // 4)
    room = _NPY_HEADER_BYTES - len(_NPY_START) - 2
    return _NPY_START + room.to_bytes(2, "little") + text.ljust(room - 1) + b"\n" + numbers.tobytes()


def read_boxes(data: bytes, where: str) -> npt.NDArray[Any]:
    """The rows of a ``boxes.npy``, (n, 4), whole and finite; nothing is unpickled or reserved by a false header.

    Raises:
        ItemError: ``bad_boxes``.
    """
    import numpy as np

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
    import numpy as np

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
