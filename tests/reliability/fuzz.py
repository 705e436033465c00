"""Feeds what strangers may have written to every reader: a value, a record or one line comes of it, within bounds.

Each call is told by kind, seed and number, so that any can be made again. A kind runs in a process of its own, which a
crash or a hang ends alone; the next one goes on behind it. ``--state`` keeps how far each came, and what was wrong,
which is tried again first. After the calls that each kind gets at least, all get the same time, up to ``--total``.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
sys.dont_write_bytecode = True

LONGEST_S = 10
"""A call that takes longer hangs."""
SLOW_S = 5.0
"""Of computing."""
_FULL = 71
_SHOWN = 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default="", help="names with commas between them; all by default")
    parser.add_argument("--calls", type=int, default=20_000, help="of each kind at least")
    parser.add_argument("--total", type=int, default=0, help="of all; 50 times --calls by default")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of each kind at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, default=Path("out/fuzz"), help="folder of what was found")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    parser.add_argument("--only", type=int, default=None, help="make one call of one kind again, here")
    given = parser.parse_args()
    from fuzz_kinds import KINDS

    if given.child or given.only is not None:
        return _Child(given).run()
    given.state.mkdir(parents=True, exist_ok=True)
    kinds = given.kinds.split(",") if given.kinds else list(KINDS)
    for kind in kinds:
        _try_again(kind, given)
    results = {kind: _run_kind(kind, given, given.calls) for kind in kinds}
    if not given.kinds and given.seconds == float("inf"):
        for kind, calls in _shares(results, given.total or 50 * given.calls).items():
            results[kind] = _run_kind(kind, given, calls)
    return _told(results)


def _shares(results: dict[str, dict[str, Any]], total: int) -> dict[str, int]:
    """Calls of each kind, so that what is missing of the total is made in the same time of each."""
    missing = max(total - sum(found["calls"] for found in results.values()), 0)
    rates = {kind: found["calls"] / max(found["seconds"], 1) for kind, found in results.items()}
    seconds = missing / sum(rates.values())
    return {kind: found["calls"] + math.ceil(seconds * rates[kind]) for kind, found in results.items()}


def _told(results: dict[str, dict[str, Any]]) -> int:
    from fuzz_kinds import KINDS

    print(f"\n{'kind':<16}{'calls':>9}{'seconds':>9}{'peak MB':>9}{'bound':>7}{'slowest s':>11}  faults")
    for kind, found in results.items():
        print(
            f"{kind:<16}{found['calls']:>9,}{found['seconds']:>9.0f}{found['peak_mb']:>9.0f}{KINDS[kind].most_mb:>7}"
            f"{found['slowest_s']:>11.2f}  {len(found['faults'])}"
        )
    print(f"{sum(found['calls'] for found in results.values()):,} calls")
    return int(any(found["faults"] for found in results.values()))


def _try_again(kind: str, given: argparse.Namespace) -> None:
    """What was wrong earlier, with the code of today."""
    path = given.state / f"{kind}.json"
    found = _state(path)
    for name, fault in list(found["faults"].items()):
        command = [sys.executable, __file__, "--kinds", kind, "--only", str(fault["number"]), "--seed", str(given.seed)]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            found["mended"] = found.get("mended", 0) + 1
            del found["faults"][name]
            path.write_text(json.dumps(found, indent=1))


def _run_kind(kind: str, given: argparse.Namespace, calls: int) -> dict[str, Any]:
    """Calls until there are enough, over as many processes as it takes."""
    state, began = given.state / f"{kind}.json", time.monotonic()
    while True:
        found = _state(state)
        if found["calls"] >= calls or time.monotonic() - began > given.seconds:
            break
        left = given.seconds - (time.monotonic() - began)
        command = [sys.executable, __file__, "--child", kind, "--calls", str(calls), "--seed", str(given.seed)]
        command += ["--seconds", str(left), "--state", str(given.state)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in (0, _FULL) and not _is_noted(done, state):
            raise SystemExit(done.stderr)
    print(f"{kind}: {found['calls']:,} calls, {len(found['faults'])} faults", flush=True)
    for name, fault in found["faults"].items():
        print(f"  {name}  (--kinds {kind} --only {fault['number']})", flush=True)
    return found


def _is_noted(done: subprocess.CompletedProcess[str], state: Path) -> bool:
    """Note a call that ended its process; whether it was a call."""
    mark = state.with_suffix(".mark")
    if not mark.exists() or not mark.read_text():
        return False
    number, found = int(mark.read_text()), _state(state)
    end = "hang" if done.returncode == -signal.SIGALRM else f"crash {done.returncode}"
    place = next((line.strip() for line in done.stderr.splitlines() if "/mgtool/" in line), "")[-60:]
    found["faults"].setdefault(f"{end} {place}", {"number": number, "what": done.stderr[-1500:]})
    found["calls"] = max(found["calls"], number + 1)
    state.write_text(json.dumps(found, indent=1))
    mark.unlink()
    return True


def _state(path: Path) -> dict[str, Any]:
    if path.exists():
        return dict(json.loads(path.read_text()))
    return {"calls": 0, "seconds": 0.0, "peak_mb": 0.0, "slowest_s": 0.0, "ends": {}, "faults": {}}


class _Child:
    """A process that makes the calls of one kind from where the last one stopped."""

    def __init__(self, given: argparse.Namespace) -> None:
        from fuzz_kinds import KINDS

        self.given, self.name = given, given.child or given.kinds
        self.kind, self.path = KINDS[self.name], given.state / f"{self.name}.json"
        self.state = _state(self.path)
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        tempfile.tempdir = str(self.folder)

    def run(self) -> int:
        warnings.simplefilter("ignore")
        seeds_folder = self.folder / "seeds"
        seeds_folder.mkdir()
        self.seeds = sorted(self.kind.seeds(seeds_folder).items())
        faulthandler.register(signal.SIGALRM, chain=True)  # whose own thread would cost more than most calls
        from guard import Guard

        self.guard = Guard([self.folder])
        try:
            if not self._has_warmed_up():
                return 1
            return self._again() if self.given.only is not None else self._calls()
        finally:
            self.guard.is_on = False
            shutil.rmtree(self.folder, ignore_errors=True)

    def _has_warmed_up(self) -> bool:
        """Load what is loaded once, which is no call's."""
        for name, data in self.seeds:
            if fault := self._call(name, data, is_watched=False):
                print(name, *fault, file=sys.stderr)
                return False
        return True

    def _calls(self) -> int:
        self.mark = self.path.with_suffix(".mark").open("w+b", buffering=0)
        began, last = time.monotonic(), time.monotonic()
        most = self.kind.most_mb
        seconds = self.state["seconds"]
        while self.state["calls"] < self.given.calls and time.monotonic() - began < self.given.seconds:
            self._one(self.state["calls"], most)
            self.state["calls"] += 1
            self.state["seconds"] = round(seconds + time.monotonic() - began, 1)
            if _peak_mb() > most:
                self._save()
                self.path.with_suffix(".mark").unlink()
                return _FULL
            if time.monotonic() - last > 1 or self.state["calls"] % 200 == 0:
                self._save()
                last = time.monotonic()
        self._save()
        self.path.with_suffix(".mark").unlink()
        return 0

    def _one(self, number: int, most: float) -> None:
        name, data = self._input(number)
        os.pwrite(self.mark.fileno(), b"%012d" % number, 0)  # for whoever finds this process gone
        began = time.process_time()
        fault = self._call(name, data)
        took = time.process_time() - began
        self.state["slowest_s"] = max(self.state["slowest_s"], round(took, 2))
        self.state["peak_mb"] = max(self.state["peak_mb"], round(_peak_mb()))
        if not fault and took > SLOW_S:
            fault = ("slow", f"{took:.1f} s")
        if not fault and _peak_mb() > most:
            fault = ("memory", f"{_peak_mb():.0f} MB")
        if fault and fault[0] not in self.state["faults"]:
            self.state["faults"][fault[0]] = {"number": number, "what": fault[1]}
            kept = self.given.state / f"{self.name}-{number}-{name}"
            kept.write_bytes(data)

    def _input(self, number: int) -> tuple[str, bytes]:
        rng = random.Random(zlib.crc32(f"{self.name} {self.given.seed} {number}".encode()))
        name, data = rng.choice(self.seeds)
        return name, rng.choice(self.kind.mutate)(data, rng)

    def _call(self, name: str, data: bytes, *, is_watched: bool = True) -> tuple[str, str] | None:
        """What is wrong with how a call ended, told apart by its place; None where it ended as it may."""
        from mgtool.errors import MgtoolError

        folder = self.folder / "call"
        folder.mkdir()
        if is_watched:
            signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
        self.guard.is_on, end = is_watched, "a value"
        try:
            self.kind.call(name, data, folder)
        except MgtoolError as error:
            end = type(error).__name__
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault
            return f"{type(error).__name__} at {_place(error)}", "".join(traceback.format_exception(error))[-1500:]
        finally:
            self.guard.is_on = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            shutil.rmtree(folder)
        self.state["ends"][end] = self.state["ends"].get(end, 0) + 1
        if self.guard.found:
            what, self.guard.found = self.guard.found[0], []
            return f"outside: {what[:60]}", what
        return None

    def _again(self) -> int:
        name, data = self._input(self.given.only)
        print(name, len(data), data[:_SHOWN])
        fault = self._call(name, data)
        print(*(fault or ("fine",)), sep="\n")
        return int(fault is not None)

    def _save(self) -> None:
        aside = self.path.with_suffix(".aside")
        aside.write_text(json.dumps(self.state, indent=1))
        aside.replace(self.path)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _place(error: BaseException) -> str:
    """Where in mgtool an error came from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/mgtool/" in frame.filename or "/commands/" in frame.filename] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"


if __name__ == "__main__":
    sys.exit(main())
