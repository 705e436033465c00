"""Answers joined with their targets, scored, counted, sliced, compared."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from mgtool.evaluation import samples
from mgtool.evaluation.comparison import Comparison, compare
from mgtool.evaluation.joining import JoinedAnswers, join
from mgtool.evaluation.results import AnswerCounts, EvalResult
from mgtool.evaluation.samples import MEAN
from mgtool.evaluation.slices import sliced
from mgtool.records import BoxRecord, Failure, SampleId, Score
from mgtool.scoring.benchmark import Benchmark, Item, Judge, Pair
from mgtool.scoring.clusters import Bootstrap
from mgtool.scoring.prediction_file import is_any_truncated
from mgtool.scoring.predictions import Answers
from mgtool.scoring.score_file import kept_scores, where
from mgtool.scoring.statistics import Metric, Statistic

ONLY_ANSWERED = "only answered"
WARNED, REFUSED = 0.01, 0.1
"""Shares of items without an answer above which it is said, and above which a run does not pass."""
MANY = 100_000
"""Items from which on it is said that memory grows with them."""
NO_TARGETS = "nothing is scored: these files hold no answers; `submission` writes the file for the test server"


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
    scores: Sequence[Score] = field(repr=False)
    pairs: Sequence[Pair] = field(repr=False)
    answers: int
    failures: list[Failure]
    unknown: list[SampleId]
    rounds: Sequence[Sequence[Score]] = field(default_factory=list, repr=False)
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
        answered = np.flatnonzero(pairs.answered)
        pairs, chosen = pairs.chosen(answered), [each.chosen(answered) for each in chosen]
    rounds = [item_scores(benchmark, each, joined.failed, variant, judge) for each in chosen]
    run = _summed(benchmark, joined, answers, rounds, variant, rule, only_answered=only_answered, trust_ids=trust_ids)
    return dataclasses.replace(run, pairs=pairs)


def _summed(
    benchmark: Benchmark,
    joined: JoinedAnswers,
    answers: Answers,
    rounds: list[Sequence[Score]],
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
    needed, unanswered = _needed(benchmark, scores, result.counts)
    notes = [*result.notes, *_notes(joined, result.counts, trust_ids=trust_ids)]
    notes += [] if notes == [NO_TARGETS] else _note_of_gaps(unanswered, needed)
    notes += _note_of_memory(benchmark, scores)
    result = msgspec.structs.replace(result, notes=notes)
    failures = [failure for failure in answers.failures if failure.stage == "eval"]
    run = ScoredRun(result, scores, [], len(answers.predictions), failures, joined.unknown, rounds)
    return dataclasses.replace(run, unanswered=unanswered, needed=needed)


def _needed(benchmark: Benchmark, scores: Sequence[Score], counts: AnswerCounts) -> tuple[int, int]:
    """How many items count, and how many of these have no answer."""
    if type(benchmark).is_needed is Benchmark.is_needed and counts.answered == counts.expected:
        return len(scores), 0
    answered = Counter(score.status == "answered" for score in scores if benchmark.is_needed(score))
    return answered.total(), answered[False]


def _note_of_memory(benchmark: Benchmark, scores: Sequence[Score]) -> list[str]:
    if not benchmark.needs_all or len(scores) < MANY:
        return []
    return [f"these numbers are of all {len(scores):,} items together, so that memory grows with the items"]


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
    benchmark: Benchmark, run: ScoredRun, shared: Sequence[Score], ids: set[str], variant: str, rule: str
) -> dict[str, Statistic | Metric]:
    """A run's statistics over some of its items."""
    rounds = [where(each, lambda score: str(score.question_id) in ids) for each in run.rounds] or [shared]
    return samples.numbers(benchmark, rounds, shared, rule, variant)


def item_scores(
    benchmark: Benchmark, pairs: Sequence[Pair], failed: frozenset[str], variant: str, judge: Judge | None = None
) -> Sequence[Score]:
    """One `Score` for each item."""
    verdicts = benchmark.grade(pairs, variant, judge)
    scores = (
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
    )
    return list(scores) if benchmark.needs_all else kept_scores(scores, (*benchmark.breakdowns, *benchmark.noted))


def count(benchmark: Benchmark, joined: JoinedAnswers, answers: Answers) -> AnswerCounts:
    """How complete the answers are."""
    pairs = joined.pairs
    lacking = np.flatnonzero(~pairs.answered)
    failed = sum(_is_among(benchmark, item, joined.failed) for item, _ in pairs.chosen(lacking))
    return AnswerCounts(
        expected=len(pairs),
        answered=len(pairs) - len(lacking),
        failed=failed,
        missing=len(lacking) - failed,
        duplicated=joined.duplicated,
        truncated=sum(answer.truncated for answer in pairs.answers) if is_any_truncated(pairs.predictions) else 0,
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
) -> tuple[EvalResult, Sequence[Score]]:
    """The scores of each sample -> metrics, breakdowns, notes; and one score for each item."""
    scores = samples.merged(rounds, rule, benchmark.breakdowns)
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
    shared = Bootstrap()
    return {
        name: number.estimate(shared) if isinstance(number, Statistic) else number for name, number in numbers.items()
    }


def common(first: Sequence[Score], second: Sequence[Score]) -> tuple[Sequence[Score], Sequence[Score]]:
    """The items that two runs share, in the order of the first."""
    if len(first) == len(second) and all(map(_are_of_one, first, second)):
        return first, second
    place = {str(score.question_id): number for number, score in enumerate(second)}
    shared = where(first, lambda score: str(score.question_id) in place)
    return shared, kept_scores(second[place[str(score.question_id)]] for score in shared)


def _are_of_one(one: Score, other: Score) -> bool:
    return str(one.question_id) == str(other.question_id)
