"""Answers joined with their targets, scored, counted, sliced, compared."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from mgtool.errors import InputError
from mgtool.evaluation import identity, samples
from mgtool.evaluation.comparison import Comparison, compare
from mgtool.evaluation.identity import Identity
from mgtool.evaluation.results import AnswerCounts, EvalResult
from mgtool.evaluation.samples import MEAN
from mgtool.evaluation.slices import sliced
from mgtool.records import BoxRecord, Failure, SampleId, Score
from mgtool.scoring.benchmark import Benchmark, Item, Judge, Pair
from mgtool.scoring.predictions import Answers, Prediction
from mgtool.scoring.statistics import Metric, Statistic

ONLY_ANSWERED = "only answered"
WARNED, REFUSED = 0.01, 0.1
"""Shares of items without an answer above which it is said, and above which a run does not pass."""
NO_TARGETS = "nothing is scored: these files hold no answers; `submission` writes the file for the test server"


class JoinedAnswers(NamedTuple):
    """Items with their answers, and what was found on the way.

    Attributes:
        rounds: every item with its answer, once for each sample that a run drew.
    """

    rounds: list[Sequence[Pair]]
    failed: frozenset[str]
    duplicated: int
    unknown: list[SampleId]
    identity: Identity

    @property
    def pairs(self) -> Sequence[Pair]:
        """Every item with its answer, of several samples the first."""
        if len(self.rounds) == 1:
            return self.rounds[0]
        every = zip(*self.rounds, strict=True)
        return [next((pair for pair in pairs if pair[1] is not None), pairs[0]) for pairs in every]


@dataclass(frozen=True)
class ScoredRun:
    """One run over a benchmark, scored.

    Attributes:
        result: metrics and counts.
        scores: one for each item, in the benchmark's order.
        pairs: the items with their answers.
        answers: how many usable answers were read.
        failures: lines of the answers file that could not be read.
        unknown: ids of answers that no item has.
        rounds: the scores of each sample alone.
        unanswered: items without an answer that count in the official numbers, as wrong.
        needed: items that count in them.
    """

    result: EvalResult
    scores: list[Score] = field(repr=False)
    pairs: Sequence[Pair] = field(repr=False)
    answers: int
    failures: list[Failure]
    unknown: list[SampleId]
    rounds: list[list[Score]] = field(default_factory=list, repr=False)
    unanswered: int = 0
    needed: int = 0

    @property
    def lost(self) -> int:
        """The unanswered, where they are more than a run passes with; else 0."""
        return self.unanswered if self.unanswered > self.needed * REFUSED else 0

    @property
    def counts(self) -> AnswerCounts:
        """How complete the answers are."""
        return self.result.counts


def score(
    benchmark: Benchmark,
    items: Sequence[Item],
    answers: Answers,
    *,
    variant: str,
    only_answered: bool = False,
    judge: Judge | None = None,
    rule: str = MEAN,
    trust_ids: bool = False,
    joined: JoinedAnswers | None = None,
) -> ScoredRun:
    """Score a run.

    Args:
        benchmark, items, answers: its questions, of `Benchmark.load`, and what the run said.
        variant: one of the benchmark's `variants`.
        only_answered: leave items without an answer out instead of counting them as wrong.
        judge: who is asked, for benchmarks that need or can use one.
        rule: what is made of several samples: ``mean``, ``vote`` or ``pass@K``.
        trust_ids, joined: do not look whether the answers are to these questions; what `join` gave before.

    Raises:
        InputError: when no answer belongs to the benchmark, or most are to other questions.
        UsageError: when there are fewer samples than the rule needs.
    """
    joined = joined or join(benchmark, items, answers, trust_ids=trust_ids)
    pairs, chosen = joined.pairs, joined.rounds
    if only_answered:
        kept = [place for place, (_, answer) in enumerate(pairs) if answer is not None]
        pairs = [pairs[place] for place in kept]
        chosen = [[each[place] for place in kept] for each in chosen]
    rounds = [item_scores(benchmark, each, joined.failed, variant, judge) for each in chosen]
    run = _summed(benchmark, joined, answers, rounds, variant, rule, only_answered=only_answered, trust_ids=trust_ids)
    return dataclasses.replace(run, pairs=pairs)


def _summed(
    benchmark: Benchmark,
    joined: JoinedAnswers,
    answers: Answers,
    rounds: list[list[Score]],
    variant: str,
    rule: str,
    *,
    only_answered: bool,
    trust_ids: bool,
) -> ScoredRun:
    """The run of some scores, with what a reader has to know; its pairs are still to come."""
    result, scores = summarize(
        benchmark, rounds, count(benchmark, joined, answers), variant, rule, only_answered=only_answered
    )
    needed = [score for score in scores if benchmark.is_needed(score)]
    unanswered = sum(score.status != "answered" for score in needed)
    notes = [*result.notes, *_notes(joined, result.counts, trust_ids=trust_ids)]
    notes += [] if notes == [NO_TARGETS] else _note_of_gaps(unanswered, len(needed))
    result = msgspec.structs.replace(result, notes=notes)
    failures = [failure for failure in answers.failures if failure.stage == "eval"]
    run = ScoredRun(result, scores, [], len(answers.predictions), failures, joined.unknown, rounds)
    return dataclasses.replace(run, unanswered=unanswered, needed=len(needed))


def _note_of_gaps(unanswered: int, needed: int) -> list[str]:
    if unanswered <= needed * WARNED:
        return []
    share = f"{100 * unanswered / needed:.1f} %"
    return [f"{unanswered:,} of {needed:,} items ({share}) have no answer and count as wrong"]


def _notes(joined: JoinedAnswers, counts: AnswerCounts, *, trust_ids: bool) -> list[str]:
    """What a reader has to know of the answers themselves."""
    notes = []
    if counts.mismatched:
        policy = "are scored all the same" if trust_ids else "do not count (`trust_ids` scores them)"
        these = f"{counts.mismatched:,} answers are to other questions than those whose ids they bear, and {policy}"
        notes.append(f"{these}: {joined.identity.examples}")
    if counts.reworded:
        notes.append(f"{counts.reworded:,} answers are about the right picture, but were asked in other words")
    if counts.duplicated:
        notes.append(f"{counts.duplicated:,} answers are to an item that had one before: the last one counts")
    return notes


def with_slices(run: ScoredRun, fields: Sequence[str], boxes: Mapping[str, BoxRecord] | None = None) -> ScoredRun:
    """A run with its mean item scores by slice; arguments and errors as of `slices.sliced`."""
    slices = sliced(run.scores, fields, boxes)
    return dataclasses.replace(run, result=msgspec.structs.replace(run.result, slices=slices))


def compared(benchmark: Benchmark, first: ScoredRun, second: ScoredRun, variant: str, rule: str = MEAN) -> Comparison:
    """The second run against the first, over the items that both have."""
    before, after = common(first.scores, second.scores)
    ids = {str(score.question_id) for score in before}
    numbers = (
        _numbers(benchmark, first, before, ids, variant, rule),
        _numbers(benchmark, second, after, ids, variant, rule),
    )
    return compare(before, after, numbers, benchmark.breakdowns)


def _numbers(
    benchmark: Benchmark, run: ScoredRun, shared: list[Score], ids: set[str], variant: str, rule: str
) -> dict[str, Statistic | Metric]:
    """A run's statistics over some of its items."""
    rounds = [[score for score in each if str(score.question_id) in ids] for each in run.rounds] or [shared]
    return samples.numbers(benchmark, rounds, shared, rule, variant)


def join(benchmark: Benchmark, items: Sequence[Item], answers: Answers, *, trust_ids: bool = False) -> JoinedAnswers:
    """Give each item its answer, by id and never by position; of several answers of one sample the last counts.

    Raises:
        InputError: when not one answer belongs to the benchmark, or, unless ids are trusted, most belong to others.
    """
    places = _Places(benchmark, items)
    found: dict[int, dict[int, Prediction]] = {}
    unknown: list[SampleId] = []
    known = 0
    for prediction in benchmark.addressed(items, answers.predictions):
        place = places.of(prediction)
        if place is None:
            unknown.append(prediction.id)
        else:
            known += 1
            found.setdefault(_sample(prediction), {})[place] = prediction
    if answers.predictions and not found:
        raise InputError(_strangers(benchmark, items, answers.predictions))
    matched = ((items[place], answer) for each in found.values() for place, answer in each.items())
    fit = identity.compared(matched, places.ids)
    if fit.is_of_another and not trust_ids:
        raise InputError(_of_another(benchmark, fit))
    strangers = {id(each) for each in fit.predictions} if not trust_ids else set()
    rounds: list[Sequence[Pair]] = [
        PairSequence(items, [_unless(each.get(place), strangers) for place in range(len(items))])
        for _, each in sorted(found.items()) or [(0, {})]
    ]
    failed = frozenset(str(failure.id) for failure in answers.failures)
    return JoinedAnswers(rounds, failed, known - sum(map(len, found.values())), unknown, fit)


class PairSequence(Sequence[Pair]):
    """Items with their answers, of which no pair is kept.

    Args:
        items, answers: as many of both.
    """

    def __init__(self, items: Sequence[Item], answers: Sequence[Prediction | None]) -> None:
        self._items, self._answers = items, answers

    def __len__(self) -> int:
        """Number of items."""
        return len(self._items)

    def __iter__(self) -> Iterator[Pair]:
        return zip(self._items, self._answers, strict=True)

    def __getitem__(self, place: Any) -> Any:
        """The item at a place with its answer, or several of them as a list."""
        if isinstance(place, slice):
            return list(zip(self._items[place], self._answers[place], strict=True))
        return self._items[place], self._answers[place]


class _Places:
    """Where the item of an answer stands; other keys than the items' own are looked at where those do not do."""

    def __init__(self, benchmark: Benchmark, items: Sequence[Item]) -> None:
        self._benchmark, self._items = benchmark, items
        self._own = {str(item.id): place for place, item in enumerate(items)}

    @property
    def ids(self) -> Set[str]:
        """Those of all items."""
        return self._own.keys()

    @cached_property
    def _aliases(self) -> dict[str, int]:
        every = ((alias, place) for place, item in enumerate(self._items) for alias in self._benchmark.aliases(item))
        return {alias: place for alias, place in every if alias not in self._own}

    def of(self, answer: Prediction) -> int | None:
        """The place of the item that the surest key of an answer names; None for a stranger."""
        for key in self._benchmark.keys(answer):
            place = self._own.get(key)
            if place is None:
                place = self._aliases.get(key)
            if place is not None:
                return place
        return None


def _sample(prediction: Prediction) -> int:
    """Which of several samples an answer is; 0 where the run drew one."""
    number = prediction.fields.get("sample")
    return number if isinstance(number, int) and not isinstance(number, bool) else 0


def _unless(answer: Prediction | None, strangers: set[int]) -> Prediction | None:
    return None if id(answer) in strangers else answer


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


def item_scores(
    benchmark: Benchmark, pairs: Sequence[Pair], failed: frozenset[str], variant: str, judge: Judge | None = None
) -> list[Score]:
    """One `Score` for each item."""
    verdicts = benchmark.grade(pairs, variant, judge)
    return [
        Score(
            question_id=item.id,
            prediction=answer.text if answer is not None else None,
            extracted=verdict.extracted,
            target=item.target,
            score=verdict.score,
            status="answered" if answer is not None else "failed" if _is_among(benchmark, item, failed) else "missing",
            group=item.group or str(item.id),
            question=item.question or (answer.prompt if answer is not None else ""),
            image=(answer.image if answer is not None else "") or item.image,
            fields={**item.fields, **verdict.fields} if verdict.fields else item.fields,
        )
        for (item, answer), verdict in zip(pairs, verdicts, strict=True)
    ]


def count(benchmark: Benchmark, joined: JoinedAnswers, answers: Answers) -> AnswerCounts:
    """How complete the answers are."""
    unanswered = [item for item, answer in joined.pairs if answer is None]
    failed = sum(_is_among(benchmark, item, joined.failed) for item in unanswered)
    return AnswerCounts(
        expected=len(joined.pairs),
        answered=len(joined.pairs) - len(unanswered),
        failed=failed,
        missing=len(unanswered) - failed,
        duplicated=joined.duplicated,
        truncated=sum(answer is not None and answer.truncated for _, answer in joined.pairs),
        unknown=len(joined.unknown),
        unreadable=sum(failure.stage == "eval" for failure in answers.failures),
        mismatched=len(joined.identity.mismatched),
        reworded=joined.identity.reworded,
    )


def _is_among(benchmark: Benchmark, item: Item, failed: frozenset[str]) -> bool:
    """Whether a run recorded a failure of an item, by its id, another of its keys, or its picture."""
    return any(key in failed for key in (str(item.id), *benchmark.aliases(item), item.image) if key)


def summarize(
    benchmark: Benchmark,
    rounds: Sequence[Sequence[Score]],
    counts: AnswerCounts,
    variant: str,
    rule: str = MEAN,
    *,
    only_answered: bool = False,
) -> tuple[EvalResult, list[Score]]:
    """The scores of each sample -> metrics, breakdowns, notes; and one score for each item."""
    scores = samples.merged(rounds, rule)
    name = benchmark.label(scores, variant) + (f", {rule} of {len(rounds)} samples" if len(rounds) > 1 else "")
    result = EvalResult(
        benchmark=benchmark.name,
        variant=variant,
        name=f"{name}, {ONLY_ANSWERED}" if only_answered else name,
        metrics={benchmark.headline: Metric(value=None, n=len(scores))},
        breakdown={},
        counts=counts,
        notes=[NO_TARGETS],
    )
    if scores and not any(score.target for score in scores):
        return result, scores
    parts = samples.breakdown(benchmark, rounds, scores, rule, variant)
    result = msgspec.structs.replace(
        result,
        metrics=estimated(samples.numbers(benchmark, rounds, scores, rule, variant)),
        breakdown={field: estimated(part) for field, part in parts.items()},
        notes=benchmark.notes(rounds[0], variant),
        samples=samples.summary(benchmark, rounds, rule, variant),
    )
    return result, scores


def estimated(numbers: dict[str, Statistic | Metric]) -> dict[str, Metric]:
    """Statistics -> metrics."""
    return {name: number.estimate() if isinstance(number, Statistic) else number for name, number in numbers.items()}


def common(first: Sequence[Score], second: Sequence[Score]) -> tuple[list[Score], list[Score]]:
    """The items that two runs share, in the order of the first."""
    place = {str(score.question_id): score for score in second}
    shared = [score for score in first if str(score.question_id) in place]
    return shared, [place[str(score.question_id)] for score in shared]
