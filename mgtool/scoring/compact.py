"""Columns in as few bytes as they need: numbers of which few differ, names of clusters, values of fields."""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgtool.scoring.number_file import NumberFile

HASH = (1 << 64) - 1
CHUNK = 1 << 16
"""Rows that are worked on at once; sums come out as of all at once."""
_MOST_BYTES = 1 << 8
_PAGES = 1 << 20
"""Bytes from which an array has pages of its own."""
_WIDER = {"B": "H", "H": "I"}


def own_pages(n: int, dtype: type[np.generic] | np.dtype[Any]) -> NDArray[Any]:
    """(n,) an array whose memory goes back to the system with it, as the allocator's need not; of any content."""
    size = n * np.dtype(dtype).itemsize
    if size < _PAGES:
        return np.empty(n, dtype)
    return np.frombuffer(mmap.mmap(-1, size), dtype)


def taken(values: NDArray[Any], places: NDArray[Any]) -> NDArray[Any]:
    """As ``values[places]``, without the places as larger integers on the way.

    >>> taken(np.array([5, 7, 9]), np.array([2, 0], np.int32)).tolist()
    [9, 5]
    """
    found = own_pages(len(places), values.dtype)
    for part in chunks(len(places)):
        found[part] = values[places[part]]
    return found


def set_places(flags: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Where flags are set.

    >>> set_places(np.array([True, False, True])).tolist()
    [0, 2]
    """
    found, count = own_pages(int(np.count_nonzero(flags)), np.int32), 0
    for part in chunks(len(flags)):
        own = np.flatnonzero(flags[part]) + part.start
        found[count : count + len(own)] = own
        count += len(own)
    return found


def chunks(n: int) -> Iterator[slice]:
    """`CHUNK` rows at a time.

    >>> list(chunks(CHUNK + 1)) == [slice(0, CHUNK), slice(CHUNK, 2 * CHUNK)]
    True
    """
    return (slice(begin, begin + CHUNK) for begin in range(0, n, CHUNK))


class TableRows:
    """(n, k) rows of which few differ.

    Args:
        codes: (n,) which row of the table.
        table: (m, k) the different rows; (m,) for a column.
    """

    def __init__(self, codes: NDArray[Any], table: NDArray[Any]) -> None:
        self.codes, self.table = codes, table

    @property
    def shape(self) -> tuple[int, ...]:
        """n and k; n alone of a column."""
        return len(self.codes), *self.table.shape[1:]

    def __len__(self) -> int:
        """n."""
        return len(self.codes)

    def __getitem__(self, part: slice) -> NDArray[Any]:
        """Some of the rows."""
        return np.asarray(self.table[self.codes[part]])

    def __mul__(self, factor: float) -> TableRows:
        return TableRows(self.codes, self.table * factor)

    def column(self, number: int) -> TableRows:
        """(n,) one column."""
        return TableRows(self.codes, self.table[:, number])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.table[self.codes], dtype)


class Numbers:
    """Numbers, of which up to 256 different ones take a byte each; all take eight where there are more."""

    def __init__(self) -> None:
        self._places: dict[float, int] = {}
        self._codes, self._plain = array("B"), array("d")

    def append(self, value: float) -> None:
        """Add a number."""
        if self._plain:
            self._plain.append(value)
            return
        place = self._places.setdefault(value, len(self._places))
        if place < _MOST_BYTES:
            self._codes.append(place)
            return
        table = list(self._places)
        self._plain = array("d", (table[code] for code in self._codes))
        self._plain.append(value)
        self._codes = array("B")

    def rows(self, places: NDArray[Any] | None = None) -> NDArray[np.float64] | TableRows:
        """The numbers, or those at some places, as rows of one column."""
        if self._plain:
            plain = np.frombuffer(self._plain, np.float64)
            return (plain if places is None else taken(plain, places)).reshape(-1, 1)
        codes = np.frombuffer(self._codes, np.uint8)
        table = np.array(list(self._places), np.float64).reshape(-1, 1)
        return TableRows(codes if places is None else taken(codes, places), table)


class Names:
    """Names as numbers in order of appearance, without the names: 64 bits of each are kept.

    Two of a million names have these bits in common once in some ten million runs.
    """

    def __init__(self) -> None:
        self._hashes = NumberFile()
        self._codes: NDArray[np.int32] | None = None

    def extend(self, names: Iterable[str]) -> None:
        """Add names; errors as of `NumberFile.extend`."""
        self._hashes.extend(hash(name) & HASH for name in names)

    @property
    def codes(self) -> NDArray[np.int32]:
        """(n,) the number of each name."""
        if self._codes is None or len(self._codes) < len(self._hashes):
            self._codes = _numbered(self._hashes)
        return self._codes


def _numbered(hashes: NumberFile) -> NDArray[np.int32]:
    """The numbers of all different hashes in order of appearance: first where each stands first, then which it is."""
    found, count = own_pages(len(hashes), np.int32), 0
    for places, some in hashes.parts:
        _, first, inverse = np.unique(some, return_index=True, return_inverse=True)
        found[places] = places[first][inverse]
    for part in chunks(len(found)):
        own = found[part].copy()
        is_first = own == np.arange(part.start, part.start + len(own))
        found[part][is_first] = np.arange(count, count + np.count_nonzero(is_first))
        found[part][~is_first] = found[own[~is_first]]
        count += int(np.count_nonzero(is_first))
    return found


class Column:
    """The values of a field by numbers, 0 for None; of a list the values are its own."""

    def __init__(self) -> None:
        self.values: list[Any] = [None]
        self._numbers: dict[Hashable, int] = {None: 0}
        self._codes = array("B")

    def extend(self, values: Iterable[Any]) -> None:
        """Add values."""
        numbers, codes = self._numbers, self._codes
        for value in values:
            key: Hashable = (list, *value) if isinstance(value, list | tuple) else value
            number = numbers.get(key)
            if number is None:
                number = numbers[key] = len(self.values)
                self.values.append(value)
                if number >= 1 << (8 * codes.itemsize):
                    codes = self._codes = array(_WIDER[codes.typecode], codes)
            codes.append(number)

    @property
    def codes(self) -> NDArray[Any]:
        """(n,) the number of each value."""
        return np.frombuffer(self._codes, self._codes.typecode)
