"""How handing out grows: workers that sleep a fixed time a picture, so that many fit on one machine's cores.

    python tests/speed/scale.py [--quick] [--json]

- `efficiency`: pictures a second against those of workers that never wait, with units of 20 pictures of 50 ms, from
  when every worker has done two units, as the processes of many begin one after the other; `began_s` says when.
- `driver`: 10^6 pictures in units of 20 by workers that do nothing: memory of the driver's process after a tenth and at
  the end, its processor time, and units a second, which is where handing out stops growing.
- `ray data`: the same sleeping work by Ray Data's `map_batches` with as many actors, both from the first call to the
  last result.

The workers import neither torch nor transformers. Ray is told of twice as many cores as there are workers, as Ray Data
wants some to read with.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import psutil
import ray
import ray.data

from mgtool.runs.ray_actors import Crew
from mgtool.runs.shares import MOST_SHARES, Share

UNIT, PICTURE_S = 20, 0.05
WORKERS = (1, 4, 16, 64)
UNITS_EACH = 8
PICTURES = 1_000_000
MB = 1 << 20
MOST_UNITS = MOST_SHARES
"""Until every worker has done two, and enough after that."""


def work(seconds: float) -> Callable[[Share], tuple[int, int]]:
    """What a worker does with a unit; gives its process and the number of heavy modules that it has loaded."""

    def do(share: Share) -> tuple[int, int]:
        if seconds:
            time.sleep(seconds)
        return os.getpid(), sum(name in sys.modules for name in ("torch", "transformers"))

    return do


def crew(workers: int, shares: Iterable[Share], seconds: float) -> Iterator[int]:
    """Hand units out to workers as they come free; gives who did each."""
    make = functools.partial(work, seconds)
    for _, (worker, heavy) in Crew[Share, Any](ray, make, {"num_cpus": 1}, "scale", most=workers).do(shares):
        assert not heavy, "a worker has loaded torch or transformers"
        yield worker


def units(count: int) -> Iterator[Share]:
    """So many."""
    return (Share(rank, count) for rank in range(count))


def efficiency(workers: int) -> dict[str, Any]:
    """Of workers that sleep."""
    began, steady, done, ended = time.monotonic(), workers * UNITS_EACH, Counter[int](), list[float]()
    endless = itertools.takewhile(lambda share: len(ended) <= steady, units(MOST_UNITS))
    for worker in crew(workers, endless, UNIT * PICTURE_S):
        done[worker] += 1
        if len(done) == workers and min(done.values()) >= 2:
            ended.append(time.monotonic())
    rate = steady / (ended[steady] - ended[0])
    return {
        "workers": workers,
        "units": steady,
        "began_s": round(ended[0] - began),
        "efficiency": round(rate * UNIT * PICTURE_S / workers, 3),
    }


def driver(pictures: int) -> dict[str, Any]:
    """Of the process that hands out, while workers do nothing."""
    count, me, began, memory = pictures // UNIT, psutil.Process(), time.monotonic(), list[int]()
    cpu = sum(me.cpu_times()[:2])
    for done, _ in enumerate(crew(2, units(count), 0.0), 1):
        if done in (count // 10, count):
            memory.append(me.memory_info().rss)
    seconds = time.monotonic() - began
    return {
        "pictures": pictures,
        "mb_after_a_tenth": round(memory[0] / MB),
        "mb_at_the_end": round(memory[1] / MB),
        "cpu_s": round(sum(me.cpu_times()[:2]) - cpu, 1),
        "units_a_second": round(count / seconds),
        "overhead_ms_a_unit": round(1000 * seconds / count, 2),
    }


class Sleeper:
    """The same work for Ray Data."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        time.sleep(PICTURE_S * len(batch["id"]))
        return batch


def against_ray_data(workers: int) -> dict[str, Any]:
    """Seconds of both, from the first call to the last result."""
    count, began = workers * UNITS_EACH, time.monotonic()
    assert sum(1 for _ in crew(workers, units(count), UNIT * PICTURE_S)) == count
    ours = time.monotonic() - began
    began = time.monotonic()
    rows = ray.data.range(count * UNIT, override_num_blocks=count)
    pool = ray.data.ActorPoolStrategy(size=workers)
    assert rows.map_batches(Sleeper, batch_size=UNIT, compute=pool, num_cpus=1).count() == count * UNIT
    theirs = time.monotonic() - began
    return {
        "workers": workers,
        "ours_s": round(ours, 1),
        "ray_data_s": round(theirs, 1),
        "ratio": round(theirs / ours, 2),
    }


def main() -> None:
    """Print all of it."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="up to 4 workers, 10^4 pictures")
    arguments.add_argument("--json", action="store_true")
    given = arguments.parse_args()
    sizes, pictures = (WORKERS[:2], PICTURES // 100) if given.quick else (WORKERS, PICTURES)
    ray.init("local", num_cpus=2 * max(sizes), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    found: dict[str, Any] = {"efficiency": [], "driver": {}, "ray_data": {}}
    for workers in sizes:
        found["efficiency"].append(efficiency(workers))
        if not given.json:
            print(found["efficiency"][-1], flush=True)
    for name, measured in (("driver", driver(pictures)), ("ray_data", against_ray_data(sizes[1]))):
        found[name] = measured
        if not given.json:
            print(name, measured, flush=True)
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
