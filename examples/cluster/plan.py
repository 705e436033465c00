"""What a run over many pictures takes, on paper: objects, requests, money, hours, and what grows with it.

    python examples/cluster/plan.py [--pictures 1e6 1e8 1e9] [--kilobytes 185] [--ranks 64] [--put 0.005] [--get 0.0004]
                                    [--month 0.023] [--peak 989] [--used 0.4]

Prices are those of a list, in dollars for 1,000 requests and for a gigabyte a month; `--peak` is a card's, in TFLOP/s
of bfloat16, of which a run gets the part `--used`: an assumption, no card was measured. Other constants are measured or
counted.
"""

from __future__ import annotations

import argparse
import math

SIZES = {"3.8B": 3.8, "7B": 6.7, "8B": 8.0, "13B": 13.0, "34B": 34.4}
"""Billions of weights of the published language models."""
TOWERS_TFLOP = 1.2
"""A picture in CLIP-L/336 (0.35) and ConvNeXt-L at 768 pixels (0.8)."""
TOKENS = 640
"""Of a prompt: 576 of the picture, its boxes, its question."""
SHARD, BOXES_KB, PART_MB = 1000, 1.5, 16
"""Samples of a shard; what boxes and JSON add to a picture in it; parts in which it is put into a store."""
BYTES_A_PICTURE = 270
"""That a process of `detect` remembers of each picture: tests/RELIABILITY.md."""
UNITS_A_SECOND, UNIT = 1695, 20
"""Handed out by one driver, and pictures of each: tests/speed/scale.py."""


def plan(pictures: float, args: argparse.Namespace) -> dict[str, str]:
    """One column of the table."""
    tars = math.ceil(pictures / SHARD)
    gigabytes = pictures * (args.kilobytes + BOXES_KB) / 1e6
    puts = tars * (math.ceil(gigabytes * 1e3 / tars / PART_MB) + 2) + tars
    gets = 2 * pictures
    hours = {
        size: pictures * (TOWERS_TFLOP + 2e-3 * weights * TOKENS) / (args.peak * args.used) / 3600
        for size, weights in SIZES.items()
    }
    return {
        "tars, and box shards": f"{tars:,} each",
        "in the tars": f"{gigabytes:,.0f} GB",
        "requests to write them": f"{puts:,.0f}",
        "requests to read pictures for detect and pack": f"{gets:,.0f}",
        "requests cost": f"${puts / 1e3 * args.put + gets / 1e3 * args.get:,.0f}",
        "a month of the tars": f"${gigabytes * args.month:,.0f}",
        f"names in a rank of detect, of {args.ranks}": f"{pictures / args.ranks * BYTES_A_PICTURE / 1e6:,.0f} MB",
        "a Ray driver hands it out in": f"{pictures / UNIT / UNITS_A_SECOND / 3600:,.2f} hours",
        **{f"GPU hours to prefill, {size}": f"{number:,.0f}" for size, number in hours.items()},
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=float, nargs="+", default=[1e6, 1e8, 1e9])
    for name, value in {"kilobytes": 185, "ranks": 64, "put": 0.005, "get": 0.0004}.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    for name, value in {"month": 0.023, "peak": 989.0, "used": 0.4}.items():
        parser.add_argument(f"--{name}", type=float, default=value)
    args = parser.parse_args()
    columns = [plan(pictures, args) for pictures in args.pictures]
    print("| pictures | " + " | ".join(f"{pictures:,.0f}" for pictures in args.pictures) + " |")
    print("|---|" + "---|" * len(columns))
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(column[name] for column in columns) + " |")


if __name__ == "__main__":
    main()
