"""Runs on a real Ray cluster of several nodes on this machine while actors, nodes and drivers are killed at random.

    python tests/chaos/run.py [--schedules 20] [--seed 0] [--json]

Each schedule must end with the bytes of one process; prints a table of what was killed and how long it took.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

PICTURES, SHARES, WORKERS = 60, 8, 2
KILLS = ("actor", "node", "driver")
PICTURE = Path(__file__).parents[1] / "images" / "coffee.jpg"
LONGEST_S = 300.0


def main() -> int:
    """Run the schedules; 1 where one did not end as it should."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--schedules", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--json", action="store_true")
    given = arguments.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        if not given.json:
            print(f"{'schedule':>8}  {'killed':<28} {'runs':>4} {'seconds':>8}  equal", flush=True)
        for number, row in enumerate(run(Path(folder), given.schedules, given.seed)):
            rows.append(row)
            if not given.json:
                killed = ", ".join(row["killed"])
                print(f"{number:>8}  {killed:<28} {row['runs']:>4} {row['seconds']:>8}  {row['equal']}", flush=True)
    if given.json:
        print(json.dumps({"chaos": rows}))
    return 0 if all(row["equal"] for row in rows) else 1


def run(folder: Path, schedules: int, seed: int) -> Iterator[dict[str, Any]]:
    """One row for each schedule."""
    pictures = folder / "pictures"
    pictures.mkdir()
    with Image.open(PICTURE) as picture:
        for number in range(PICTURES):
            picture.crop((number, 0, number + 200, 150)).save(pictures / f"{number:03d}.png")
    subprocess.run(_command(pictures, folder / "one"), check=True)
    for number in range(schedules):
        yield _schedule(folder, number, random.Random(seed + number))


def _command(pictures: Path, out: Path, *options: object) -> list[str]:
    words = ["detect", pictures, "--out", out, "--workers", 0, "--batch-size", 1, "-q", *options]
    return [sys.executable, "-m", "mgtool.commands.main", *map(str, words)]


def _schedule(folder: Path, number: int, chance: random.Random) -> dict[str, Any]:
    from ray.cluster_utils import Cluster

    out, began = folder / f"boxes-{number}", time.monotonic()
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    workers = [nodes.add_node(num_cpus=1) for _ in range(WORKERS)]
    on_ray = ("--engine", "ray", "--ray-address", nodes.address, "--world-size", SHARES, "--wait")
    command = _command(folder / "pictures", out, *on_ray)
    killed, runs = [], 1
    driver = subprocess.Popen(command)
    try:
        for _ in range(chance.randint(1, 3)):
            time.sleep(chance.uniform(1, 6))
            if driver.poll() is None:
                killed.append(chance.choice(KILLS))
                _kill(killed[-1], nodes, workers, driver, chance)
        while driver.wait(LONGEST_S) != 0 and runs <= len(killed):
            runs += 1
            driver = subprocess.Popen(command)  # the same command goes on
    finally:
        driver.kill()
        nodes.shutdown()
    return {
        "killed": killed,
        "runs": runs,
        "seconds": round(time.monotonic() - began, 1),
        "equal": driver.returncode == 0 and _files(out) == _files(folder / "one"),
    }


def _kill(what: str, nodes: Any, workers: list[Any], driver: subprocess.Popen[bytes], chance: random.Random) -> None:
    if what == "driver":
        driver.kill()
    elif what == "node" and workers:
        nodes.remove_node(workers.pop(chance.randrange(len(workers))), allow_graceful=False)
        workers.append(nodes.add_node(num_cpus=1, wait=False))
    elif actors := _actors():
        chance.choice(actors).send_signal(signal.SIGKILL)


def _actors() -> list[psutil.Process]:
    """Processes of this user's nodes, below this one, that do a share."""
    found = []
    for child in psutil.Process(os.getpid()).children(recursive=True):
        try:
            found += [child] if "".join(child.cmdline()[:1]).startswith("ray::detect") else []
        except psutil.Error:
            continue
    return found


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "run.json"}


if __name__ == "__main__":
    sys.exit(main())
