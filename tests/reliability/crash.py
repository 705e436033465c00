"""Kills commands at any moment, lets them go on, and compares every byte that is left with an undisturbed run.

Processes are forked off this one, which has loaded everything, so that a moment costs less than a second. Half of the
moments are drawn in time; the others are at named points: before and after a file is put on disk, renamed, appended to
or locked. What is done is kept in ``--state``; a later run with the same seed goes on behind it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

GOES_ON = "the same command goes on from here"
KINDS = ("kill", "term", "full")
TERMS, FULLS = 20, 20
QUICK = {"kill": 3, "term": 1, "full": 1}
LONGEST_S = 300
_MASKED = ("times", "versions")


@dataclass(frozen=True)
class End:
    """How a process ended: its exit code, negative for a signal, and what it said on stderr."""

    code: int
    said: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="", help="names with commas between them; all by default")
    parser.add_argument("--quick", action="store_true", help="a few moments of each case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, default=Path("out/crash"))
    given = parser.parse_args()
    _load()
    from crash_cases import CASES, make_inputs

    given.state.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="crash-") as folder:
        make_inputs(Path(folder) / "given")
        names = given.cases.split(",") if given.cases else list(CASES)
        _run("pack", Path(folder), Path(folder) / "given")
        for name in names:
            results[name] = Trials(name, CASES[name], Path(folder), given).run()
    print(f"\n{'case':<18}{'kill':>7}{'term':>7}{'full':>7}  faults")
    for name, found in results.items():
        counts = "".join(f"{found['done'].get(kind, 0):>7}" for kind in KINDS)
        print(f"{name:<18}{counts}  {len(found['faults'])}")
    return int(any(found["faults"] for found in results.values()))


def _load() -> None:
    """Import what commands import, so that a forked process begins at once."""
    import mgtool.commands.main
    import mgtool.detectors
    import mgtool.report.boxes_page
    import mgtool.report.scores_page
    import mgtool.stages.detect
    import mgtool.stages.evaluate
    import mgtool.stages.import_model
    import mgtool.stages.infer
    import mgtool.stages.pack
    import mgtool.stages.train
    import mgtool.stages.unpack  # noqa: F401


def _run(case: str, folder: Path, out: Path) -> None:
    """Make the tars that other cases read."""
    from crash_cases import CASES

    for step in CASES[case].steps(out, folder / "given"):
        end = Process(step, folder).wait()
        assert end.code in (0, 3), end


class Process:
    """A command line in a forked process, in a session of its own, with TMPDIR in a folder.

    Args:
        words: of the command line.
        folder: holds ``tmp`` and what the process says.
        trap: called in the process before the command begins.
    """

    def __init__(self, words: list[str], folder: Path, trap: Callable[[], None] = lambda: None) -> None:
        self.said = folder / "stderr"
        (folder / "tmp").mkdir(exist_ok=True)
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            self._become(words, folder, trap)

    def _become(self, words: list[str], folder: Path, trap: Callable[[], None]) -> None:
        from mgtool.commands import console
        from mgtool.commands.main import main as command_line

        code = 1
        try:
            os.setsid()
            with self.said.open("wb") as file:
                os.dup2(file.fileno(), 2)
                os.dup2(file.fileno(), 1)
            os.environ["TMPDIR"] = str(folder / "tmp")
            tempfile.tempdir = None
            sys.argv = ["mgtool", *words]
            console.err.file = sys.stderr
            trap()
            command_line()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            from multiprocessing import util

            util._exit_function()
            os._exit(code)

    def wait(self, seconds: float = LONGEST_S) -> End:
        """Its end; one that lasts too long is killed."""
        limit = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > limit:
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                return End(-999, "hangs: " + self.said.read_text(errors="replace")[-600:])
            time.sleep(0.002)
        _gone(self.pid)
        return End(os.waitstatus_to_exitcode(status), self.said.read_text(errors="replace"))


def _gone(group: int, seconds: float = 20.0) -> None:
    """Wait for the workers of a process that has ended, which follow it by themselves."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        except PermissionError:
            return
        time.sleep(0.01)


class Points:
    """Named points of a process: counted in an undisturbed one, and where another one is killed."""

    def __init__(self, kill_at: int, tell: Path, signal_: int = signal.SIGKILL) -> None:
        self.kill_at, self.tell, self.signal = kill_at, tell, signal_
        self.count = 0

    def __call__(self) -> None:
        """Put the points into this process."""
        import fcntl

        from mgtool.files.journal import Journal

        self.pid = os.getpid()
        for owner, name in ((os, "fsync"), (os, "replace"), (os, "rename"), (fcntl, "flock"), (Journal, "append")):
            setattr(owner, name, self._around(name, getattr(owner, name)))

    def _around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def around(*args: Any, **options: Any) -> Any:
            self._pass(f"before {name}")
            result = function(*args, **options)
            self._pass(f"after {name}")
            return result

        return around

    def _pass(self, what: str) -> None:
        if os.getpid() != self.pid:
            return
        self.count += 1
        if self.kill_at < 0:
            self.tell.write_text(str(self.count))
        elif self.count == self.kill_at:
            self.tell.write_text(what)
            os.kill(os.getpid(), self.signal)


class Trials:
    """All moments of one case."""

    def __init__(self, name: str, case: Any, folder: Path, given: argparse.Namespace) -> None:
        self.name, self.case, self.folder, self.given = name, case, folder, given
        self.path = given.state / f"{name}-{given.seed}.json"
        self.state: dict[str, Any] = {"done": {}, "faults": {}, "seconds": 0.0}
        if self.path.exists():
            self.state = json.loads(self.path.read_text())

    def run(self) -> dict[str, Any]:
        """Every moment that is not done yet."""
        wanted = {"kill": self.case.moments, "term": TERMS, "full": FULLS}
        wanted = QUICK if self.given.quick else wanted
        if all(self.state["done"].get(kind, 0) >= wanted[kind] for kind in KINDS):
            return self.state
        self._measure()
        began = time.monotonic()
        for kind in KINDS:
            for number in range(self.state["done"].get(kind, 0), wanted[kind]):
                fault = self._trial(kind, number)
                if fault:
                    self.state["faults"][f"{kind} {number}"] = fault
                    print(f"  {self.name} {kind} {number}: {fault}"[:1500], flush=True)
                self.state["done"][kind] = number + 1
                self.path.write_text(json.dumps(self.state, indent=1))
        self.state["seconds"] = round(self.state["seconds"] + time.monotonic() - began, 1)
        self.path.write_text(json.dumps(self.state, indent=1))
        print(
            f"{self.name}: {self.state['done']}, {len(self.state['faults'])} faults, {self.state['seconds']} s",
            flush=True,
        )
        return self.state

    def _measure(self) -> None:
        """Run undisturbed: how long each step takes, how many points it passes, and what it leaves."""
        place, tell = self._place("whole"), self.folder / "points"
        out = place / "out"
        self.seconds, self.points, self.codes, self.sizes = [], [], [], []
        for step in self.case.steps(out, self.folder / "given"):
            tell.unlink(missing_ok=True)
            began = time.monotonic()
            end = Process(step, place, Points(-1, tell)).wait()
            assert end.code in (0, 3), (step, end)
            self.seconds.append(time.monotonic() - began)
            self.points.append(int(tell.read_text()) if tell.exists() else 0)
            self.codes.append(end.code)
            self.sizes.append(_size(out))
        self.whole = tree(out)
        shutil.rmtree(place)

    def _place(self, name: str) -> Path:
        """An output folder of the same path each time, as records hold paths."""
        place = self.folder / "trial"
        shutil.rmtree(place, ignore_errors=True)
        (place / "out").mkdir(parents=True)
        return place

    def _trial(self, kind: str, number: int) -> str:
        """Disturb one step; what is wrong afterwards, empty where nothing is."""
        rng = random.Random(zlib.crc32(f"{self.name} {self.given.seed} {kind} {number}".encode()))
        place = self._place("trial")
        steps = self.case.steps(place / "out", self.folder / "given")
        chosen = rng.randrange(self.case.before, len(steps))
        for step in steps[:chosen]:
            Process(step, place).wait()
        with _small_disk(place / "out", kind == "full") as resize:
            if kind == "full":
                told = self._fill(steps[chosen], place, chosen, rng, resize)
            else:
                told = self._disturb(steps[chosen], place, chosen, kind, number, rng)
            if told.startswith("!"):
                return told[1:]
            for place_of, step in enumerate(steps):
                if place_of >= chosen or (place_of >= self.case.before and rng.random() < 0.5):
                    end = Process(step, place).wait()
                    if end.code != self.codes[place_of]:
                        return f"{told}; going on ends with {end.code}: {end.said[-500:]}"
            if wrong := difference(self.whole, tree(place / "out")):
                return f"{told}; {wrong}"
        left = sorted(path.name for path in (place / "tmp").iterdir())
        return f"{told}; left in TMPDIR: {left}" if left else ""

    def _disturb(self, step: list[str], place: Path, chosen: int, kind: str, number: int, rng: random.Random) -> str:
        ending = signal.SIGKILL if kind == "kill" else signal.SIGTERM
        if self.case.points and self.points[chosen] and number % 2:
            point, tell = rng.randint(1, self.points[chosen]), place / "point"
            end = Process(step, place, Points(point, tell, ending)).wait()
            told = f"point {point} ({tell.read_text() if tell.exists() else 'not reached'})"
        else:
            moment = rng.uniform(0.02, self.seconds[chosen])
            process = Process(step, place)
            time.sleep(moment)
            with suppress(ProcessLookupError):
                os.kill(process.pid, ending)
            end, told = process.wait(), f"after {moment:.3f} s"
        return told if kind == "kill" else _ended_well(end, told, place, self.codes[chosen])

    def _fill(
        self, step: list[str], place: Path, chosen: int, rng: random.Random, resize: Callable[[int], None]
    ) -> str:
        """A disk with room for a part of the output; then more of it."""
        before = self.sizes[chosen - 1] if chosen else 0
        room = int(before + rng.uniform(0.05, 0.95) * (self.sizes[chosen] - before))
        resize(max(room, 8192))
        end = Process(step, place).wait()
        resize(64 << 20)
        told = f"a disk of {room:,} bytes"
        if end.code == self.codes[chosen]:
            return told
        if end.code != 2 or "defect" in end.said or "Traceback" in end.said:
            return f"!{told}: ends with {end.code}: {end.said[-500:]}"
        return told


def _ended_well(end: End, told: str, place: Path, usual: int) -> str:
    """SIGTERM is as Ctrl-C."""
    if end.code in (usual, -signal.SIGTERM):  # done already, or not yet begun
        return told
    if end.code != 130 or GOES_ON not in end.said.strip().splitlines()[-1]:
        return f"!{told}: ends with {end.code}: {end.said[-500:]}"
    left = sorted(path.name for path in (place / "tmp").iterdir())
    locks = sorted(path.name for path in (place / "out").rglob("*.mgtool.lock"))
    return f"!{told}: left behind: {left + locks}" if left or locks else told


@contextmanager
def _small_disk(folder: Path, wanted: bool) -> Iterator[Callable[[int], None]]:
    """A tmpfs in a folder, with what is there copied into it."""
    if not wanted:
        yield lambda size: None
        return
    aside = folder.with_name("aside")
    folder.rename(aside)
    shutil.copytree(aside, folder)
    shutil.rmtree(aside)
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=True)
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    shutil.rmtree(kept)
    try:
        yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True) and None
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _size(folder: Path) -> int:
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


def tree(folder: Path) -> dict[str, str]:
    """The hash of each file below a folder, of records of runs without their times; folders, too."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            found[name] = "a folder"
        elif path.name.endswith("run.json"):
            record = {key: value for key, value in json.loads(path.read_bytes()).items() if key not in _MASKED}
            record["counts"].pop("new_tokens", None)  # that the last process made
            found[name] = json.dumps(record, sort_keys=True)
        elif path.suffix == ".sqlite":
            found[name] = _rows(path)
        elif path.name in ("log.jsonl", "trainer_state.json", "training_args.bin"):
            found[name] = "times"
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _rows(path: Path) -> str:
    import sqlite3

    with sqlite3.connect(path) as database:
        rows = sorted(map(repr, database.execute("SELECT * FROM answers")))
    database.close()
    return hashlib.sha256("".join(rows).encode()).hexdigest()


def difference(whole: dict[str, str], found: dict[str, str]) -> str:
    """The first names that are not the same; empty where all are."""
    missing, more = sorted(whole.keys() - found.keys()), sorted(found.keys() - whole.keys())
    changed = sorted(name for name in whole.keys() & found.keys() if whole[name] != found[name])
    parts = {"missing": missing, "left over": more, "other bytes": changed}
    told = "; ".join(f"{what}: {names[:4]}" for what, names in parts.items() if names)
    for name in changed:
        if name.endswith("run.json"):
            told += f" {whole[name]} / {found[name]}"
    return told


if __name__ == "__main__":
    sys.exit(main())
