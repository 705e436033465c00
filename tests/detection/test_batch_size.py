"""Batch sizes that are found: they grow while that pays, shrink when memory ends, and cost nobody a picture."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from PIL import Image

from mgtool.detection.batch_size import MOST, BatchSize
from mgtool.detection.finder import Finder
from mgtool.errors import ItemError
from mgtool.records import Detections


class Small:
    """A detector with memory for some pictures only, and none for pictures that are 13 pixels wide."""

    identity = "small"

    def __init__(self, most: int, error: Exception) -> None:
        self._most, self._error = most, error
        self.sizes: list[int] = []

    def detect(self, pictures: Sequence[Image.Image], words: Sequence[Sequence[str]] | None) -> list[Detections]:
        self.sizes.append(len(pictures))
        if len(pictures) > self._most or any(picture.width == 13 for picture in pictures):
            raise self._error
        return [Detections(((0.0, 0.0, float(p.width), 8.0),), (1.0,), ("all",)) for p in pictures]


def _grown(rates: dict[int, float], rounds: int = 40) -> BatchSize:
    """A batch size that learned from batches at `rates` pictures a second by size."""
    batch = BatchSize()
    for _ in range(rounds):
        batch.ran(batch.now, batch.now / rates.get(batch.now, 1e-3))
    return batch


def test_it_grows_while_that_pays() -> None:
    assert _grown({1: 10, 2: 15, 4: 20, 8: 20.1, 16: 50}).now == 4
    assert _grown({1: 10, 2: 9}).now == 1
    assert _grown({2**n: 10 * 1.2**n for n in range(12)}).now == MOST


def test_one_slow_batch_or_one_that_is_not_full_decides_nothing() -> None:
    batch = BatchSize()
    for seconds in (9.0, 0.1, 0.1, 5.0):  # the first of each size sets things up
        batch.ran(batch.now, seconds)
        batch.ran(batch.now + 1, 100.0)
    assert batch.now == 4


def test_a_given_size_stays_until_memory_ends() -> None:
    batch = BatchSize(6)
    batch.ran(6, 1.0)
    batch.ran(6, 0.001)
    assert batch.now == 6
    batch.did_not_fit(6)
    assert batch.now == 3


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("Failed to allocate memory for requested buffer of size 123"),
    ],
)
def test_out_of_memory_halves_once_and_is_remembered(error: Exception) -> None:
    detector, batch = Small(5, error), BatchSize(16)
    pictures = [Image.new("RGB", (20 + n, 8)) for n in range(40)]
    found = Finder(detector).find(pictures, batch)
    assert [one.boxes[0][2] for one in found if isinstance(one, Detections)] == [20.0 + n for n in range(40)]
    assert batch.now == 4
    assert [size for size in detector.sizes if size > 5] == [16, 8, 8]
    too_large = Finder(detector).find([Image.new("RGB", (13, 8))], batch)
    assert isinstance(too_large[0], ItemError)
    assert too_large[0].reason == "out_of_memory"


def test_a_bad_picture_costs_a_few_batches_not_one_for_each_neighbour() -> None:
    detector = Small(99, RuntimeError("odd width"))
    pictures = [Image.new("RGB", (13 if n == 21 else 20, 8)) for n in range(64)]
    found = Finder(detector).find(pictures, BatchSize(64))
    assert [n for n, one in enumerate(found) if isinstance(one, ItemError)] == [21]
    assert len(detector.sizes) <= 1 + 2 * 6
