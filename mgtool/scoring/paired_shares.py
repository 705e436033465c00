"""The difference of two shares over the same items: McNemar's tests, and the interval that says what they say.

By hand: scipy has neither a test for paired shares nor an interval of their difference.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mgtool.scoring.clusters import Floats, mean_size
from mgtool.scoring.statistics import CONFIDENCE, SPARE_FREEDOM, USUAL_CORRELATION, USUAL_WEIGHT, t_quantile

LEVEL = 1 - CONFIDENCE


def mcnemar(fixed: int, broken: int) -> float:
    """The exact two-sided p-value of as many items that changed one way and the other, if both are as likely.

    >>> mcnemar(8, 1), mcnemar(3, 3)
    (0.0390625, 1.0)
    """
    from scipy import special

    return min(1.0, 2 * float(special.bdtr(min(fixed, broken), fixed + broken, 0.5)))


def single_items(fixed: int, broken: int, n: int) -> tuple[float, tuple[float, float]]:
    """McNemar's exact p-value, and the 95 % interval of (fixed - broken) / n, which holds 0 where p is at least 5 %.

    The interval is Tango's, which turns McNemar's own statistic round; the exact test finds fewer differences.

    Args:
        fixed, broken: items that changed to right, and to wrong.
        n: all items.
    """
    from scipy import special

    p = mcnemar(fixed, broken)
    low, high = tango(fixed, broken, n, float(special.ndtri((1 + CONFIDENCE) / 2)))
    return p, (low, high) if p < LEVEL else (min(low, 0.0), max(high, 0.0))


def clustered_items(change: Floats, groups: NDArray[np.int64]) -> tuple[float, tuple[float, float]]:
    """McNemar's p-value over as many items as the clusters are worth, and Tango's 95 % interval likewise.

    The design effect is estimated from the clusters, drawn to a middling correlation where few of them hold a change,
    as that of a single share is.

    Args:
        change: (n,) of 1, 0 and -1.
        groups: (n,) cluster numbers from 0; at least two.
    """
    from scipy import special

    effect, few = _design_effect(change, groups)
    clusters = int(np.count_nonzero(np.bincount(groups)))
    freedom = min(clusters - 1, few + SPARE_FREEDOM)
    fixed, broken, n = ((change > 0).sum() / effect, (change < 0).sum() / effect, len(change) / effect)
    moved = float(fixed + broken)
    p = float(2 * special.stdtr(freedom, -abs(fixed - broken) / moved**0.5)) if moved else 1.0
    return p, tango(float(fixed), float(broken), n, t_quantile(freedom))


def _design_effect(change: Floats, groups: NDArray[np.int64]) -> tuple[float, int]:
    """How many items count as one, and how many clusters hold a change."""
    size = mean_size(groups)
    few = len(np.unique(groups[change != 0]))
    residuals = np.bincount(groups, weights=change - change.mean())
    clusters = int(np.count_nonzero(np.bincount(groups)))
    variance = float(change.var()) * len(change)
    usual = 1 + (size - 1) * USUAL_CORRELATION
    if not variance:
        return size, few
    found = clusters / (clusters - 1) * float(np.square(residuals).sum()) / variance
    return (found * few + usual * USUAL_WEIGHT) / (few + USUAL_WEIGHT), few


def tango(fixed: float, broken: float, n: float, quantile: float) -> tuple[float, float]:
    """Tango's score interval (1998) of (fixed - broken) / n, whose numbers may be no whole ones.

    >>> [round(end, 4) for end in tango(12, 3, 50, 1.959964)]
    [0.0314, 0.3299]
    """
    point = (fixed - broken) / n
    excess = functools.partial(_score, fixed, broken, n)
    low = _root(lambda difference: excess(difference) - quantile, -1.0, point)
    high = _root(lambda difference: excess(difference) + quantile, point, 1.0)
    return min(low, point), max(high, point)


def _score(fixed: float, broken: float, n: float, difference: float) -> float:
    """How many standard errors the data lie from a difference, the rest as likely as can be."""
    if abs(difference) >= 1:
        difference = float(np.sign(difference)) * (1 - 1e-12)
    linear = -fixed - broken + (2 * n - fixed + broken) * difference
    last = -broken * difference * (1 - difference)
    share = (max(linear**2 - 8 * n * last, 0.0) ** 0.5 - linear) / (4 * n)
    variance = n * (2 * share + difference * (1 - difference))
    return float((fixed - broken - n * difference) / max(variance, 1e-300) ** 0.5)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function is 0; the end that is nearest where it is not."""
    from scipy import optimize

    if low >= high or function(low) <= 0:
        return low
    if function(high) >= 0:
        return high
    return float(optimize.brentq(function, low, high, xtol=1e-12))
