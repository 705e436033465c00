"""Answers joined with their targets, scored, counted, sliced, compared."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from mgtool.errors import InputError
from mgtool.evaluation.comparison import Comparison, compare
from mgtool.evaluation.slices import sliced
from mgtool.records import BoxRecord, Failure, SampleId, Score
from mgtool.scoring.benchmark import Benchmark, Item, Judge, Pair
from mgtool.scoring.predictions import Answers, Prediction
from mgtool.scoring.statistics import Metric, Statistic

ONLY_ANSWERED = "only answered"
NO_TARGETS = "nothing is scored: these files hold no answers; `submission` writes the file for the test server"


class AnswerCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How complete an answers file is.

    Attributes:
        expected: items of the benchmark.
        answered: items with an answer.
        failed: items without an answer for which the run recorded a failure.
        missing: items without an answer and without a record.
        duplicated: answers to an item that came before; the last one counts.
        truncated: answers that were cut off at the token limit.
        unknown: answers to no item of the benchmark.
        unreadable: lines of the answers file that could not be read.
    """

    expected: int
    answered: int
    failed: int
    missing: int
    duplicated: int
    truncated: int
    unknown: int
    unreadable: int


class EvalResult(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``scores.json``.

    Attributes:
        benchmark: its name.
        variant: how it was scored.
        name: both, and what else changes the number: the form of the prompt, items left out.
        metrics: the official numbers, by name.
        breakdown: the same by category, field -> value.
        counts: how complete the answers are.
        slices: mean item scores, slice -> bin.
        notes: what a reader of the numbers has to know.
    """

    benchmark: str
    variant: str
    name: str
    metrics: dict[str, Metric]
    breakdown: dict[str, dict[str, Metric]]
    counts: AnswerCounts
    slices: dict[str, dict[str, Metric]] = {}
    notes: list[str] = []


class JoinedAnswers(NamedTuple):
    """Items with their answers, and what was found on the way."""

    pairs: list[Pair]
    failed: frozenset[str]
    duplicated: int
    unknown: list[SampleId]


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
    """

    result: EvalResult
    scores: list[Score] = field(repr=False)
    pairs: list[Pair] = field(repr=False)
    answers: int
    failures: list[Failure]
    unknown: list[SampleId]

    @property
    def counts(self) -> AnswerCounts:
        """How complete the answers are."""
        return self.result.counts


class VariantScores(msgspec.Struct, frozen=True, kw_only=True):
    """An answered item whose score is not the same in every variant.

    Attributes:
        question_id: the item.
        scores: its score, by variant.
        extracted: what was read in the answer, by variant.
        prediction: the answer.
        target: what was expected.
    """

    question_id: SampleId
    scores: dict[str, float]
    extracted: dict[str, Any]
    prediction: str
    target: Any


def score(
    benchmark: Benchmark,
    items: Sequence[Item],
    answers: Answers,
    *,
    variant: str,
    only_answered: bool = False,
    judge: Judge | None = None,
) -> ScoredRun:
    """Score a run.

    Args:
        benchmark: prompt, score and metrics.
        items: its questions, of `Benchmark.load`.
        answers: what the run said.
        variant: one of the benchmark's `variants`.
        only_answered: leave items without an answer out instead of counting them as wrong.
        judge: who is asked, for benchmarks that need or can use one.
    """
    joined = join(benchmark, items, answers)
    pairs = [pair for pair in joined.pairs if pair[1] is not None] if only_answered else joined.pairs
    scores = item_scores(benchmark, pairs, joined.failed, variant, judge)
    result = summarize(benchmark, scores, count(joined, answers), variant, only_answered=only_answered)
    unreadable = [failure for failure in answers.failures if failure.stage == "eval"]
    return ScoredRun(result, scores, pairs, len(answers.predictions), unreadable, joined.unknown)


def with_slices(run: ScoredRun, fields: Sequence[str], boxes: Mapping[str, BoxRecord] | None = None) -> ScoredRun:
    """A run with its mean item scores by slice; arguments and errors as of `slices.sliced`."""
    slices = sliced(run.scores, fields, boxes)
    return dataclasses.replace(run, result=msgspec.structs.replace(run.result, slices=slices))


def compared(benchmark: Benchmark, first: ScoredRun, second: ScoredRun, variant: str) -> Comparison:
    """The second run against the first, over the items that both have."""
    before, after = common(first.scores, second.scores)
    numbers = benchmark.metrics(before, variant), benchmark.metrics(after, variant)
    return compare(before, after, numbers, benchmark.breakdowns)


def join(benchmark: Benchmark, items: Sequence[Item], answers: Answers) -> JoinedAnswers:
    """Give each item its answer, by id and never by position; of several answers the last counts.

    Raises:
        InputError: when not one answer belongs to the benchmark.
    """
    places = _places(items)
    found: dict[int, Prediction] = {}
    unknown: list[SampleId] = []
    known = 0
    for prediction in benchmark.addressed(items, answers.predictions):
        place = next((places[key] for key in benchmark.keys(prediction) if key in places), None)
        if place is None:
            unknown.append(prediction.id)
        else:
            known += 1
            found[place] = prediction
    if answers.predictions and not found:
        raise InputError(_strangers(benchmark, items, answers.predictions))
    pairs: list[Pair] = [(item, found.get(place)) for place, item in enumerate(items)]
    return JoinedAnswers(pairs, frozenset(str(f.id) for f in answers.failures), known - len(found), unknown)


def _places(items: Sequence[Item]) -> dict[str, int]:
    places = {alias: place for place, item in enumerate(items) for alias in item.aliases}
    for place, item in enumerate(items):
        places[str(item.id)] = place
    return places


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
            status="answered" if answer is not None else "failed" if _is_among(item, failed) else "missing",
            group=item.group or str(item.id),
            question=item.question or (answer.prompt if answer is not None else ""),
            image=(answer.image if answer is not None else "") or item.image,
            fields={**item.fields, **verdict.fields} if verdict.fields else item.fields,
        )
        for (item, answer), verdict in zip(pairs, verdicts, strict=True)
    ]


def count(joined: JoinedAnswers, answers: Answers) -> AnswerCounts:
    """How complete the answers are."""
    unanswered = [item for item, answer in joined.pairs if answer is None]
    failed = sum(_is_among(item, joined.failed) for item in unanswered)
    return AnswerCounts(
        expected=len(joined.pairs),
        answered=len(joined.pairs) - len(unanswered),
        failed=failed,
        missing=len(unanswered) - failed,
        duplicated=joined.duplicated,
        truncated=sum(answer is not None and answer.truncated for _, answer in joined.pairs),
        unknown=len(joined.unknown),
        unreadable=sum(failure.stage == "eval" for failure in answers.failures),
    )


def _is_among(item: Item, failed: frozenset[str]) -> bool:
    """Whether a run recorded a failure of an item, by its id, another of its keys, or its picture."""
    return any(key in failed for key in (str(item.id), *item.aliases, item.image) if key)


def summarize(
    benchmark: Benchmark, scores: Sequence[Score], counts: AnswerCounts, variant: str, *, only_answered: bool = False
) -> EvalResult:
    """Scores -> metrics, breakdowns, notes."""
    name = benchmark.label(scores, variant)
    if scores and not any(score.target for score in scores):
        nothing = {benchmark.headline: Metric(value=None, n=len(scores))}
        return EvalResult(
            benchmark=benchmark.name,
            variant=variant,
            name=name,
            metrics=nothing,
            breakdown={},
            counts=counts,
            notes=[NO_TARGETS],
        )
    return EvalResult(
        benchmark=benchmark.name,
        variant=variant,
        name=f"{name}, {ONLY_ANSWERED}" if only_answered else name,
        metrics=estimated(benchmark.metrics(scores, variant)),
        breakdown={field: estimated(part) for field, part in benchmark.breakdown(scores, variant).items()},
        counts=counts,
        notes=benchmark.notes(scores, variant),
    )


def estimated(numbers: dict[str, Statistic | Metric]) -> dict[str, Metric]:
    """Statistics -> metrics."""
    return {name: number.estimate() if isinstance(number, Statistic) else number for name, number in numbers.items()}


def common(first: Sequence[Score], second: Sequence[Score]) -> tuple[list[Score], list[Score]]:
    """The items that two runs share, in the order of the first."""
    place = {str(score.question_id): score for score in second}
    shared = [score for score in first if str(score.question_id) in place]
    return shared, [place[str(score.question_id)] for score in shared]


def explain_variants(
    benchmark: Benchmark, items: Sequence[Item], answers: Answers, judge: Judge | None = None
) -> list[VariantScores]:
    """The answered items whose score is not the same in every variant, with all their scores."""
    pairs = [pair for pair in join(benchmark, items, answers).pairs if pair[1] is not None]
    verdicts = {variant: benchmark.grade(pairs, variant, judge) for variant in benchmark.variants}
    own = ({variant: each[place] for variant, each in verdicts.items()} for place in range(len(pairs)))
    return [
        VariantScores(
            question_id=item.id,
            scores={variant: verdict.score for variant, verdict in read.items()},
            extracted={variant: verdict.extracted for variant, verdict in read.items()},
            prediction=answer.text,
            target=item.target,
        )
        for (item, answer), read in zip(pairs, own, strict=True)
        if answer is not None and len({verdict.score for verdict in read.values()}) > 1
    ]
