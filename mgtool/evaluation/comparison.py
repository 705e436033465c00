"""Two runs over the same items: paired differences, and the items that flipped.

By hand: scipy's paired tests take items of one picture for independent; its distributions are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from mgtool.records import SampleId, Score
from mgtool.scoring.benchmark import by_field
from mgtool.scoring.statistics import (
    Metric,
    Statistic,
    cluster_sums,
    clustered_mean,
    codes,
    is_share,
    normal_interval,
    p_value,
    percentiles,
    resampled,
)

RIGHT = 0.5


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The second run's number minus the first's.

    Attributes:
        first: the first run's value.
        second: the second run's value.
        difference: second - first.
        stderr: standard error of the difference; items are paired and clustered by picture.
        interval: 95 % confidence interval of the difference.
        p_value: two-sided, of no difference.
        n: items in both runs.
    """

    first: float | None
    second: float | None
    difference: float | None
    stderr: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    n: int = 0


class Flip(msgspec.Struct, frozen=True, kw_only=True):
    """An item whose score changed."""

    question_id: SampleId
    first: float
    second: float
    first_prediction: str | None
    second_prediction: str | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``comparison.json``.

    Attributes:
        metrics: by metric; one that is the mean of item scores, or a function of sums over items, has an error.
        breakdown: the mean item score, field -> value.
        fixed: items that were wrong and are right.
        broken: items that were right and are wrong.
        flips: every item whose score changed.
    """

    metrics: dict[str, Difference]
    breakdown: dict[str, dict[str, Difference]]
    fixed: int
    broken: int
    flips: list[Flip]


def compare(
    first: Sequence[Score],
    second: Sequence[Score],
    numbers: tuple[Mapping[str, Statistic | Metric], Mapping[str, Statistic | Metric]],
    fields: Sequence[str],
) -> Comparison:
    """Compare two runs of one benchmark, item by item.

    Args:
        first: scores of the first run.
        second: scores of the second run, the same items in the same order.
        numbers: both runs' statistics, of `Benchmark.metrics`.
        fields: what to break the difference down by.
    """
    metrics = {name: _difference(numbers[0][name], numbers[1][name]) for name in numbers[0] if name in numbers[1]}
    after = {str(score.question_id): score for score in second}
    flips = [flip for score in first if (flip := _flip(score, after[str(score.question_id)])) is not None]
    return Comparison(
        metrics=metrics,
        breakdown={field: _by_value(first, after, field) for field in fields},
        fixed=sum(flip.first < RIGHT <= flip.second for flip in flips),
        broken=sum(flip.second < RIGHT <= flip.first for flip in flips),
        flips=flips,
    )


def _by_value(first: Sequence[Score], after: Mapping[str, Score], field: str) -> dict[str, Difference]:
    return {
        value: _mean_difference(part, [after[str(score.question_id)] for score in part])
        for value, part in by_field(first, field).items()
    }


def _flip(first: Score, second: Score) -> Flip | None:
    if first.score == second.score:
        return None
    return Flip(
        question_id=first.question_id,
        first=first.score,
        second=second.score,
        first_prediction=first.prediction,
        second_prediction=second.prediction,
    )


def _mean_difference(first: Sequence[Score], second: Sequence[Score]) -> Difference:
    change = np.array([b.score - a.score for a, b in zip(first, second, strict=True)]) * 100
    groups = codes(score.group for score in first)
    metric = clustered_mean(change, groups)
    if is_share(np.array([score.score for score in (*first, *second)])):
        metric = _within(metric, 100.0)
    before = float(np.mean([score.score for score in first])) * 100
    return _filled(before, before + (metric.value or 0.0), metric, int(groups.max()) + 1)


def _within(metric: Metric, most: float) -> Metric:
    """A difference of two shares, which no error makes larger than the whole."""
    if metric.interval is None:
        return metric
    low, high = metric.interval
    return msgspec.structs.replace(metric, interval=(max(low, -most), min(high, most)))


def _difference(first: Statistic | Metric, second: Statistic | Metric) -> Difference:
    if isinstance(first, Metric) or isinstance(second, Metric) or first.ids != second.ids:
        return _unpaired(_estimated(first), _estimated(second))
    if first.function is None and len(first.rows):
        change = (second.rows[:, 0] - first.rows[:, 0]) * first.scale
        metric = clustered_mean(change, first.groups)
        if is_share(first.rows[:, 0]) and is_share(second.rows[:, 0]):
            metric = _within(metric, first.scale)
        return _filled(first.estimate().value, second.estimate().value, metric, int(first.groups.max()) + 1)
    return _resampled_difference(first, second)


def _resampled_difference(first: Statistic, second: Statistic) -> Difference:
    """Both runs on the same drawn pictures."""
    before, after = first.estimate().value, second.estimate().value
    if before is None or after is None or first.function is None or second.function is None:
        return Difference(first=before, second=after, difference=None)
    width = first.rows.shape[1]
    sums = cluster_sums(np.hstack([first.rows, second.rows]), first.groups)
    if len(sums) < 2:
        return Difference(first=before, second=after, difference=after - before, n=len(first.rows))
    totals = resampled(sums)
    draws = (second.function(totals[:, width:]) - first.function(totals[:, :width])) * first.scale
    metric = Metric(
        value=after - before, stderr=float(draws.std(ddof=1)), interval=percentiles(draws), n=len(first.rows)
    )
    return _filled(before, after, metric, len(sums))


def _unpaired(first: Metric, second: Metric) -> Difference:
    """Numbers that are no sums over items (AP), or not over the same items.

    The errors are taken as independent, which errs on the wide side.
    """
    if first.value is None or second.value is None:
        return Difference(first=first.value, second=second.value, difference=None)
    error = None if first.stderr is None or second.stderr is None else float(np.hypot(first.stderr, second.stderr))
    change = second.value - first.value
    metric = Metric(value=change, stderr=error, interval=normal_interval(change, error), n=first.n)
    return _filled(first.value, second.value, metric, max(first.n, 2))


def _filled(before: float | None, after: float | None, metric: Metric, clusters: int) -> Difference:
    change = None if before is None or after is None else after - before
    return Difference(
        first=before,
        second=after,
        difference=change,
        stderr=metric.stderr,
        interval=metric.interval,
        p_value=p_value(metric.value or 0.0, metric.stderr, clusters),
        n=metric.n,
    )


def _estimated(number: Statistic | Metric) -> Metric:
    return number.estimate() if isinstance(number, Statistic) else number
