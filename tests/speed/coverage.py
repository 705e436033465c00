"""How often the 95 % intervals of shares, and of two runs' differences, hold the truth, by simulation.

Items lie in clusters: beta-binomial ones of shares, and Dirichlet-multinomial ones of differences, each of whose items
changes to right, to wrong or not.

python tests/speed/coverage.py [--quick] [--json] [--draws 1000]
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from mgtool.scoring.paired_shares import clustered_items, single_items
from mgtool.scoring.statistics import share_interval

SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
CLUSTERS, SIZES, CORRELATIONS = (30, 100, 1000), (1, 6, 18), (0.0, 0.2, 0.5)
CHANGES = ((0.01, 0.01), (0.02, 0.0), (0.05, 0.02), (0.05, 0.05), (0.1, 0.03), (0.2, 0.1), (0.3, 0.05), (0.2, 0.2))
"""Shares of items that change to right, and to wrong."""
ENOUGH = 5
"""Expected successes, and failures, from which a share is none of the rare ones."""


def drawn(generator, clusters, size, share, correlation):
    """(clusters * size,) items of 0 and 1, cluster by cluster."""
    spread = (1 - correlation) / correlation if correlation else None
    own = np.full(clusters, share) if spread is None else generator.beta(share * spread, (1 - share) * spread, clusters)
    return (generator.random((clusters, size)) < own[:, None]).astype(np.float64).ravel()


def covered(clusters, size, share, correlation, draws):
    """The part of the draws whose interval holds the share."""
    generator = np.random.default_rng([clusters, size, round(share * 100), round(correlation * 10)])
    groups = np.repeat(np.arange(clusters), size)
    hits = 0
    for _ in range(draws):
        low, high = share_interval(drawn(generator, clusters, size, share, correlation), groups)
        hits += low <= share <= high
    return hits / draws


def changed(generator, clusters, size, up, down, correlation):
    """(clusters * size,) items of 1, 0 and -1, cluster by cluster."""
    usual = np.array([up, down, 1 - up - down])
    own = np.tile(usual, (clusters, 1))
    if correlation:
        there = usual > 0
        own[:, there] = generator.dirichlet(usual[there] * (1 - correlation) / correlation, clusters)
    ends, drawn = own.cumsum(1), generator.random((clusters, size))
    return np.where(drawn < ends[:, :1], 1.0, np.where(drawn < ends[:, 1:2], -1.0, 0.0)).ravel()


def covered_difference(clusters, size, change, correlation, draws):
    """The part of the draws whose interval holds the difference."""
    up, down = change
    generator = np.random.default_rng([clusters, size, round(up * 100), round(down * 100), round(correlation * 10)])
    groups = np.repeat(np.arange(clusters), size)
    hits = 0
    for _ in range(draws):
        items = changed(generator, clusters, size, up, down, correlation)
        if size == 1:
            _, (low, high) = single_items(int((items > 0).sum()), int((items < 0).sum()), clusters)
        else:
            _, (low, high) = clustered_items(items, groups)
        hits += low <= up - down <= high
    return hits / draws


def simulated(draws, cover=covered, cases=SHARES, rarest=lambda share: min(share, 1 - share)):
    """A row for each number and size of clusters, and correlation within them; one item alone has none."""
    for clusters in CLUSTERS:
        for size in SIZES:
            for correlation in CORRELATIONS if size > 1 else CORRELATIONS[:1]:
                found = {case: cover(clusters, size, case, correlation, draws) for case in cases}
                usual = [c for case, c in found.items() if rarest(case) * clusters * size >= ENOUGH]
                rare = [c for case, c in found.items() if rarest(case) * clusters * size < ENOUGH]
                yield {
                    "clusters": clusters,
                    "size": size,
                    "correlation": correlation,
                    "mean": round(100 * float(np.mean(list(found.values()))), 1),
                    "least": round(100 * min(usual), 1),
                    "least_rare": round(100 * min(rare), 1) if rare else None,
                }


def main():
    """Print the table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="60 draws each")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--draws", type=int, default=1000)
    asked = parser.parse_args()
    draws = 60 if asked.quick else asked.draws
    tables = {
        "shares": list(simulated(draws)),
        "differences": list(simulated(draws, covered_difference, CHANGES, sum)),
    }
    if asked.json:
        named = {what: {f"{r['clusters']}x{r['size']}, {r['correlation']}": r for r in t} for what, t in tables.items()}
        print(json.dumps(named))
        return
    for what, rows in tables.items():
        print(f"{what}\nclusters  of  correlation   mean %  least %  least % of rare ones")
        for row in rows:
            rare = "-" if row["least_rare"] is None else f"{row['least_rare']:.1f}"
            numbers = f"{row['clusters']:8}  {row['size']:2}  {row['correlation']:11}   {row['mean']:6.1f}"
            print(f"{numbers}  {row['least']:7.1f}  {rare:>20}")


if __name__ == "__main__":
    main()
