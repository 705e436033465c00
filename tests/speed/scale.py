"""How handing out grows: workers that sleep a fixed time a picture, so that many fit on one machine's cores.

    python tests/speed/scale.py [--quick] [--json]

- `efficiency`: pictures a second against those of workers that never wait, between the first unit of all workers and
  the last, with units of 20 pictures of 50 ms.
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
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import ray
import ray.data

from mgtool.runs.ray_actors import Crew
from mgtool.runs.shares import Share

UNIT, PICTURE_S = 20, 0.05
WORKERS = (1, 4, 16, 64)
UNITS_EACH = 8
PICTURES = 1_000_000
MB = 1 << 20


def work(seconds: float) -> Callable[[Share], int]:
    """What a worker does with a unit; gives the heavy modules that it has loaded."""

    def do(share: Share) -> int:
        if seconds:
            time.sleep(seconds)
        return sum(name in sys.modules for name in ("torch", "transformers"))

    return do


def crew(workers: int, units: int, seconds: float, advance: Callable[[int], None]) -> int:
    """Hand units out to workers as they come free; gives how many heavy modules they had loaded."""
    make, heavy = functools.partial(work, seconds), 0
    shares = (Share(rank, units) for rank in range(units))
    for _, loaded in Crew[Share, int](ray, make, {"num_cpus": 1}, "scale", most=workers).do(shares):
        heavy += loaded
        advance(1)
    return heavy


def efficiency(workers: int) -> dict[str, Any]:
    """Of workers that sleep."""
    units, ended = workers * UNITS_EACH, list[float]()
    heavy = crew(workers, units, UNIT * PICTURE_S, lambda _: ended.append(time.monotonic()))
    assert not heavy, "a worker has loaded torch or transformers"
    steady = units - 2 * workers
    rate = steady / (ended[units - workers - 1] - ended[workers - 1])
    return {"workers": workers, "units": units, "efficiency": round(rate * UNIT * PICTURE_S / workers, 3)}


def driver(pictures: int) -> dict[str, Any]:
    """Of the process that hands out, while workers do nothing."""
    units, me, began = pictures // UNIT, psutil.Process(), time.monotonic()
    memory, done = list[int](), 0
    cpu = sum(me.cpu_times()[:2])

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if done in (units // 10, units):
            memory.append(me.memory_info().rss)

    crew(2, units, 0.0, advance)
    seconds = time.monotonic() - began
    return {
        "pictures": pictures,
        "mb_after_a_tenth": round(memory[0] / MB),
        "mb_at_the_end": round(memory[1] / MB),
        "cpu_s": round(sum(me.cpu_times()[:2]) - cpu, 1),
        "units_a_second": round(units / seconds),
        "overhead_ms_a_unit": round(1000 * seconds / units, 2),
    }


class Sleeper:
    """The same work for Ray Data."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        time.sleep(PICTURE_S * len(batch["id"]))
        return batch


def against_ray_data(workers: int) -> dict[str, Any]:
    """Seconds of both, from the first call to the last result."""
    units = workers * UNITS_EACH
    began = time.monotonic()
    crew(workers, units, UNIT * PICTURE_S, lambda _: None)
    ours = time.monotonic() - began
    began = time.monotonic()
    rows = ray.data.range(units * UNIT, override_num_blocks=units)
    pool = ray.data.ActorPoolStrategy(size=workers)
    count = rows.map_batches(Sleeper, batch_size=UNIT, compute=pool, num_cpus=1).count()
    assert count == units * UNIT
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
    ray.init(num_cpus=2 * max(sizes), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
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
