"""Several answers to one question, as sampling gives them: their mean, a vote, or pass@k."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from mgtool.errors import UsageError
from mgtool.records import Score, canonical
from mgtool.scoring.benchmark import Benchmark, mean_score
from mgtool.scoring.score_file import kept_scores
from mgtool.scoring.statistics import Metric, Statistic, averaged

MEAN, VOTE = "mean", "vote"
RIGHT = 0.5
Numbers = Mapping[str, Statistic | Metric]


class SampleSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What became of several answers to each question.

    Attributes:
        number: answers to a question.
        rule: what was made of them.
        spread: standard deviation of each metric over the samples, each scored alone.
    """

    number: int
    rule: str
    spread: dict[str, float]


def merged(rounds: Sequence[Sequence[Score]], rule: str, fields: Iterable[str] = ()) -> Sequence[Score]:
    """One score for each item from those of its samples.

    Args:
        rounds: the scores of all items, one list a sample, in the same order.
        rule: ``mean``, ``vote`` or ``pass@K``.
        fields: as of `kept_scores`.

    Raises:
        UsageError: where there are fewer than K samples.
    """
    if len(rounds) == 1 and not _tries(rule, len(rounds)):
        return rounds[0]
    make = _voted if rule == VOTE else _averaged
    return kept_scores((make(samples, rule) for samples in zip(*rounds, strict=True)), fields)


def numbers(
    benchmark: Benchmark, rounds: Sequence[Sequence[Score]], scores: Sequence[Score], rule: str, variant: str
) -> dict[str, Statistic | Metric]:
    """The benchmark's metrics, of the merged scores or as the mean over the samples."""
    if _tries(rule, len(rounds)):
        return {rule: mean_score(scores)}
    if rule == VOTE or len(rounds) == 1:
        return benchmark.metrics(scores, variant)
    return _mean([benchmark.metrics(part, variant) for part in rounds])


def breakdown(
    benchmark: Benchmark, rounds: Sequence[Sequence[Score]], scores: Sequence[Score], rule: str, variant: str
) -> Mapping[str, dict[str, Statistic | Metric]]:
    """The same by category; of pass@k, which no benchmark knows, the mean."""
    if _tries(rule, len(rounds)):
        return Benchmark.breakdown(benchmark, scores, variant)
    if rule == VOTE or len(rounds) == 1:
        return benchmark.breakdown(scores, variant)
    parts = [benchmark.breakdown(part, variant) for part in rounds]
    return {field: _mean([part[field] for part in parts if field in part]) for field in parts[0]}


def summary(benchmark: Benchmark, rounds: Sequence[Sequence[Score]], rule: str, variant: str) -> SampleSummary | None:
    """How much the samples differ; None where there is one."""
    if len(rounds) < 2:
        return None
    alone = [benchmark.metrics(part, variant) for part in rounds]
    spread = {}
    for name in alone[0]:
        values = [value for part in alone if name in part and (value := _value(part[name])) is not None]
        if len(values) > 1:
            spread[name] = float(np.std(values, ddof=1))
    return SampleSummary(number=len(rounds), rule=rule, spread=spread)


def _tries(rule: str, number: int) -> int:
    """The K of pass@K, which `number` samples have to reach; 0 for another rule."""
    tries = int(rule.removeprefix("pass@")) if rule.startswith("pass@") else 0
    if tries > number:
        raise UsageError("samples", f"{rule}: the answers have {number} to a question")
    return tries


def _averaged(samples: Sequence[Score], rule: str) -> Score:
    """The mean, or how likely one of K drawn without replacement is right (Chen et al., 2021)."""
    tries, number = _tries(rule, len(samples)), len(samples)
    score = sum(sample.score for sample in samples) / number
    if tries:
        wrong = sum(sample.score < RIGHT for sample in samples)
        score = 1 - math.comb(wrong, tries) / math.comb(number, tries)
    first = next((sample for sample in samples if sample.status == "answered"), samples[0])
    each = [sample.score for sample in samples]
    return msgspec.structs.replace(first, score=score, fields={**first.fields, "sample_scores": each})


def _voted(samples: Sequence[Score], rule: str) -> Score:
    """The sample that was read as most were; of several, the earliest."""
    votes = Counter(_ballot(sample.extracted) for sample in samples if sample.status == "answered")
    if not votes:
        return samples[0]
    most = max(votes.values())
    return next(s for s in samples if s.status == "answered" and votes[_ballot(s.extracted)] == most)


def _ballot(extracted: Any) -> bytes:
    return canonical(extracted)


def _mean(parts: Sequence[Numbers]) -> dict[str, Statistic | Metric]:
    return {name: averaged([part[name] for part in parts if name in part]) for name in parts[0]}


def _value(number: Statistic | Metric) -> float | None:
    return (number.estimate() if isinstance(number, Statistic) else number).value
