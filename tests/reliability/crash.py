"""Disturbs commands at any moment, lets them go on, and compares every byte that is left with an undisturbed run.

Processes are forked off this one, which has loaded everything, so that a moment costs tenths of a second; one in ten
is begun from nothing, as a shell begins it. Half of the moments are drawn in time; the others are at named points:
before and after a file is put on disk, renamed, appended to or locked. What is done is kept in ``--state``; a later
run with the same seed goes on behind it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
os.environ["OMP_NUM_THREADS"] = "1"  # a process that is forked off one with such threads waits for them for ever

from crash_clock import CLOCK, again_with_a_clock, can_be_set, set_clock  # noqa: E402
from crash_disks import Disk, difference, disk, failures, inputs, says_changed, size, spoil, tree  # noqa: E402
from crash_process import KILLED, STOPPED, TOLD, End, Points, Process, load, load_more  # noqa: E402

GOES_ON = "the same command goes on from here"
KINDS = ("kill", "term", "full", "readonly", "vanish", "clock")
MOMENTS = {"term": 20, "full": 20, "readonly": 10, "vanish": 10, "clock": 10}
QUICK = {"kill": 3, "term": 1, "full": 1, "readonly": 1, "vanish": 1, "clock": 1}
FROM_NOTHING = 10
"""One process in so many."""
TRIES = 6
"""At a moment before the end, which is earlier each time."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="", help="names with commas between them; all by default")
    parser.add_argument("--kinds", default="", help="of kill, term, full, readonly, vanish, clock; all by default")
    parser.add_argument("--quick", action="store_true", help="a few moments of each case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, default=Path("out/crash"))
    given = parser.parse_args()
    kinds = _possible(given.kinds.split(",") if given.kinds else list(KINDS))
    here = [kind for kind in kinds if kind != "clock" or CLOCK in os.environ]
    faults = _told(_tried(here, given)) if here else 0
    return faults if here == kinds else faults | again_with_a_clock("--kinds", "clock")


def _tried(kinds: list[str], given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    load()
    from crash_cases import CASES, make_inputs

    given.state.mkdir(parents=True, exist_ok=True)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="crash-", dir=memory) as name:
        folder = Path(name)
        set_clock(0)
        make_inputs(folder / "given")
        for step in CASES["pack"].steps(folder / "given", folder / "given"):
            assert Process(step, folder).wait().code in (0, 3)
        names = given.cases.split(",") if given.cases else list(CASES)
        return {name: Trials(name, CASES[name], folder, given, kinds).run() for name in names}


def _possible(kinds: list[str]) -> list[str]:
    """Of the kinds those that can be tried here."""
    wanting = {
        "full": "root, to mount" * (os.geteuid() != 0),
        "readonly": "root, to mount" * (os.geteuid() != 0),
        "clock": "a C compiler" * (not can_be_set()),
    }
    for kind in kinds:
        if wanting.get(kind):
            print(f"not tried: {kind}, which needs {wanting[kind]}")
    return [kind for kind in kinds if not wanting.get(kind)]


def _told(results: dict[str, dict[str, Any]]) -> int:
    """Print what was tried; gives the exit code."""
    print(f"\n{'case':<18}" + "".join(f"{kind:>9}" for kind in KINDS) + "  in the middle  from nothing  faults")
    for name, found in results.items():
        counts = "".join(f"{found['done'].get(kind, 0):>9}" for kind in KINDS)
        print(f"{name:<18}{counts}{len(found['middle']):>15}{len(found['from_nothing']):>14}  {len(found['faults'])}")
    return int(any(found["faults"] for found in results.values()))


@dataclass
class Trial:
    """One moment of one case.

    Attributes:
        kind: of disturbance.
        number: which one of its kind.
        rng: draws the moment.
        place: holds ``out``, ``tmp`` and what processes say.
        step: of the case's command lines, which one is disturbed.
        told: what was done, in words.
        is_done: whether it was done before the command had ended.
        fault: what is wrong.
    """

    kind: str
    number: int
    rng: random.Random
    place: Path
    step: int = 0
    told: str = ""
    is_done: bool = False
    fault: str = ""

    @property
    def is_at_a_point(self) -> bool:
        """Whether its moment is a named point."""
        return bool(self.number % 2)

    @property
    def is_from_nothing(self) -> bool:
        """Whether the process is begun as a shell begins it."""
        return self.number // 2 % FROM_NOTHING == FROM_NOTHING - 1


@dataclass
class Undisturbed:
    """What each step of a case does when it is left alone, and the bytes of what is there after it."""

    seconds: list[float] = field(default_factory=list)
    points: list[int] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    tree: dict[str, str] = field(default_factory=dict)
    failures: list[bytes] = field(default_factory=list)
    inputs: list[object] = field(default_factory=list)


class Trials:
    """All moments of one case."""

    def __init__(self, name: str, case: Any, folder: Path, given: argparse.Namespace, kinds: list[str]) -> None:
        self.name, self.case, self.folder, self.given = name, case, folder, given
        self.kinds = [kind for kind in kinds if kind != "vanish" or case.inputs]
        self.path = given.state / f"{name}-{given.seed}.json"
        self.state: dict[str, Any] = {"done": {}, "middle": [], "from_nothing": [], "faults": {}, "seconds": 0.0}
        if self.path.exists():
            self.state = json.loads(self.path.read_text())

    def run(self) -> dict[str, Any]:
        """Every moment that is not done yet, and those again at which something was wrong."""
        wanted = QUICK if self.given.quick else {"kill": self.case.moments, **MOMENTS}
        failed = [name for name in self.state["faults"] if name.split()[0] in self.kinds]
        if not failed and all(self.state["done"].get(kind, 0) >= wanted[kind] for kind in self.kinds):
            return self.state
        self._measure()
        for name in failed:
            self._note(name, self._trial(name.split()[0], int(name.split()[1])))
        began, before = time.monotonic(), self.state["seconds"]
        for kind in self.kinds:
            for number in range(self.state["done"].get(kind, 0), wanted[kind]):
                self.state["done"][kind] = number + 1
                self._note(f"{kind} {number}", self._trial(kind, number))
                self.state["seconds"] = round(before + time.monotonic() - began, 1)
        found = self.state
        print(f"{self.name}: {found['done']}, {len(found['faults'])} faults, {found['seconds']} s", flush=True)
        return found

    def _note(self, name: str, trial: Trial) -> None:
        """Keep what came of a moment."""
        self.state["faults"].pop(name, None)
        for what, moments in (("middle", trial.is_done), ("from_nothing", trial.is_from_nothing)):
            self.state[what] = sorted({*self.state[what], name} if moments else {*self.state[what]} - {name})
        if trial.fault:
            self.state["faults"][name] = f"{trial.told}; {trial.fault}"
            print(f"  {self.name} {name}: {trial.told}; {trial.fault}"[:1500], flush=True)
        self.path.write_text(json.dumps(self.state, indent=1))

    def _measure(self) -> None:
        """Run undisturbed: once to learn what is loaded, once for all that is compared."""
        for _ in range(2):
            place, whole = self._place(), Undisturbed()
            for step in self.case.steps(place / "out", self.folder / "given"):
                points = Points(-1, place / "points", modules=place / "modules")
                began = time.monotonic()
                end = Process(step, place, points).wait()
                assert end.code in (0, 3), (step, end)
                whole.seconds.append(time.monotonic() - began)
                whole.points.append(int(points.tell.read_text()))
                whole.codes.append(end.code)
                whole.sizes.append(size(place / "out"))
                load_more(place / "modules")
            out = place / "out"
            whole.tree, whole.failures, whole.inputs = tree(out), failures(out), inputs(out)
        self.whole = whole

    def _place(self) -> Path:
        """An output folder of the same path each time, as records hold paths."""
        place = self.folder / "trial"
        shutil.rmtree(place, ignore_errors=True)
        (place / "out").mkdir(parents=True)
        return place

    def _trial(self, kind: str, number: int) -> Trial:
        """Disturb one step and look at what is left."""
        rng = random.Random(zlib.crc32(f"{self.name} {self.given.seed} {kind} {number}".encode()))
        trial = Trial(kind, number, rng, self.folder / "trial")
        for _ in range(TRIES):
            self._place()
            set_clock(0)
            self._try(trial)
            if trial.is_done or trial.fault:
                break
        return trial

    def _try(self, trial: Trial) -> None:
        """Do all of one trial, but where the command ends before its moment."""
        steps = self.case.steps(trial.place / "out", self.folder / "given")
        trial.step = trial.rng.randrange(self.case.before, len(steps))
        for step in steps[: trial.step]:
            Process(step, trial.place).wait()
        given = self._kept_inputs() if trial.kind == "vanish" else None
        try:
            with disk(trial.place / "out", trial.kind) as place:
                end = self._disturbed(steps[trial.step], trial, place)
                trial.is_done |= end.code != self.whole.codes[trial.step]
                trial.fault = self._wrong_at_once(trial, end)
                place.mend() if trial.kind == "readonly" else None
                place.resize(64 << 20) if trial.kind == "full" else None
                if given:
                    self._restore(given)
                trial.fault = trial.fault or self._wrong_after_going_on(trial, steps)
        finally:
            if given:
                self._restore(given)
                shutil.rmtree(given)
        if not trial.fault and (left := sorted(path.name for path in (trial.place / "tmp").iterdir())):
            trial.fault = f"left in TMPDIR: {left}"

    def _disturbed(self, step: list[str], trial: Trial, place: Disk) -> End:
        """Run the step until its moment, do what is to be done, and wait for its end."""
        if trial.kind == "full" and not trial.is_at_a_point:
            return self._on_a_small_disk(step, trial, place)
        ending = {"kill": KILLED, "term": TOLD}.get(trial.kind, STOPPED)
        if trial.is_at_a_point:
            points = Points(trial.rng.randint(1, self.whole.points[trial.step]), trial.place / "point", ending)
            process = Process(step, trial.place, points, from_nothing=trial.is_from_nothing)
            end = process.wait()
            trial.told = f"point {points.at} ({points.tell.read_text() if points.tell.exists() else 'not reached'})"
        else:
            process = Process(step, trial.place, from_nothing=trial.is_from_nothing)
            moment = trial.rng.uniform(0.02, self.whole.seconds[trial.step])
            time.sleep(moment)
            process.send(ending)
            end, trial.told = process.wait(), f"after {moment:.3f} s"
        if end.code != -STOPPED:
            return end
        self._act(trial, place)
        trial.is_done = True
        process.send(signal.SIGCONT)
        return process.wait()

    def _act(self, trial: Trial, place: Disk) -> None:
        if trial.kind == "full":
            place.fill()
        elif trial.kind == "readonly":
            place.fail()
        elif trial.kind == "clock":
            set_clock(-trial.rng.choice((2, 90, 4000, 90_000)))
        else:
            trial.told += ", " + spoil(self.folder / "given", self.case.inputs, trial.rng)

    def _on_a_small_disk(self, step: list[str], trial: Trial, place: Disk) -> End:
        before = self.whole.sizes[trial.step - 1] if trial.step else 0
        room = int(before + trial.rng.uniform(0.05, 0.9) * (self.whole.sizes[trial.step] - before))
        place.resize(room)
        trial.told = f"a disk of {room:,} bytes"
        return Process(step, trial.place, from_nothing=trial.is_from_nothing).wait()

    def _wrong_at_once(self, trial: Trial, end: End) -> str:
        usual, said = self.whole.codes[trial.step], f"ends with {end.code}: {end.said[-700:]}"
        if end.code == usual or (trial.kind == "kill" and end.code == -KILLED):
            return self._silently_other(trial, end) if trial.kind == "vanish" else ""
        if trial.kind == "term":
            return "" if end.code == -TOLD else _not_as_interrupted(trial, end, said)
        if trial.kind in ("full", "readonly"):
            return "" if end.code == 2 and _is_plain(end) else said
        if trial.kind == "vanish":
            return self._silently_other(trial, end) if end.code in (0, 2, 3) and _is_plain(end) else said
        return said

    def _silently_other(self, trial: Trial, end: End) -> str:
        """Whether items that vanished went unsaid."""
        found = trial.place / "out"
        if end.code == 2 or len(self.whole.codes) > trial.step + 1 or failures(found) != self.whole.failures:
            return ""
        if inputs(found) != self.whole.inputs or says_changed(found):  # before it was looked at, or since
            return ""
        return difference(*(_without_pages(one) for one in (self.whole.tree, tree(found))))

    def _wrong_after_going_on(self, trial: Trial, steps: list[list[str]]) -> str:
        whole, out = self.whole, trial.place / "out"
        for number, step in enumerate(steps):
            if number >= trial.step or (number >= self.case.before and trial.rng.random() < 0.5):
                end = Process(step, trial.place).wait()
                if trial.kind == "vanish" and end.code in (0, 2, 3) and _is_plain(end):
                    end = Process([*step, "--overwrite"], trial.place).wait()
                if end.code != whole.codes[number]:
                    return f"going on ends with {end.code}: {end.said[-500:]}"
        return difference(whole.tree, tree(out))

    def _kept_inputs(self) -> Path:
        kept = self.folder / "kept"
        shutil.rmtree(kept, ignore_errors=True)
        return Path(shutil.copytree(self.folder / "given", kept, copy_function=shutil.copy2))

    def _restore(self, kept: Path) -> None:
        for pattern in self.case.inputs:
            for path in kept.glob(pattern):
                shutil.copy2(path, self.folder / "given" / path.relative_to(kept))


def _without_pages(found: dict[str, str]) -> dict[str, str]:
    """What is compared where inputs vanish: a page names a picture that is gone, and does without it."""
    return {name: digest for name, digest in found.items() if not name.endswith(".html")}


def _is_plain(end: End) -> bool:
    return "defect" not in end.said and "Traceback" not in end.said


def _not_as_interrupted(trial: Trial, end: End, said: str) -> str:
    """SIGTERM is as Ctrl-C."""
    if end.code != 130 or GOES_ON not in end.said.strip().splitlines()[-1]:
        return said
    left = sorted(path.name for path in (trial.place / "tmp").iterdir())
    locks = sorted(path.name for path in (trial.place / "out").rglob("*.mgtool.lock"))
    return f"left behind: {left + locks}" if left or locks else ""


if __name__ == "__main__":
    sys.exit(main())
