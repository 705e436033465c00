"""Numbers with their uncertainty: clustered standard errors, bootstrap intervals, paired differences.

By hand: scipy has no clustered errors, and its bootstrap keeps every sum's resamples, at twice the time for 20,000
clusters and only equal up to the last digits.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CONFIDENCE = 0.95
RESAMPLES = 1000
SEED = 20_240_617


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A number with its uncertainty.

    Attributes:
        value: None where it is not defined, for instance over no items.
        stderr: standard error, clustered; None where a single cluster allows none.
        interval: 95 % confidence interval.
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
        rows: (n, k) float, what each item adds.
        groups: (n,) int, the cluster of each item.
        function: (..., k) sums -> (...) values; None for the plain mean of column 0.
        scale: what the value is multiplied by, 100 for percent.
        decimals: digits that the official script rounds the value, which is a mean, to.
        ids: which items the rows are of, where the answers decide that; runs pair only where they are the same.
    """

    rows: Floats
    groups: NDArray[np.int64]
    function: Callable[[Floats], Floats] | None = None
    scale: float = 100.0
    decimals: int | None = None
    ids: tuple[Hashable, ...] = ()

    def estimate(self) -> Metric:
        """The value with its standard error and interval."""
        n = len(self.rows)
        if n == 0:
            return Metric(value=None)
        metric = self._mean() if self.function is None else self._bootstrap()
        if self.decimals is None or metric.value is None:
            return metric
        # means of 16, 48, 80, ... items lie on ties: only the official order of operations rounds them alike
        value = self.scale * float(np.add.accumulate(self.rows[:, 0])[-1]) / n
        return msgspec.structs.replace(metric, value=round(value, self.decimals))

    def _mean(self) -> Metric:
        values = self.rows[:, 0] * self.scale
        return clustered_mean(values, self.groups)

    def _bootstrap(self) -> Metric:
        assert self.function is not None
        sums = cluster_sums(self.rows, self.groups)
        value = float(self.function(sums.sum(0))) * self.scale
        if len(sums) < 2:
            return Metric(value=value, n=len(self.rows))
        draws = self.function(resampled(sums)) * self.scale
        return Metric(value=value, stderr=float(draws.std(ddof=1)), interval=percentiles(draws), n=len(self.rows))


def codes(groups: Iterable[Hashable]) -> NDArray[np.int64]:
    """Number clusters in order of appearance.

    >>> codes(["a", "b", "a"]).tolist()
    [0, 1, 0]
    """
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)


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
            rows = np.mean([part.rows[:, :1] for part in parts], axis=0)
            return Statistic(rows, parts[0].groups, scale=parts[0].scale, ids=parts[0].ids)
        rows = np.hstack([part.rows for part in parts])
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


def clustered_mean(values: Floats, groups: NDArray[np.int64]) -> Metric:
    """Mean with a standard error that allows for items of one cluster being alike (Liang and Zeger, 1986).

    Args:
        values: (n,) item values.
        groups: (n,) cluster numbers from 0.
    """
    n = len(values)
    mean = float(values.sum() / n)
    residuals = np.bincount(groups, weights=values - mean)
    clusters = int(np.count_nonzero(np.bincount(groups)))
    if clusters < 2:
        return Metric(value=mean, n=n)
    stderr = float(np.sqrt(clusters / (clusters - 1) * np.square(residuals).sum()) / n)
    reach = _t_quantile(clusters - 1) * stderr
    return Metric(value=mean, stderr=stderr, interval=(mean - reach, mean + reach), n=n)


def cluster_sums(rows: Floats, groups: NDArray[np.int64]) -> Floats:
    """(n, k) item rows -> (clusters, k) sums."""
    sums = np.zeros((int(groups.max()) + 1, rows.shape[1]))
    np.add.at(sums, groups, rows)
    return sums


def resampled(sums: Floats, resamples: int = RESAMPLES) -> Floats:
    """Totals of clusters drawn with replacement: (clusters, k) -> (resamples, k)."""
    generator = np.random.default_rng(SEED)
    count = len(sums)
    totals = [
        np.bincount(generator.integers(0, count, count), minlength=count).astype(np.float64) @ sums
        for _ in range(resamples)
    ]
    return np.stack(totals)


def percentiles(draws: Floats) -> tuple[float, float] | None:
    """The central 95 % of bootstrap values; None when none is a number."""
    finite = draws[np.isfinite(draws)]
    if not len(finite):
        return None
    low, high = np.quantile(finite, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def ratio(top: Floats, bottom: Floats) -> Floats:
    """Quotient that is 0 where the divisor is 0."""
    return np.divide(top, bottom, out=np.zeros_like(np.asarray(top, dtype=np.float64)), where=np.asarray(bottom) != 0)


def p_value(mean: float, stderr: float | None, clusters: int) -> float | None:
    """Two-sided p-value of a mean difference of 0; None where there is no standard error."""
    from scipy import special

    if not stderr:
        return None
    return float(2 * special.stdtr(clusters - 1, -abs(mean) / stderr))


def _t_quantile(freedom: int) -> float:
    from scipy import special

    return float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))


def normal_interval(value: float, stderr: float | None) -> tuple[float, float] | None:
    """The 95 % interval of a number whose error is normal."""
    from scipy import special

    if stderr is None:
        return None
    reach = float(special.ndtri((1 + CONFIDENCE) / 2)) * stderr
    return value - reach, value + reach
