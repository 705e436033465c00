"""Scores of many items: the records on disk, and in memory, in a few bytes an item, what metrics need of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgtool.files.record_file import BLOCK, MOST_IN_MEMORY, NotedFile, spilled
from mgtool.records import Score
from mgtool.scoring.clusters import Rows, codes
from mgtool.scoring.compact import Column, Names, Numbers, chunks, set_places, taken

Places = NDArray[np.int32]
_FEW = 64
"""Values of a field up to which the items of each are looked for alone."""
_SPARSE = 16
"""Records of a block that are passed over for each one that is wanted, from where on each is read alone."""


class ScoreFile(NotedFile[Score]):
    """Scores on disk, with their numbers, clusters and some fields as columns.

    Args:
        fields: those that are asked for by `column`; one that is not among them takes a pass.
    """

    def __init__(self, fields: Iterable[str] = ()) -> None:
        super().__init__(Score)
        self._numbers, self._names = Numbers(), Names()
        self._columns = {field: Column() for field in fields}
        self._fields: dict[str, Numbers] = {}

    def take(self, fresh: Sequence[Score]) -> None:
        """Bring the columns up to the last score."""
        for score in fresh:
            self._numbers.append(score.score)
        self._names.extend([score.group for score in fresh])
        for field, column in self._columns.items():
            column.extend([score.fields.get(field) for score in fresh])

    @property
    def numbers(self) -> Numbers:
        """Each item's score."""
        self.note()
        return self._numbers

    @property
    def groups(self) -> NDArray[np.int32]:
        """(n,) the cluster of each item, numbered in order of appearance."""
        self.note()
        return self._names.codes

    def column(self, field: str) -> Column:
        """The values of a field; None where an item has none."""
        self.note()
        if field not in self._columns:
            column = Column()
            column.extend(score.fields.get(field) for score in self)
            self._columns[field] = column
        return self._columns[field]

    def numbers_in(self, field: str) -> Numbers:
        """The numbers in a field, which all items have."""
        if field not in self._fields:
            numbers = self._fields[field] = Numbers()
            for score in self:
                numbers.append(score.fields[field])
        return self._fields[field]

    def at(self, places: Places) -> Iterator[Score]:
        """The scores at some places."""
        ends = np.flatnonzero(np.diff(places // BLOCK)) + 1
        for part in np.split(places, ends):
            number = int(part[0]) // BLOCK if len(part) else 0
            if len(part) * _SPARSE < BLOCK or number == len(self) // BLOCK:
                yield from (self._at(int(place)) for place in part)
            else:
                block = self._block(number)
                yield from (block[inside] for inside in (part % BLOCK).tolist())


class Part(Sequence[Score]):
    """Some of the scores in a file.

    Args:
        file: all scores.
        places: where these stand in it; as they ascend, each block is decoded once.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, file: ScoreFile, places: Places) -> None:
        self.file, self.places = file, places

    def __len__(self) -> int:
        """Number of scores."""
        return len(self.places)

    def __iter__(self) -> Iterator[Score]:
        return self.file.at(self.places)

    def __getitem__(self, place: Any) -> Any:
        """The score at a place, or several as a list."""
        if isinstance(place, slice):
            return list(self.file.at(self.places[place])) if (place.step or 1) > 0 else list(self)[place]
        return self.file[int(self.places[place])]

    def __eq__(self, other: object) -> bool:
        return list(self) == other

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


def kept_scores(scores: Iterable[Score], fields: Iterable[str] = (), most: int = MOST_IN_MEMORY) -> Sequence[Score]:
    """Scores as a list, or, where there are more than `most`, in a file; `fields` and errors as of `ScoreFile`."""
    return spilled(scores, lambda: ScoreFile(fields), most)


def where(scores: Sequence[Score], keep: Callable[[Score], Any]) -> Sequence[Score]:
    """The scores for which `keep` is true."""
    file, places = _located(scores)
    if file is None:
        return [score for score in scores if keep(score)]
    flags = np.fromiter((bool(keep(score)) for score in scores), np.bool_, len(scores))
    return scores if flags.all() else _part(file, set_places(flags), places)


def together(parts: Sequence[Sequence[Score]]) -> Sequence[Score]:
    """The scores of one part after those of the other."""
    located = [_located(part) for part in parts]
    file = located[0][0] if located else None
    if file is None or any(own is not file for own, _ in located):
        return [score for part in parts for score in part]
    places = (np.arange(len(file), dtype=np.int32) if own is None else own for _, own in located)
    return Part(file, np.concatenate(list(places)))


def rows_of(scores: Sequence[Score]) -> Rows:
    """(n, 1) each item's score."""
    file, places = _located(scores)
    if file is None:
        return np.array([score.score for score in scores], np.float64).reshape(-1, 1)
    return file.numbers.rows(places)


def numbers_in(scores: Sequence[Score], field: str) -> Rows:
    """(n, 1) the number that each item has in a field, which all have."""
    file, places = _located(scores)
    if file is None:
        return np.array([score.fields[field] for score in scores], np.float64).reshape(-1, 1)
    return file.numbers_in(field).rows(places)


def groups_of(scores: Sequence[Score]) -> NDArray[Any]:
    """(n,) the cluster of each item, numbered in order of appearance."""
    file, places = _located(scores)
    if file is None:
        return codes(score.group for score in scores)
    return file.groups if places is None else renumbered(taken(file.groups, places))


def renumbered(numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    """Numbers in order of their appearance here, which take the place of the old ones.

    >>> renumbered(np.array([5, 2, 5, 0], np.int32)).tolist()
    [0, 1, 0, 2]
    """
    new, count = np.full(int(numbers.max(initial=-1)) + 1, -1, np.int32), 0
    for part in chunks(len(numbers)):
        own = numbers[part]
        fresh, first = np.unique(own[new[own] < 0], return_index=True)
        new[fresh[np.argsort(first)]] = np.arange(count, count + len(fresh), dtype=np.int32)
        count += len(fresh)
        numbers[part] = new[own]
    return numbers


def has_field(scores: Sequence[Score], field: str) -> bool:
    """Whether any item has a field."""
    file, places = _located(scores)
    if file is None:
        return any(field in score.fields for score in scores)
    column = file.column(field)
    own = column.codes if places is None else taken(column.codes, places)
    return bool(own.any())


def by_value(scores: Sequence[Score], value_of: Callable[[Score], Hashable]) -> dict[Any, Sequence[Score]]:
    """Scores by what a function says of each, in order of appearance; those of which it says None are left out."""
    file, places = _located(scores)
    if file is None:
        parts: dict[Any, list[Score]] = defaultdict(list)
        for score in scores:
            parts[value_of(score)].append(score)
        return {value: part for value, part in parts.items() if value is not None}
    column = Column()
    column.extend(map(value_of, scores))
    return _split(file, column, column.codes, places)


def by_field(scores: Iterable[Score], field: str) -> dict[str, Sequence[Score]]:
    """Scores by the value of a field, values sorted; an item with several values counts for each."""
    file, places = _located(scores)
    if file is not None:
        column = file.column(field)
        found = _split(file, column, column.codes if places is None else taken(column.codes, places), places)
    else:
        found = defaultdict(list)
        for score in scores:
            for one in _several(score.fields.get(field)):
                found[one].append(score)
    return {str(value): found[value] for value in sorted(found, key=lambda value: (str(type(value)), value))}


def _split(file: ScoreFile, column: Column, numbers: NDArray[Any], places: Places | None) -> dict[Any, Any]:
    """The parts of each value: those that have it alone are neighbours once the numbers are sorted."""
    parts = (np.bincount(numbers[part], minlength=len(column.values)) for part in chunks(len(numbers)))
    counts = sum(parts, np.zeros(len(column.values), np.int64))
    if counts.max() == len(numbers) and not isinstance(column.values[counts.argmax()], list | tuple):
        only = column.values[numbers[0]] if len(numbers) else None
        return {} if only is None else {only: file if places is None else Part(file, places)}
    found: dict[Any, list[Places]] = defaultdict(list)
    for code, own in sorted(_places(numbers, counts), key=lambda pair: int(pair[1][0])):
        for one in _several(column.values[code]):
            found[one].append(own)
    return {one: _part(file, np.sort(np.concatenate(own)) if own[1:] else own[0], places) for one, own in found.items()}


def _places(numbers: NDArray[Any], counts: NDArray[np.int64]) -> Iterator[tuple[int, Places]]:
    """The numbers that are there, with their places: each by a pass where they are few, which takes less memory."""
    there = np.flatnonzero(counts).tolist()
    if len(there) <= _FEW:
        yield from ((code, set_places(numbers == code)) for code in there)
        return
    order, ends = np.argsort(numbers, kind="stable").astype(np.int32), np.cumsum(counts)
    yield from ((code, order[ends[code] - counts[code] : ends[code]]) for code in there)


def _several(value: Any) -> list[Hashable]:
    return [one for one in (value if isinstance(value, list | tuple) else (value,)) if one is not None]


def _located(scores: Iterable[Score]) -> tuple[ScoreFile | None, Places | None]:
    """The file that scores are in, and where; nowhere for a list, all places for the file itself."""
    if isinstance(scores, Part):
        return scores.file, scores.places
    return (scores, None) if isinstance(scores, ScoreFile) else (None, None)


def _part(file: ScoreFile, chosen: NDArray[Any], places: Places | None) -> Part:
    return Part(file, chosen.astype(np.int32, copy=False) if places is None else taken(places, chosen))
