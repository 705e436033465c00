"""Items joined with their answers: by id and never by position, in a few bytes an item."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mgtool.errors import InputError
from mgtool.evaluation import identity
from mgtool.evaluation.identity import Identity
from mgtool.records import SampleId
from mgtool.scoring.benchmark import Benchmark, Item, Pair
from mgtool.scoring.compact import chunks, own_pages
from mgtool.scoring.item_index import ItemFinder
from mgtool.scoring.prediction_file import Prediction, fields_in
from mgtool.scoring.predictions import Answers

Numbers = NDArray[np.int32]
"""(n,) the number of each item's answer; -1 for none."""
_NONE = np.empty(0, np.int32)


class JoinedAnswers(NamedTuple):
    """Items with their answers, and what was found on the way.

    Attributes:
        rounds: every item with its answer, once for each sample that a run drew.
    """

    rounds: list[PairSequence]
    failed: frozenset[str]
    duplicated: int
    unknown: list[SampleId]
    identity: Identity

    @property
    def pairs(self) -> PairSequence:
        """Every item with its answer, of several samples the first."""
        return reduce(PairSequence.filled, self.rounds)


def having(pairs: Sequence[Pair], *fields: str) -> Iterable[Pair]:
    """The pairs, unless no answer has any of these fields."""
    if isinstance(pairs, PairSequence) and fields_in(pairs.predictions).isdisjoint(fields):
        return ()
    return pairs


class PairSequence(Sequence[Pair]):
    """Items with their answers, of which no pair is kept.

    Args:
        items, answers: of both as many as there are.
        numbers: which answer is each item's.
        places: of the items that take part; all where it is None.
    """

    def __init__(
        self,
        items: Sequence[Item],
        answers: Sequence[Prediction],
        numbers: Numbers,
        places: NDArray[Any] | None = None,
    ) -> None:
        self._items, self._answers, self._places = items, answers, places
        self._in_step = len(items) == len(answers) and _is_range(numbers)
        self._kept = None if self._in_step else numbers

    @property
    def _numbers(self) -> Numbers:
        return np.arange(len(self._items), dtype=np.int32) if self._kept is None else self._kept

    @property
    def answered(self) -> NDArray[np.bool_]:
        """(n,) whether each item has an answer."""
        if self._in_step:
            return np.ones(len(self), np.bool_)
        return (self._numbers if self._places is None else self._numbers[self._places]) >= 0

    @property
    def answers(self) -> Iterator[Prediction]:
        """The answers of the items that have one, of which no item is read."""
        if self._in_step and self._places is None:
            yield from self._answers
            return
        chosen = self._numbers if self._places is None else self._numbers[self._places]
        for part in chunks(len(chosen)):
            yield from (self._answers[number] for number in chosen[part].tolist() if number >= 0)

    @property
    def predictions(self) -> Sequence[Prediction]:
        """All answers, those to no item, too."""
        return self._answers

    def filled(self, other: PairSequence) -> PairSequence:
        """With another's answers for the items that have none here."""
        return PairSequence(
            self._items, self._answers, np.where(self._numbers >= 0, self._numbers, other._numbers), self._places
        )

    def chosen(self, places: NDArray[Any]) -> PairSequence:
        """Some of all pairs."""
        return PairSequence(self._items, self._answers, self._numbers, places)

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self._items) if self._places is None else len(self._places)

    def __iter__(self) -> Iterator[Pair]:
        if self._in_step and self._places is None:
            yield from zip(self._items, self._answers, strict=True)
        elif self._places is None:
            numbers = self._numbers
            for part in chunks(len(self._items)):
                for place, number in enumerate(numbers[part].tolist(), part.start):
                    yield self._items[place], None if number < 0 else self._answers[number]
        else:
            yield from map(self._pair, self._places.tolist())

    def __getitem__(self, place: Any) -> Any:
        """The item at a place with its answer, or several of them as a list."""
        places = range(len(self._items)) if self._places is None else self._places
        if isinstance(place, slice):
            return [self._pair(int(one)) for one in places[place]]
        return self._pair(int(places[place]))

    def _pair(self, place: int) -> Pair:
        number = place if self._kept is None else int(self._kept[place])
        return self._items[place], None if number < 0 else self._answers[number]


def _is_range(numbers: Numbers) -> bool:
    return all(
        np.array_equal(numbers[part], np.arange(part.start, part.start + len(numbers[part])))
        for part in chunks(len(numbers))
    )


class _Places:
    """Where the item of an answer stands; other keys than the items' own are looked at where those do not do."""

    def __init__(self, benchmark: Benchmark, items: Sequence[Item]) -> None:
        self._benchmark, self._items = benchmark, items
        self._own = ItemFinder(items)
        self.ids = self._own.index

    @cached_property
    def _aliases(self) -> ItemFinder[Item]:
        return ItemFinder(self._items, self._benchmark.aliases)

    def of(self, answer: Prediction) -> tuple[int, Item] | None:
        """The item that the surest key of an answer names, and its place; None for a stranger."""
        for key in self._benchmark.keys(answer):
            found = self._own.find(key) or self._aliases.find(key)
            if found is not None:
                return found
        return None


def join(benchmark: Benchmark, items: Sequence[Item], answers: Answers, *, trust_ids: bool = False) -> JoinedAnswers:
    """Give each item its answer, by id and never by position; of several answers of one sample the last counts.

    Raises:
        InputError: when not one answer belongs to the benchmark, or, unless ids are trusted, most belong to others.
    """
    answered = benchmark.addressed(items, answers.predictions)
    found = _matched(benchmark, items, answered)
    if answers.predictions and not found.rounds:
        raise InputError(_strangers(benchmark, items, answers.predictions))
    counting = found.counting
    fit = _identity(items, answered, found, counting)
    if fit.is_of_another and not trust_ids:
        raise InputError(_of_another(benchmark, fit))
    for number in () if trust_ids else fit.mismatched:
        for each in found.rounds.values():
            each[found.places[number]] = _unless(each[found.places[number]], number)
    rounds = [each for _, each in sorted(found.rounds.items())] or [np.full(len(items), -1, np.int32)]
    failed = frozenset(str(failure.id) for failure in answers.failures)
    duplicated = len(found.places) - len(found.unknown) - int(np.count_nonzero(counting))
    pairs = [PairSequence(items, answered, each) for each in rounds]
    return JoinedAnswers(pairs, failed, duplicated, found.unknown, fit)


class _Matched(NamedTuple):
    """Which answer is which item's.

    Attributes:
        places: of each answer's item; -1 for a stranger's.
        fits: how each answer fits its item.
        rounds: the number of each item's answer, by sample.
        unknown: ids of the strangers.
    """

    places: Numbers
    fits: NDArray[np.int8]
    rounds: dict[int, Numbers]
    unknown: list[SampleId]

    @property
    def counting(self) -> NDArray[np.bool_]:
        """(n,) whether each answer counts, which one with a later one to the same item does not."""
        flags = np.zeros(len(self.places), np.bool_)
        for each in self.rounds.values():
            for part in chunks(len(each)):
                flags[each[part][each[part] >= 0]] = True
        return flags


def _matched(benchmark: Benchmark, items: Sequence[Item], answers: Sequence[Prediction]) -> _Matched:
    index = _Places(benchmark, items)
    found = _Matched(own_pages(len(answers), np.int32), own_pages(len(answers), np.int8), {}, [])
    places, fits = found.places.data, found.fits.data
    for number, answer in enumerate(answers):
        place, item = index.of(answer) or (-1, None)
        places[number] = place
        fits[number] = identity.UNKNOWN if item is None else identity.fit_of(item, answer, index.ids)
        if item is None:
            found.unknown.append(answer.id)
            continue
        sample = _sample(answer)
        if sample not in found.rounds:
            found.rounds[sample] = own_pages(len(items), np.int32)
            found.rounds[sample].fill(-1)
        found.rounds[sample][place] = number
    return found


def _identity(
    items: Sequence[Item], answers: Sequence[Prediction], found: _Matched, counting: NDArray[np.bool_]
) -> Identity:
    """How the answers that count fit their items."""
    places = found.places
    others = np.flatnonzero((found.fits == identity.OTHER) & counting)
    by_sample = (others[each[places[others]] == others] for each in found.rounds.values())
    mismatched = array("i", np.concatenate([_NONE, *by_sample]).astype(np.int32).tobytes())
    examples = ((items[found.places[number]], answers[number]) for number in mismatched[: identity.EXAMPLES])
    return identity.counted(found.fits[counting], mismatched, examples)


def _unless(answer: int, stranger: int) -> int:
    return -1 if answer == stranger else answer


def _sample(prediction: Prediction) -> int:
    """Which of several samples an answer is; 0 where the run drew one."""
    number = prediction.fields.get("sample")
    return number if isinstance(number, int) and not isinstance(number, bool) else 0


def _of_another(benchmark: Benchmark, fit: Identity) -> str:
    most = f"{len(fit.mismatched):,} of {fit.comparable:,} answers that can be compared are to other questions than"
    return f"{most} those of {benchmark.name} whose ids they bear: {fit.examples}; `trust_ids` scores them all the same"


def _strangers(benchmark: Benchmark, items: Sequence[Item], predictions: Sequence[Prediction]) -> str:
    ours = ", ".join(str(item.id) for item in items[:3])
    theirs = ", ".join(str(prediction.id) for prediction in predictions[:3])
    hint = ""
    if re.fullmatch(r"\D+/\d+", str(items[0].id)):
        hint = "; the ids repeat between splits: give `split`, `questions`, or `category` in the answers"
    return f"no answer belongs to {benchmark.name}: its ids are like {ours}, those of the answers like {theirs}{hint}"
