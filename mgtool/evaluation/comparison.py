"""Two runs over the same items: paired differences, and the items that flipped.

By hand: scipy's paired tests take items of one picture for independent; its distributions are used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mgtool.evaluation.provenance import Provenance
from mgtool.records import SampleId, Score
from mgtool.scoring.benchmark import by_field
from mgtool.scoring.clusters import Floats, cluster_sums, codes, resampled
from mgtool.scoring.paired_shares import clustered_items, single_items
from mgtool.scoring.statistics import Metric, Statistic, clustered_mean, is_share, normal_interval, p_value, percentiles

RIGHT = 0.5
SEEN = 1.959964 + 0.841621
"""Standard errors that a difference has to be large to be found at 5 % in four of five trials: z of .975 and of .8."""
Test = Literal["McNemar", "clustered McNemar", "paired t", "paired bootstrap", "unpaired"]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The second run's number minus the first's.

    Attributes:
        first: the first run's value.
        second: the second run's value.
        difference: second - first.
        stderr: standard error of the difference; items are paired and clustered by picture.
        interval: 95 % confidence interval of the difference.
        p_value: two-sided, of no difference.
        test: what it is of: McNemar's exact test where answers are right or wrong, one a picture, or his test over as
            many items as the pictures are worth; else a paired t test of the pictures, a paired bootstrap, or the two
            runs' errors as if they were independent. The interval holds 0 where p is at least 5 %.
        n: items in both runs.
        needed: items of this kind that it would take to see a difference of this size (5 %, with a power of 80 %).
    """

    first: float | None
    second: float | None
    difference: float | None
    stderr: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    test: Test | None = None
    n: int = 0
    needed: int | None = None


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
        name: of both results: benchmark and variant.
        first_run: what the first run's numbers are of.
        second_run: what the second run's are.
    """

    metrics: dict[str, Difference]
    breakdown: dict[str, dict[str, Difference]]
    fixed: int
    broken: int
    flips: list[Flip]
    name: str = ""
    first_run: Provenance = Provenance()
    second_run: Provenance = Provenance()


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
    before, after = (np.array([score.score for score in run]) for run in (first, second))
    return _paired(before, after, codes(score.group for score in first), 100.0)


def _difference(first: Statistic | Metric, second: Statistic | Metric) -> Difference:
    if isinstance(first, Metric) or isinstance(second, Metric) or first.ids != second.ids:
        return _unpaired(_estimated(first), _estimated(second))
    if first.function is not None or not len(first.rows):
        return _resampled_difference(first, second)
    before, after = (np.asarray(run.rows)[:, 0] for run in (first, second))
    found = _paired(before, after, first.groups, first.scale)
    values = first.estimate().value, second.estimate().value  # rounded as the official script does
    change = None if values[0] is None or values[1] is None else values[1] - values[0]
    return msgspec.structs.replace(found, first=values[0], second=values[1], difference=change)


def _paired(before: Floats, after: Floats, groups: NDArray[np.int64], scale: float) -> Difference:
    """The means of the same items: of right and wrong by McNemar's test, else by a t test of the clusters."""
    change = after - before
    metric = clustered_mean(change * scale, groups)
    if is_share(before) and is_share(after):
        metric = _within(metric, scale)
    clusters = int(groups.max()) + 1
    first, second = float(before.mean()) * scale, float(after.mean()) * scale
    difference = _filled(first, second, metric, clusters, "paired t")
    if metric.stderr is None or not all(np.isin(run, (0.0, 1.0)).all() for run in (before, after)):
        return difference
    test: Test = "McNemar" if clusters == len(change) else "clustered McNemar"
    if test == "McNemar":
        p, ends = single_items(int((change > 0).sum()), int((change < 0).sum()), len(change))
    else:
        p, ends = clustered_items(change, groups)
    interval = (ends[0] * scale, ends[1] * scale)
    moved = bool(change.any())
    tested = {"p_value": p if moved else None, "test": test if moved else None}
    return msgspec.structs.replace(difference, interval=interval, **tested)


def _within(metric: Metric, most: float) -> Metric:
    """A difference of two shares, which no error makes larger than the whole."""
    if metric.interval is None:
        return metric
    low, high = metric.interval
    return msgspec.structs.replace(metric, interval=(max(low, -most), min(high, most)))


def _resampled_difference(first: Statistic, second: Statistic) -> Difference:
    """Both runs on the same drawn pictures."""
    before, after = first.estimate().value, second.estimate().value
    if before is None or after is None or first.function is None or second.function is None:
        return Difference(first=before, second=after, difference=None)
    width = first.rows.shape[1]
    sums = cluster_sums(np.hstack([np.asarray(first.rows), np.asarray(second.rows)]), first.groups)
    if len(sums) < 2:
        return Difference(first=before, second=after, difference=after - before, n=len(first.rows))
    totals = resampled(sums)
    draws = (second.function(totals[:, width:]) - first.function(totals[:, :width])) * first.scale
    metric = Metric(
        value=after - before, stderr=float(draws.std(ddof=1)), interval=percentiles(draws), n=len(first.rows)
    )
    return _filled(before, after, metric, len(sums), "paired bootstrap")


def _unpaired(first: Metric, second: Metric) -> Difference:
    """Numbers that are no sums over items (AP), or not over the same items.

    The errors are taken as independent, which errs on the wide side.
    """
    if first.value is None or second.value is None:
        return Difference(first=first.value, second=second.value, difference=None)
    error = None if first.stderr is None or second.stderr is None else float(np.hypot(first.stderr, second.stderr))
    change = second.value - first.value
    metric = Metric(value=change, stderr=error, interval=normal_interval(change, error), n=first.n)
    return _filled(first.value, second.value, metric, max(first.n, 2), "unpaired")


def _filled(before: float | None, after: float | None, metric: Metric, clusters: int, test: Test) -> Difference:
    change = None if before is None or after is None else after - before
    p = p_value(metric.value or 0.0, metric.stderr, clusters)
    return Difference(
        first=before,
        second=after,
        difference=change,
        stderr=metric.stderr,
        interval=metric.interval,
        p_value=p,
        test=None if p is None else test,
        n=metric.n,
        needed=_needed(metric),
    )


def _needed(metric: Metric) -> int | None:
    """Items that show the difference; None where there is none, or no error."""
    if not metric.value or not metric.stderr:
        return None
    return math.ceil(metric.n * (SEEN * metric.stderr / metric.value) ** 2)


def _estimated(number: Statistic | Metric) -> Metric:
    return number.estimate() if isinstance(number, Statistic) else number
