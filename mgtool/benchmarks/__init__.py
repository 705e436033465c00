"""Benchmarks: one file each, found in one table.

`get("pope")` gives a benchmark; its `prompt(sample)` is the published prompt, `load` reads the files that users
have, `score` is the official score of one answer, `metrics` the official numbers.
"""

from __future__ import annotations

import difflib

from mgtool.benchmarks.base import Benchmark, Item, Verdict
from mgtool.benchmarks.coco_detection import CocoDetection
from mgtool.benchmarks.lvis import Lvis
from mgtool.benchmarks.pope import Pope
from mgtool.benchmarks.vqav2 import Vqav2
from mgtool.errors import UsageError

__all__ = ["TABLE", "Benchmark", "Item", "Verdict", "get"]

TABLE: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Vqav2(),
        Pope(),
        CocoDetection(),
        Lvis(),
    )
}


def get(name: str) -> Benchmark:
    """The benchmark of a name.

    Raises:
        UsageError: for an unknown name, with the nearest one.
    """
    if name in TABLE:
        return TABLE[name]
    near = difflib.get_close_matches(name.lower(), TABLE, n=1)
    hint = f"did you mean {near[0]}?" if near else "see `mgtool eval --list`"
    raise UsageError(f"--benchmark {name}: not known; {hint}")
