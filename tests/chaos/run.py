"""Runs on a real Ray cluster of several nodes on this machine while what they need is taken away at random.

    python tests/chaos/run.py [--schedules 20] [--seed 0] [--rows FILE] [--json]

Each schedule begins a cluster of three nodes (raylets with processes of their own), runs `detect` or `pack` on it, and
does one to three faults once work has begun: an actor, a node, the driver or the head is killed (SIGKILL), a node
stands still for 30 s (SIGSTOP), or the disk of temporary files of one node is full (a tmpfs, as root; that run writes
into an S3 server). A driver that ended is begun again with the same command. At the end the bytes are those of one
process: nothing is lost and nothing there twice.

Rows that are in the file of `--rows` already are not run again. Prints how many seconds longer each took than an
undisturbed one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from ray_nodes import kill, processes, standing_still
from s3_server import BUCKET, content, environment, listed, s3_server

PICTURES, SHARES, CRASHES_S, FREEZE_S, LONGEST_S = 160, 8, 12.0, 30.0, 400.0
AGAIN = ("actor", "node", "driver", "freeze")
KINDS = ("actor", "node", "driver", "head", "freeze", "disk")
PICTURE = Path(__file__).parents[1] / "images" / "coffee.jpg"
ROOT = Path(__file__).parents[2]
NODES = 3


class World(NamedTuple):
    """What all schedules share.

    Attributes:
        folder: of inputs and outputs.
        port: of the S3 server.
    """

    folder: Path
    port: int


class Nodes:
    """A cluster, some of whose nodes go."""

    def __init__(self, full_disk: Path | None = None) -> None:
        from ray.cluster_utils import Cluster

        self._full_disk = full_disk
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        self._workers = [self._added(full_disk), *(self._added() for _ in range(NODES - 2))]

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def _added(self, tmp: Path | None = None) -> Any:
        return self._cluster.add_node(num_cpus=1, **({} if tmp is None else {"env_vars": {"TMPDIR": str(tmp)}}))

    def lose(self, chance: random.Random) -> None:
        """A node is gone at once; another one comes."""
        gone = self._workers.pop(chance.randrange(len(self._workers)))
        kill(processes(gone))
        self._cluster.remove_node(gone, allow_graceful=False)
        self._workers.append(self._added())

    def lose_head(self) -> None:
        """And with it the cluster, as nothing takes its place; then there is a new one."""
        kill(processes(self._cluster.head_node))
        time.sleep(CRASHES_S)
        self.end()
        self.__init__(self._full_disk)  # type: ignore[misc]

    def freeze(self, chance: random.Random) -> None:
        """A node stands still for a while."""
        with standing_still(processes(chance.choice(self._workers))):
            time.sleep(FREEZE_S)

    def end(self) -> None:
        """Stop all that is left of it."""
        for node in [*self._workers, self._cluster.head_node]:
            kill([] if node is None else processes(node))
        self._cluster.shutdown()


def main() -> int:
    """Run the schedules; 1 where one did not end as it should."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--schedules", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--rows", type=Path, default=ROOT / "build" / "chaos" / "rows.jsonl")
    arguments.add_argument("--json", action="store_true")
    given = arguments.parse_args()
    os.nice(5)
    rows = _rows(given.rows, given.seed)
    left = [number for number in range(given.schedules) if number not in rows]
    for number in rows:
        _show(number, rows[number], given.json)
    for number, row in _run(left, given.seed):
        rows[number] = row
        _show(number, row, given.json)
        given.rows.parent.mkdir(parents=True, exist_ok=True)
        with given.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"seed": given.seed, "number": number, **row}) + "\n")
    if given.json:
        print(json.dumps({"chaos": [rows[number] for number in sorted(rows)]}))
    return 0 if all(row["equal"] for row in rows.values()) else 1


def _rows(file: Path, seed: int) -> dict[int, dict[str, Any]]:
    """Of earlier runs."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {row.pop("number"): row for row in map(json.loads, lines) if row.pop("seed") == seed}


def _show(number: int, row: dict[str, Any], as_json: bool) -> None:
    if not as_json:
        faults = ", ".join(row["faults"])
        print(
            f"{number:>3} {row['work']:<7} {faults:<28} runs {row['runs']}  {row['seconds']:>6} s"
            f"  lost {row['lost_s']:>6} s  equal {row['equal']}",
            flush=True,
        )


def _run(numbers: list[int], seed: int) -> Iterator[tuple[int, dict[str, Any]]]:
    if not numbers:
        return
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, s3_server() as port:
        world = World(Path(folder), port)
        _make_inputs(world)
        usual = {work: _schedule(world, f"usual-{work}", work, [], random.Random(0))["seconds"] for work in WORKS}
        for number in numbers:
            chance = random.Random(1000 * seed + number)
            faults = _faults(KINDS[number % len(KINDS)], chance)
            work = "store" if "disk" in faults else chance.choice(("detect", "pack"))
            row = _schedule(world, f"out-{number}", work, faults, chance)
            yield number, {**row, "usual_s": usual[work], "lost_s": round(row["seconds"] - usual[work], 1)}


def _faults(first: str, chance: random.Random) -> list[str]:
    """One to three; the head goes last, and a disk is full from some moment on."""
    others = [chance.choice(AGAIN) for _ in range(chance.randrange(3))]
    return [*others, first] if first == "head" else [first, *others]


def _make_inputs(world: World) -> None:
    (world.folder / "pictures").mkdir()
    with Image.open(PICTURE) as picture:
        for number in range(PICTURES):
            crop = picture.crop((number % 50, number // 50, number % 50 + 400, number // 50 + 300))
            crop.save(world.folder / "pictures" / f"{number:03d}.jpg")
    for work in WORKS:
        subprocess.run(_command(world, work, world.folder / "one" / work), check=True)


WORKS: dict[str, tuple[str, ...]] = {
    "detect": ("detect", "--workers", "0", "--batch-size", "1"),
    "pack": ("pack", "--shard-size", "4", "--reencode", "png", "--missing-boxes", "empty"),
    "store": ("pack", "--shard-size", "4", "--reencode", "png"),
}


def _command(world: World, work: str, out: Path | str, *options: object) -> list[str]:
    name, *own = WORKS[work]
    boxes = ("--boxes", world.folder / "one" / "detect") if work == "pack" else ()
    words = [name, world.folder / "pictures", "--out", out, "-q", *own, *boxes, *options]
    return [sys.executable, "-m", "mgtool.commands.main", *map(str, words)]


def _schedule(world: World, name: str, work: str, faults: list[str], chance: random.Random) -> dict[str, Any]:
    out = f"s3://{BUCKET}/{name}" if work == "store" else str(world.folder / name)
    with _disk(world.folder / f"tmp-{name}" if "disk" in faults else None) as disk, _variables(environment(world.port)):
        nodes, began, runs = Nodes(disk), time.monotonic(), 0
        try:
            run = _Driver(world, work, out, nodes)
            for fault in faults:
                run.wait_for_work()
                time.sleep(chance.uniform(0.0, 3.0))
                _do(fault, nodes, run, disk, chance)
            while not run.is_done() and run.runs <= len(faults) + 2:
                run.begin()
            seconds, runs, is_whole = time.monotonic() - began, run.runs, run.is_whole()
        finally:
            run.process.kill()
            nodes.end()
    return {"work": work, "faults": faults, "runs": runs, "seconds": round(seconds, 1), "equal": is_whole}


class _Driver:
    """The command, which is begun again where it ended before its work was done."""

    def __init__(self, world: World, work: str, out: str, nodes: Nodes) -> None:
        self._world, self._work, self._out, self._nodes, self.runs = world, work, out, nodes, 0
        self.begin()

    def begin(self) -> None:
        size = ("--world-size", SHARES) if self._work == "detect" else ()
        on_ray = ("--engine", "ray", "--ray-address", self._nodes.address, "--wait", *size)
        self.process = subprocess.Popen(_command(self._world, self._work, self._out, *on_ray), stderr=subprocess.PIPE)
        self.runs += 1

    def is_done(self) -> bool:
        """Wait for its end; whether it was a good one."""
        _, said = self.process.communicate(timeout=LONGEST_S)
        if self.process.returncode and said:
            print("   ", said.decode(errors="replace").strip().splitlines()[-1][:300], file=sys.stderr, flush=True)
        return self.process.returncode == 0

    def wait_for_work(self) -> None:
        """Until something is written, or all is done; one that was killed is begun again."""
        before = len(self._written())
        while len(self._written()) <= before and not self._has_ended():
            time.sleep(0.1)
        if self.process.poll() not in (None, 0):
            self.begin()

    def _has_ended(self) -> bool:
        return self.process.poll() is not None

    def _written(self) -> list[str]:
        if self._work == "store":
            return [name for name in listed(self._world.port) if f"/{self._out.rpartition('/')[2]}/" in f"/{name}"]
        return [str(path) for path in Path(self._out).rglob("*.tar" if self._work == "pack" else "*.jsonl")]

    def is_whole(self) -> bool:
        return self._files() == _files(self._world.folder / "one" / self._work)

    def _files(self) -> dict[str, bytes]:
        if self._work != "store":
            return _files(Path(self._out))
        port, prefix = self._world.port, self._out.rpartition("/")[2] + "/"
        names = [name for name in listed(port) if name.startswith(prefix) and not name.endswith("/run.json")]
        return {name.removeprefix(prefix): content(port, name) for name in names}


def _do(fault: str, nodes: Nodes, run: _Driver, disk: Path | None, chance: random.Random) -> None:
    if fault == "driver":
        run.process.kill()
        run.process.wait()
    elif fault == "disk":
        assert disk is not None
        with contextlib.suppress(OSError), (disk / "full").open("wb") as file:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
    elif fault == "actor":
        actors = _actors()
        kill([chance.choice(actors)] if actors else [])
    else:
        does: dict[str, Callable[[], None]] = {
            "node": lambda: nodes.lose(chance),
            "head": nodes.lose_head,
            "freeze": lambda: nodes.freeze(chance),
        }
        does[fault]()


@contextlib.contextmanager
def _disk(folder: Path | None) -> Iterator[Path | None]:
    """A small one of its own, where a folder is given."""
    if folder is None:
        yield None
        return
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _actors() -> list[psutil.Process]:
    """Processes of the nodes below this one that do a unit."""
    found = []
    for child in psutil.Process(os.getpid()).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found += [child] if "".join(child.cmdline()[:1]).startswith(("ray::detect", "ray::pack")) else []
    return found


def _files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "run.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


if __name__ == "__main__":
    sys.exit(main())
