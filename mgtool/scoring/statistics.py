"""Numbers with their uncertainty: clustered standard errors, intervals of shares, bootstrap intervals.

By hand: scipy has no clustered errors.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from mgtool.scoring.clusters import (
    Bootstrap,
    Floats,
    Groups,
    Rows,
    cluster_count,
    cluster_sums,
    codes,
    column,
    holding_any,
    mean_size,
    mean_value,
    quotients,
    ratio,
    resampled,
    squared_residuals,
    total,
)
from mgtool.scoring.compact import chunks

CONFIDENCE = 0.95
USUAL_CORRELATION, USUAL_WEIGHT = 0.4, 0.5
"""What the correlation within clusters is taken for where the data do not tell, and how many clusters that weighs."""
SPARE_FREEDOM = 4
"""Degrees of freedom beyond the clusters that tell something; chosen by simulation, as the two above."""


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A number with its uncertainty.

    Attributes:
        value: None where it is not defined, for instance over no items.
        stderr: standard error, clustered; None where a single cluster allows none.
        interval: 95 % confidence interval, within the number's bounds; None where a single cluster allows none.
        n: items behind the number.
    """

    value: float | None
    stderr: float | None = None
    interval: tuple[float, float] | None = None
    n: int = 0


@dataclass(frozen=True)
class Statistic:
    """A number that is a function of sums over items, so that resampling costs a matrix product.

    Attributes:
        rows: (n, k) float or counts, what each item adds.
        groups: (n,) int, the cluster of each item.
        function: (..., k) sums -> (...) values; None for the plain mean of column 0.
        scale: what the value is multiplied by, 100 for percent.
        decimals: digits that the official script rounds the value, which is a mean, to.
        ids: which items the rows are of, where the answers decide that; runs pair only where they are the same.
        share: where the value is a share of items, the columns that are summed over and under the line.
    """

    rows: Rows
    groups: Groups
    function: Callable[[Floats], Floats] | None = None
    scale: float = 100.0
    decimals: int | None = None
    ids: tuple[Hashable, ...] = ()
    share: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    def estimate(self, bootstrap: Bootstrap | None = None) -> Metric:
        """The value with its standard error and interval; `bootstrap` is what other numbers may be of, too."""
        n = len(self.rows)
        if n == 0:
            return Metric(value=None)
        metric = self._mean() if self.function is None else self._drawn(bootstrap or Bootstrap())
        if self.decimals is None or metric.value is None:
            return metric
        # means of 16, 48, 80, ... items lie on ties: only the official order of operations rounds them alike
        total = 0.0
        for part in chunks(n):
            total = np.add.accumulate(np.append(total, column(self.rows, 0)[part]))[-1]
        return msgspec.structs.replace(metric, value=round(self.scale * float(total) / n, self.decimals))

    def _mean(self) -> Metric:
        values = column(self.rows, 0)
        metric = clustered_mean(values * self.scale, self.groups)
        if metric.interval is None:
            return metric
        if is_share(values):
            low, high = share_interval(values, self.groups)
            return msgspec.structs.replace(metric, interval=(low * self.scale, high * self.scale))
        rows = np.column_stack([np.asarray(values), np.ones(len(values))])
        draws = resampled(cluster_sums(rows, self.groups))
        ends = percentiles(draws[:, 0] / draws[:, 1] * self.scale)
        return msgspec.structs.replace(metric, interval=_holding(ends, metric.value))

    def _drawn(self, bootstrap: Bootstrap) -> Metric:
        assert self.function is not None
        totals = bootstrap.totals(self.rows, self.groups)
        value = float(self.function(totals.all)) * self.scale
        if totals.clusters < 2:
            return Metric(value=value, n=len(self.rows))
        draws = self.function(totals.drawn) * self.scale
        ends = _holding(percentiles(draws), value) if self.share is None else self._share_interval()
        return Metric(value=value, stderr=float(draws.std(ddof=1)), interval=ends, n=len(self.rows))

    def _share_interval(self) -> tuple[float, float] | None:
        """As of a mean, over the items that are under the line; None where a single cluster has them."""
        assert self.share is not None
        values, groups = quotients(self.rows, self.groups, *self.share)
        if not len(groups) or groups.max() < 1:
            return None
        low, high = share_interval(values, groups)
        return low * self.scale, high * self.scale


def share_of(rows: Rows, groups: NDArray[np.int64], over: tuple[int, ...], under: tuple[int, ...]) -> Statistic:
    """A share of items, of which some columns of the rows count those over, and those under the line."""

    def quotient(sums: Floats) -> Floats:
        return ratio(sums[..., over].sum(-1), sums[..., under].sum(-1))

    return Statistic(rows, groups, quotient, share=(over, under))


def _holding(ends: tuple[float, float] | None, value: float | None) -> tuple[float, float] | None:
    """An interval that holds its value, which skewed draws may all lie beside."""
    if ends is None or value is None or not np.isfinite(value):
        return ends
    return min(ends[0], value), max(ends[1], value)


def is_share(values: Rows) -> bool:
    """Whether all values lie between 0 and 1, so that their mean does."""
    inside = (values[part].min() >= 0 and values[part].max() <= 1 for part in chunks(len(values)))
    return bool(len(values)) and all(inside)


def share_interval(values: Rows, groups: Groups) -> tuple[float, float]:
    """The 95 % interval of a mean of values from 0 to 1: Wilson's, over as many items as the clusters are worth.

    The design effect is estimated from the clusters. Where few of them hold a success, or a failure, that estimate is
    hardly one: it is drawn towards a middling correlation, and the quantile is of as few degrees of freedom. Where all
    values are the same, each cluster counts as one item. `tests/speed/coverage.py` simulates what that gives.

    Args:
        values: (n,) from 0 to 1.
        groups: (n,) cluster numbers from 0; at least two.
    """
    from scipy import special

    n, mean = len(values), mean_value(values)
    clusters = cluster_count(groups)
    binary = all(np.isin(values[part], (0.0, 1.0)).all() for part in chunks(n))
    if binary and clusters == n:
        return wilson(mean, n, float(special.ndtri((1 + CONFIDENCE) / 2)))
    effect, few = _design_effect(values, groups, mean_size(groups))
    return wilson(mean, n / effect, t_quantile(min(clusters - 1, few + SPARE_FREEDOM)))


def _design_effect(values: Rows, groups: Groups, size: float) -> tuple[float, int]:
    """How many items count as one, beside the clusters that hold successes or those that hold failures, if fewer.

    `size` is that of the cluster in which the average item is.
    """
    n, mean = len(values), mean_value(values)
    variance = total(lambda part: np.square(values[part] - mean), n) / n
    few = min(holding_any(values, groups, lambda part: part > 0), holding_any(values, groups, lambda part: part < 1))
    room = float(mean * (1 - mean))
    if variance == 0 or room <= 0:  # shares that differ from 1 by a rounding have a mean of 1
        return size, few
    clusters = cluster_count(groups)
    found = clusters / (clusters - 1) * squared_residuals(values, groups, mean) / n / variance
    usual = 1 + (size - 1) * USUAL_CORRELATION
    effect = (found * few + usual * USUAL_WEIGHT) / (few + USUAL_WEIGHT)
    graded = variance / room  # answers that are partly right vary less than yes and no do
    return effect * (graded * n + 1) / (n + 1), few


def wilson(share: float, n: float, quantile: float) -> tuple[float, float]:
    """Wilson's score interval (1927) of a share of n items, which may be no whole number.

    >>> [round(end, 4) for end in wilson(0.0, 10, 1.96)]
    [0.0, 0.2775]
    """
    square = quantile**2
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = quantile / (1 + square / n) * float(np.sqrt(share * (1 - share) / n + square / (4 * n * n)))
    return min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share)


def mean_of(
    values: Sequence[float], groups: Iterable[Hashable], *, scale: float = 100.0, ids: Iterable[Hashable] = ()
) -> Statistic:
    """The mean of item scores."""
    rows = np.asarray(values, dtype=np.float64).reshape(-1, 1)
    return Statistic(rows, codes(groups), scale=scale, ids=tuple(ids))


def averaged(numbers: Sequence[Statistic | Metric]) -> Statistic | Metric:
    """The mean of one number over several answers to the same items; a sum over items where all of them are."""
    if len(numbers) == 1:
        return numbers[0]
    parts = [number for number in numbers if isinstance(number, Statistic)]
    if len(parts) == len(numbers) and all(_alike(parts[0], part) for part in parts):
        if all(part.function is None for part in parts):
            rows = np.mean([np.asarray(part.rows)[:, :1] for part in parts], axis=0)
            return Statistic(rows, parts[0].groups, scale=parts[0].scale, ids=parts[0].ids)
        rows = np.hstack([np.asarray(part.rows) for part in parts])
        return Statistic(rows, parts[0].groups, _mean_function(parts), scale=parts[0].scale, ids=parts[0].ids)
    return _averaged_metric([number.estimate() if isinstance(number, Statistic) else number for number in numbers])


def _alike(one: Statistic, other: Statistic) -> bool:
    """Whether two numbers are of the same items, made in the same way."""
    return (
        one.rows.shape == other.rows.shape
        and (one.function is None) == (other.function is None)
        and one.scale == other.scale
        and one.ids == other.ids
        and bool((one.groups == other.groups).all())
    )


def _mean_function(parts: Sequence[Statistic]) -> Callable[[Floats], Floats]:
    width = parts[0].rows.shape[1]

    def mean(sums: Floats) -> Floats:
        values = [
            part.function(sums[..., place * width : (place + 1) * width])
            for place, part in enumerate(parts)
            if part.function is not None
        ]
        return np.asarray(np.mean(values, axis=0))

    return mean


def _averaged_metric(metrics: Sequence[Metric]) -> Metric:
    """Values, errors and ends averaged, as if the samples erred together: on the wide side."""
    defined = [metric for metric in metrics if metric.value is not None]
    if not defined:
        return metrics[0]
    errors = [metric.stderr for metric in defined if metric.stderr is not None]
    ends = [metric.interval for metric in defined if metric.interval is not None]
    interval = None
    if len(ends) == len(defined):
        interval = (float(np.mean([low for low, _ in ends])), float(np.mean([high for _, high in ends])))
    return Metric(
        value=float(np.mean([metric.value for metric in defined])),
        stderr=float(np.mean(errors)) if len(errors) == len(defined) else None,
        interval=interval,
        n=max(metric.n for metric in defined),
    )


def clustered_mean(values: Rows, groups: Groups) -> Metric:
    """Mean with a standard error that allows for items of one cluster being alike (Liang and Zeger, 1986).

    Args:
        values: (n,) item values.
        groups: (n,) cluster numbers from 0.
    """
    n, mean = len(values), mean_value(values)
    clusters = cluster_count(groups)
    if clusters < 2:
        return Metric(value=mean, n=n)
    squares = squared_residuals(values, groups, mean)
    stderr = float(np.sqrt(clusters / (clusters - 1) * squares) / n)
    reach = t_quantile(clusters - 1) * stderr
    return Metric(value=mean, stderr=stderr, interval=(mean - reach, mean + reach), n=n)


def percentiles(draws: Floats) -> tuple[float, float] | None:
    """The central 95 % of bootstrap values; None when none is a number."""
    finite = draws[np.isfinite(draws)]
    if not len(finite):
        return None
    low, high = np.quantile(finite, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def p_value(mean: float, stderr: float | None, clusters: int) -> float | None:
    """Two-sided p-value of a mean difference of 0; None where there is no standard error."""
    from scipy import special

    if not stderr:
        return None
    return float(2 * special.stdtr(clusters - 1, -abs(mean) / stderr))


def t_quantile(freedom: int) -> float:
    """How many standard errors the 95 % interval reaches, with so many degrees of freedom."""
    from scipy import special

    return float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))


def normal_interval(value: float, stderr: float | None) -> tuple[float, float] | None:
    """The 95 % interval of a number whose error is normal."""
    from scipy import special

    if stderr is None:
        return None
    reach = float(special.ndtri((1 + CONFIDENCE) / 2)) * stderr
    return value - reach, value + reach
