"""64-bit numbers, on disk where there are many: in the order in which they came, by their first bits, or sorted."""

from __future__ import annotations

import itertools
import math
import os
import weakref
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from mgtool.files.temporary import unnamed_file, write_all

Numbers = NDArray[np.uint64]
MOST_IN_MEMORY = 1 << 16
_BITS, _SIZE = 64, 8
_ENOUGH = 1 << 10
"""Numbers up to which one part will do; the number of parts goes with the root of how many times as many there are."""
_BLOCK = 512
"""Sorted numbers that are read together."""


class _Disk:
    """Numbers behind each other in a temporary file; errors as of `RecordFile.append`."""

    def __init__(self) -> None:
        self._file = unnamed_file()
        weakref.finalize(self, self._file.close)

    def write(self, numbers: array[int] | Numbers) -> None:
        write_all(self._file, numbers.tobytes())

    def read(self, begin: int, count: int) -> bytes:
        return os.pread(self._file.fileno(), count * _SIZE, begin * _SIZE)


class NumberFile:
    """Numbers from 0 to 2**64 - 1, of which memory has the last."""

    def __init__(self) -> None:
        self._disk: _Disk | None = None
        self._written = 0
        self._waiting = array("Q")

    def extend(self, numbers: Iterable[int]) -> None:
        """Add numbers.

        Raises:
            OutputError: when the temporary file cannot be written.
        """
        more = iter(numbers)
        while True:
            self._waiting.extend(itertools.islice(more, MOST_IN_MEMORY - len(self._waiting)))
            if len(self._waiting) < MOST_IN_MEMORY:
                return
            self._disk = self._disk or _Disk()
            self._disk.write(self._waiting)
            self._written += len(self._waiting)
            self._waiting = array("Q")

    def __len__(self) -> int:
        """How many there are."""
        return self._written + len(self._waiting)

    def __iter__(self) -> Iterator[Numbers]:
        """In the order in which they came, many at a time."""
        for begin in range(0, self._written, MOST_IN_MEMORY):
            assert self._disk is not None
            yield np.frombuffer(self._disk.read(begin, MOST_IN_MEMORY), np.uint64)
        yield np.array(self._waiting, np.uint64)

    @property
    def parts(self) -> Iterator[tuple[NDArray[np.int32], Numbers]]:
        """Those whose first bits are the same, in ascending order of these, with their places: some numbers at a time.

        Each part is a pass.
        """
        bits = math.ceil(math.log2(max(len(self) / _ENOUGH, 1)) / 2)
        for number in range(1 << bits):
            begin, places, found = 0, [], []
            for some in self:
                chosen = np.flatnonzero(some >> np.uint64(_BITS - bits) == number) if bits else np.arange(len(some))
                places.append((chosen + begin).astype(np.int32))
                found.append(some[chosen])
                begin += len(some)
            yield np.concatenate(places), np.concatenate(found)


class SortedNumbers:
    """The numbers of a file in ascending order.

    Raises:
        OutputError: when the temporary file cannot be written.
    """

    def __init__(self, numbers: NumberFile) -> None:
        self._disk = _Disk() if len(numbers) > MOST_IN_MEMORY else None
        self._count = len(numbers)
        self._firsts = array("Q")
        rest = np.empty(0, np.uint64)
        for _, part in numbers.parts:
            part.sort()
            rest = self._kept(np.concatenate([rest, part]))
        self._rest = self._fenced(rest)

    def _kept(self, numbers: Numbers) -> Numbers:
        """What is left of sorted numbers once whole blocks are on disk."""
        if self._disk is None:
            return numbers
        whole = len(numbers) - len(numbers) % _BLOCK
        self._disk.write(self._fenced(numbers[:whole]))
        return numbers[whole:]

    def _fenced(self, numbers: Numbers) -> Numbers:
        """The numbers, once the first of each block is noted."""
        self._firsts.frombytes(numbers[::_BLOCK].tobytes())
        return numbers

    def __iter__(self) -> Iterator[Numbers]:
        """In blocks."""
        return map(self._block, range(len(self._firsts)))

    def _block(self, number: int) -> Numbers:
        begin = number * _BLOCK
        on_disk = self._count - len(self._rest)
        if begin >= on_disk:
            return self._rest[begin - on_disk : begin - on_disk + _BLOCK]
        assert self._disk is not None
        return np.frombuffer(self._disk.read(begin, _BLOCK), np.uint64)

    def since(self, least: int) -> Iterator[int]:
        """From the first that is not less on."""
        for number in range(max(bisect_left(self._firsts, least) - 1, 0), len(self._firsts)):
            block = self._block(number)
            yield from map(int, block[np.searchsorted(block, np.uint64(least)) :])
