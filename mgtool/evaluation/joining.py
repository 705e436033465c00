"""Items joined with their answers: by id and never by position, in a few bytes an item."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property, reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mgtool.errors import InputError
from mgtool.evaluation import identity
from mgtool.evaluation.identity import Identity
from mgtool.records import SampleId
from mgtool.scoring.benchmark import Benchmark, Item, Pair
from mgtool.scoring.item_index import ItemIndex
from mgtool.scoring.predictions import Answers, Prediction
from mgtool.scoring.statistics import chunks

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
        self._items, self._answers, self._numbers, self._places = items, answers, numbers, places
        self._in_step = places is None and len(items) == len(answers) and _is_range(numbers)

    @property
    def answered(self) -> NDArray[np.bool_]:
        """(n,) whether each item has an answer."""
        return (self._numbers if self._places is None else self._numbers[self._places]) >= 0

    @property
    def answers(self) -> Iterator[Prediction]:
        """The answers of the items that have one, of which no item is read."""
        if self._in_step:
            yield from self._answers
            return
        chosen = self._numbers if self._places is None else self._numbers[self._places]
        for part in chunks(len(chosen)):
            yield from (self._answers[number] for number in chosen[part].tolist() if number >= 0)

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
        if self._in_step:
            yield from zip(self._items, self._answers, strict=True)
        elif self._places is None:
            for part in chunks(len(self._items)):
                first = part.start
                for place, number in enumerate(self._numbers[part].tolist(), first):
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
        number = int(self._numbers[place])
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
        self.ids = ItemIndex(items)
        self._next = 0 if self.ids.is_unique else len(items)

    @cached_property
    def _aliases(self) -> ItemIndex:
        return ItemIndex(self._items, self._benchmark.aliases)

    def of(self, answer: Prediction) -> int | None:
        """The place of the item that the surest key of an answer names; None for a stranger."""
        for key in self._benchmark.keys(answer):
            place = self._found(key)
            if place is not None:
                self._next = place + 1 if self.ids.is_unique else len(self._items)
                return place
        return None

    def _found(self, key: str) -> int | None:
        """The item behind the last one first: most files are in the order of the benchmark."""
        if self._next < len(self._items) and key == str(self._items[self._next].id):
            return self._next
        place = self.ids.find(key)
        return self._aliases.find(key) if place is None else place


def join(benchmark: Benchmark, items: Sequence[Item], answers: Answers, *, trust_ids: bool = False) -> JoinedAnswers:
    """Give each item its answer, by id and never by position; of several answers of one sample the last counts.

    Raises:
        InputError: when not one answer belongs to the benchmark, or, unless ids are trusted, most belong to others.
    """
    answered = benchmark.addressed(items, answers.predictions)
    found = _matched(benchmark, items, answered)
    if answers.predictions and not found.rounds:
        raise InputError(_strangers(benchmark, items, answers.predictions))
    order = np.concatenate([np.sort(each[each >= 0]) for each in found.rounds.values()] or [_NONE])
    fit = identity.compared(_in_order(items, answered, found.places, order), found.ids)
    if fit.is_of_another and not trust_ids:
        raise InputError(_of_another(benchmark, fit))
    for number in [] if trust_ids else order[np.asarray(fit.mismatched, np.intp)].tolist():
        for each in found.rounds.values():
            each[found.places[number]] = _unless(each[found.places[number]], number)
    rounds = [each for _, each in sorted(found.rounds.items())] or [np.full(len(items), -1, np.int32)]
    failed = frozenset(str(failure.id) for failure in answers.failures)
    duplicated = len(found.places) - len(found.unknown) - len(order)
    pairs = [PairSequence(items, answered, each) for each in rounds]
    return JoinedAnswers(pairs, failed, duplicated, found.unknown, fit)


class _Matched(NamedTuple):
    """Which answer is which item's.

    Attributes:
        places: of each answer's item; -1 for a stranger's.
        rounds: the number of each item's answer, by sample.
        unknown: ids of the strangers.
        ids: of all items.
    """

    places: array[int]
    rounds: dict[int, Numbers]
    unknown: list[SampleId]
    ids: ItemIndex


def _matched(benchmark: Benchmark, items: Sequence[Item], answers: Sequence[Prediction]) -> _Matched:
    index = _Places(benchmark, items)
    found = _Matched(array("i"), {}, [], index.ids)
    for number, answer in enumerate(answers):
        place = index.of(answer)
        found.places.append(-1 if place is None else place)
        if place is None:
            found.unknown.append(answer.id)
            continue
        sample = _sample(answer)
        if sample not in found.rounds:
            found.rounds[sample] = np.full(len(items), -1, np.int32)
        found.rounds[sample][place] = number
    return found


def _in_order(
    items: Sequence[Item], answers: Sequence[Prediction], places: array[int], order: Numbers
) -> Iterator[tuple[Item, Prediction]]:
    """The answers that count with their items."""
    if len(items) == len(answers) and _is_range(order) and _is_range(np.frombuffer(places, np.int32)):
        yield from zip(items, answers, strict=True)
        return
    for part in chunks(len(order)):
        yield from ((items[places[number]], answers[number]) for number in order[part].tolist())


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
