"""How often the 95 % intervals of shares hold the truth, by simulation: clusters of beta-binomial items.

python tests/speed/coverage.py [--quick] [--json] [--draws 1000]
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from mgtool.scoring.statistics import share_interval

SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
CLUSTERS, SIZES, CORRELATIONS = (30, 100, 1000), (1, 6, 18), (0.0, 0.2, 0.5)
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


def simulated(draws):
    """A row for each number and size of clusters, and correlation within them; one item alone has none."""
    for clusters in CLUSTERS:
        for size in SIZES:
            for correlation in CORRELATIONS if size > 1 else CORRELATIONS[:1]:
                found = {share: covered(clusters, size, share, correlation, draws) for share in SHARES}
                usual = [c for p, c in found.items() if min(p, 1 - p) * clusters * size >= ENOUGH]
                rare = [c for p, c in found.items() if min(p, 1 - p) * clusters * size < ENOUGH]
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
    rows = list(simulated(60 if asked.quick else asked.draws))
    if asked.json:
        print(json.dumps({f"{r['clusters']}x{r['size']}, {r['correlation']}": r for r in rows}))
        return
    print("clusters  of  correlation   mean %  least %  least % of rare shares")
    for row in rows:
        rare = "-" if row["least_rare"] is None else f"{row['least_rare']:.1f}"
        print(
            f"{row['clusters']:8}  {row['size']:2}  {row['correlation']:11}   {row['mean']:6.1f}  {row['least']:7.1f}"
            f"  {rare:>22}"
        )


if __name__ == "__main__":
    main()
