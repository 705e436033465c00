"""Intervals of paired differences against the definition, and what the tests beside them say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import optimize

from mgtool.scoring.paired_shares import clustered_items, single_items, tango

Z = 1.959963984540054


def statistic(fixed: int, broken: int, n: int, difference: float) -> float:
    """The score of a difference, the likeliest share found by search instead of by formula."""

    def unlikeliness(share: float) -> float:
        cells = (share + difference, share, 1 - 2 * share - difference)
        counts = (fixed, broken, n - fixed - broken)
        return -sum(count * np.log(max(cell, 1e-300)) for count, cell in zip(counts, cells, strict=True))

    least, most = max(0.0, -difference), (1 - difference) / 2
    share = optimize.minimize_scalar(unlikeliness, bounds=(least, most), method="bounded", options={"xatol": 1e-12}).x
    return (fixed - broken - n * difference) / (n * (2 * share + difference - difference**2)) ** 0.5


@pytest.mark.parametrize(("fixed", "broken", "n"), [(12, 3, 50), (8, 1, 20), (1, 1, 300), (30, 2, 33), (2, 9, 11)])
def test_at_its_ends_the_score_is_the_quantile(fixed: int, broken: int, n: int) -> None:
    low, high = tango(fixed, broken, n, Z)
    assert statistic(fixed, broken, n, low) == pytest.approx(Z, abs=1e-3)
    assert statistic(fixed, broken, n, high) == pytest.approx(-Z, abs=1e-3)


def test_an_interval_holds_0_just_where_the_test_finds_nothing() -> None:
    for n, fixed, broken in itertools.product((1, 7, 40), range(8), range(8)):
        if fixed + broken <= n:
            p, (low, high) = single_items(fixed, broken, n)
            assert -1 <= low <= (fixed - broken) / n <= high <= 1
            assert (low <= 0 <= high) == (p >= 0.05), (n, fixed, broken)


def test_of_clusters_it_does_so_too() -> None:
    generator = np.random.default_rng(0)
    for size, share in itertools.product((2, 6), (0.0, 0.02, 0.3)):
        groups = np.repeat(np.arange(20), size)
        for _ in range(20):
            change = generator.choice([1.0, 0.0, -1.0], len(groups), p=[share, 0.69, 0.31 - share])
            p, (low, high) = clustered_items(change, groups)
            assert -1 <= low <= change.mean() <= high <= 1
            assert (low <= 0 <= high) == (p >= 0.05)


def test_runs_that_never_differ_may_still_differ_a_little() -> None:
    p, (low, high) = clustered_items(np.zeros(60), np.repeat(np.arange(30), 2))
    assert p == 1
    assert low == pytest.approx(-high)
    assert 0 < high < 0.25


def test_a_change_of_all_is_sure() -> None:
    p, (low, high) = single_items(20, 0, 20)
    assert p < 1e-5
    assert low > 2 / 3
    assert high == 1
