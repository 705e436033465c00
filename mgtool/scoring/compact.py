"""Columns in as few bytes as they need: numbers of which few differ, names of clusters, values of fields."""

from __future__ import annotations

from array import array
from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BATCH = 4096
_MOST_BYTES = 1 << 8
_WIDER = {"B": "H", "H": "I"}


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
            return (plain if places is None else plain[places]).reshape(-1, 1)
        codes = np.frombuffer(self._codes, np.uint8)
        table = np.array(list(self._places), np.float64).reshape(-1, 1)
        return TableRows(codes if places is None else codes[places], table)


class Names:
    """Names as numbers in order of appearance, without the names: 64 bits of each are kept.

    Two of a million names have these bits in common once in some ten million runs.
    """

    def __init__(self) -> None:
        self._known, self._numbers = np.empty(0, np.int64), np.empty(0, np.int32)
        self._codes, self._waiting = array("i"), array("q")

    def append(self, name: str) -> None:
        """Add a name."""
        self._waiting.append(hash(name))
        if len(self._waiting) == _BATCH:
            self._number()

    @property
    def codes(self) -> NDArray[np.int32]:
        """(n,) the number of each name."""
        if self._waiting:
            self._number()
        return np.frombuffer(self._codes, np.int32)

    def _number(self) -> None:
        hashes = np.frombuffer(self._waiting, np.int64)
        new, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        at = np.searchsorted(self._known, new)
        is_known = np.zeros(len(new), np.bool_)
        inside = at < len(self._known)
        is_known[inside] = self._known[at[inside]] == new[inside]
        numbers = np.empty(len(new), np.int32)
        numbers[is_known] = self._numbers[at[is_known]]
        fresh = np.flatnonzero(~is_known)
        numbers[fresh[np.argsort(first[fresh])]] = np.arange(len(fresh), dtype=np.int32) + len(self._known)
        self._codes.frombytes(numbers[inverse].tobytes())
        self._known = np.insert(self._known, at[fresh], new[fresh])
        self._numbers = np.insert(self._numbers, at[fresh], numbers[fresh])
        self._waiting = array("q")


class Column:
    """The values of a field by numbers, 0 for None; of a list the values are its own."""

    def __init__(self) -> None:
        self.values: list[Any] = [None]
        self._numbers: dict[Hashable, int] = {None: 0}
        self._codes = array("B")

    def append(self, value: Any) -> None:
        """Add a value."""
        key: Hashable = (list, *value) if isinstance(value, list | tuple) else value
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.values)
            self.values.append(value)
            if number >= 1 << (8 * self._codes.itemsize):
                self._codes = array(_WIDER[self._codes.typecode], self._codes)
        self._codes.append(number)

    @property
    def codes(self) -> NDArray[Any]:
        """(n,) the number of each value."""
        return np.frombuffer(self._codes, self._codes.typecode)
