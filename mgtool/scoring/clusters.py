"""Rows of items in clusters: their sums, of each cluster, and of clusters drawn with replacement.

By hand: scipy's bootstrap keeps every sum's resamples, at twice the time for 20,000 clusters and only equal up to the
last digits.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgtool.scoring.compact import CHUNK, TableRows, chunks, taken

Floats = NDArray[np.float64]
Rows = NDArray[Any] | TableRows
"""Of floats, or of counts in fewer bytes; a column has one axis."""
Groups = NDArray[Any]
"""(n,) int, cluster numbers from 0."""
RESAMPLES = 1000
SEED = 20_240_617
_MOST_SUMS = 1 << 22
"""Different sums of counts up to which they are kept as a table."""


def codes(groups: Iterable[Hashable]) -> NDArray[np.int64]:
    """Number clusters in order of appearance.

    >>> codes(["a", "b", "a"]).tolist()
    [0, 1, 0]
    """
    numbers: dict[Hashable, int] = {}
    return np.fromiter((numbers.setdefault(group, len(numbers)) for group in groups), np.int64)


def sizes(groups: Groups) -> NDArray[np.int32]:
    """Items of each cluster.

    >>> sizes(np.array([0, 2, 2])).tolist()
    [1, 0, 2]
    """
    most = max((int(groups[part].max()) for part in chunks(len(groups))), default=-1) + 1
    found = np.zeros(most, np.int32)
    for part in chunks(len(groups)):
        first = int(groups[part].min())
        counted = np.bincount(groups[part] - first)
        found[first : first + len(counted)] += counted.astype(np.int32)
    return found


def mean_size(groups: Groups) -> float:
    """The size of the cluster in which the average item is.

    >>> mean_size(codes("aab"))
    1.6666666666666667
    """
    counted = sizes(groups)
    squares = (int(np.square(counted[part].astype(np.int64)).sum()) for part in chunks(len(counted)))
    return sum(squares) / len(groups)


def are_alone(groups: Groups) -> bool:
    """Whether each item is a cluster of its own, in order.

    >>> are_alone(codes("abc")), are_alone(codes("aba"))
    (True, False)
    """
    own = (np.arange(part.start, min(part.stop, len(groups))) for part in chunks(len(groups)))
    return all(np.array_equal(groups[part], numbers) for part, numbers in zip(chunks(len(groups)), own, strict=True))


def cluster_count(groups: Groups) -> int:
    """How many clusters have an item."""
    return len(groups) if are_alone(groups) else int(np.count_nonzero(sizes(groups)))


def squared_residuals(values: Rows, groups: Groups, mean: float) -> float:
    """The sum over the clusters of the squares of what their values differ from the mean, in sum."""
    if are_alone(groups):
        return total(lambda part: np.square(values[part] - mean), len(values))
    found = np.zeros(int(groups.max()) + 1)
    for part in chunks(len(values)):
        np.add.at(found, groups[part], values[part] - mean)
    return total(lambda part: np.square(found[part]), len(found))


def holding_any(values: Rows, groups: Groups, test: Callable[[Floats], NDArray[np.bool_]]) -> int:
    """How many clusters hold a value that passes a test."""
    found = np.zeros(int(groups.max()) + 1, np.bool_)
    for part in chunks(len(values)):
        found[groups[part][test(values[part])]] = True
    return int(np.count_nonzero(found))


def cluster_sums(rows: Rows, groups: Groups) -> Floats:
    """(n, k) item rows -> (clusters, k) sums."""
    sums = np.zeros((int(groups.max()) + 1, rows.shape[1]))
    for part in chunks(len(rows)):
        np.add.at(sums, groups[part], rows[part])
    return sums


def counted_sums(rows: TableRows, groups: Groups) -> TableRows | None:
    """(n, k) counts -> (clusters, k) sums, of which few differ; None where more do than a table is good for."""
    known = np.zeros(int(groups.max()) + 1, np.int32)
    table = np.zeros((1, 0), np.int64)
    for number in range(rows.shape[1]):
        sums = _counted(rows.column(number), groups)
        most = int(sums.max()) + 1
        if len(table) * most > _MOST_SUMS:
            return None
        known *= most
        known += sums
        there = _renumber(known, len(table) * most)
        table = np.column_stack([table[there // most], there % most])
    return TableRows(known.astype(np.min_scalar_type(len(table))), table)


def _counted(counts: TableRows, groups: Groups) -> NDArray[np.int32]:
    found = np.zeros(int(groups.max()) + 1, np.int32)
    for part in chunks(len(counts)):
        np.add.at(found, groups[part], counts[part].astype(np.int32))
    return found


def _renumber(numbers: NDArray[np.int32], room: int) -> NDArray[np.int64]:
    """Give the numbers below `room` that are there new ones without gaps, in place; which they were."""
    is_there = np.zeros(room, np.bool_)
    for part in chunks(len(numbers)):
        is_there[numbers[part]] = True
    there = np.flatnonzero(is_there)
    new = np.zeros(room, np.int32)
    new[there] = np.arange(len(there), dtype=np.int32)
    for part in chunks(len(numbers)):
        numbers[part] = new[numbers[part]]
    return there


class Totals:
    """Sums over all items, and over clusters drawn with replacement.

    Args:
        rows: (n, k) what each item adds.
        groups: (n,) its cluster.
    """

    def __init__(self, rows: Rows, groups: Groups) -> None:
        self.rows, self.groups = rows, groups
        self.clusters = int(groups.max()) + 1
        counts = None
        if isinstance(rows, TableRows) and rows.table.dtype.kind == "u":
            counts = counted_sums(rows, groups)
        sums = cluster_sums(rows, groups) if counts is None else counts
        self.all = _summed(sums)
        self._sums: Floats | TableRows | None = sums

    @cached_property
    def drawn(self) -> Floats:
        """(`RESAMPLES`, k) of as many clusters as there are."""
        assert self._sums is not None
        drawn, self._sums = resampled(self._sums), None
        return drawn


def _summed(sums: Floats | TableRows) -> Floats:
    """(clusters, k) -> (k,)."""
    if not isinstance(sums, TableRows):
        return np.asarray(sums.sum(0))
    return np.asarray(np.bincount(sums.codes, minlength=len(sums.table)) @ sums.table, np.float64)


class Bootstrap:
    """The totals of rows, made once for all numbers that are of the same."""

    def __init__(self) -> None:
        self._made: list[Totals] = []

    def totals(self, rows: Rows, groups: Groups) -> Totals:
        """Those of some rows in their clusters."""
        for made in self._made:
            if made.rows is rows and made.groups is groups:
                return made
        self._made.append(Totals(rows, groups))
        return self._made[-1]


def resampled(sums: Floats | TableRows, resamples: int = RESAMPLES) -> Floats:
    """Totals of clusters drawn with replacement: (clusters, k) -> (resamples, k)."""
    generator = np.random.default_rng(SEED)
    if not isinstance(sums, TableRows):
        return np.stack([_drawn(generator, sums) for _ in range(resamples)])
    counts = TableRows(sums.codes, sums.table.astype(np.float64))
    return np.stack([_drawn_counts(generator, counts) for _ in range(resamples)])


def _drawn(generator: np.random.Generator, sums: Floats) -> Floats:
    count = len(sums)
    times = np.bincount(generator.integers(0, count, count), minlength=count)
    return np.asarray(times.astype(np.float64) @ sums)


def _drawn_counts(generator: np.random.Generator, sums: TableRows) -> Floats:
    """As `_drawn`, to the last bit, for whole numbers are exact in any order."""
    count, room = len(sums), len(sums.table)
    step = max(CHUNK, room)
    times = np.zeros(room, np.int64)
    for begin in range(0, count, step):
        picked = sums.codes[generator.integers(0, count, min(step, count - begin))]
        times += np.bincount(picked, minlength=room)
    return np.asarray(times.astype(np.float64) @ sums.table)


def column(rows: Rows, number: int) -> Rows:
    """(n, k) rows -> (n,) values."""
    return rows.column(number) if isinstance(rows, TableRows) else rows[:, number]


def mean_value(values: Rows) -> float:
    """As numpy's mean of all values at once, to the last bit."""
    return total(lambda part: values[part], len(values)) / len(values)


def total(terms: Callable[[slice], Floats], n: int, begin: int = 0) -> float:
    """The sum of n terms by numpy's own pairwise halving, so that it is the same to the last bit."""
    if n <= CHUNK:
        return float(terms(slice(begin, begin + n)).sum())
    half = n // 2 - n // 2 % 8
    return total(terms, half, begin) + total(terms, n - half, begin + half)


def quotients(rows: Rows, groups: Groups, over: tuple[int, ...], under: tuple[int, ...]) -> tuple[Rows, Groups]:
    """(n, k) rows -> (m,) quotients of the rows that have anything under the line, and their clusters without gaps."""
    if not isinstance(rows, TableRows):
        found, counted = _quotient(rows, over, under)
        values: Rows = found[counted]
    else:
        table, is_counted = _quotient(rows.table, over, under)
        counted = taken(is_counted, rows.codes)
        values = TableRows(rows.codes if counted.all() else rows.codes[counted], table)
    groups = groups if counted.all() else groups[counted]
    there = sizes(groups) > 0
    return values, groups if there.all() else (np.cumsum(there) - 1)[groups]


def _quotient(rows: NDArray[Any], over: tuple[int, ...], under: tuple[int, ...]) -> tuple[Floats, NDArray[np.bool_]]:
    """Sums of columns over sums of columns, 0 for nothing under the line; and where something is."""
    top, bottom = rows[:, over].sum(1), rows[:, under].sum(1)
    return ratio(top, bottom), bottom > 0


def ratio(top: Floats, bottom: Floats) -> Floats:
    """Quotient that is 0 where the divisor is 0."""
    return np.divide(top, bottom, out=np.zeros_like(np.asarray(top, dtype=np.float64)), where=np.asarray(bottom) != 0)
