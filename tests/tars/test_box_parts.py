"""Boxes as a member of a tar."""

from __future__ import annotations

import io

import numpy as np
import pytest

from mgtool.errors import ItemError
from mgtool.tars.box_parts import read_boxes, write_boxes


@pytest.mark.parametrize("count", [0, 1, 9, 10, 12_345])
def test_boxes_are_written_byte_for_byte_as_numpy_saves_them(count: int) -> None:
    rows = np.random.default_rng(count).random((count, 4), dtype=np.float32) * 1000
    saved = io.BytesIO()
    np.save(saved, rows)
    written = write_boxes((x0, y0, x1, y1) for x0, y0, x1, y1 in rows.tolist())
    assert written == saved.getvalue()
    assert np.array_equal(read_boxes(written, ""), rows)


@pytest.mark.parametrize("side", [float("nan"), float("inf"), 1e39])
def test_a_box_that_is_not_finite_in_float32_is_refused(side: float) -> None:
    with pytest.raises(ItemError, match="not finite"):
        write_boxes([(0.0, 0.0, 1.0, 1.0), (0.0, 0.0, side, 1.0)])
