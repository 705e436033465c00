"""Whole commands over folders of broken files: an exit code and lines, never a defect, nothing written elsewhere.

Each runs in a fork of a process that has everything imported. ``--state`` keeps how far it came, and what was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
sys.dont_write_bytecode = True

ALLOWED = (0, 2, 3)
LONGEST_S = 10
"""Of computing, for a whole command; by the clock, five times that: a machine has more to do."""
MOST_MB = 1500
_STRANGE = 99
_OWN = ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec", "socket.bind")
"""What commands may: begin workers; libraries see by binding a socket whether there is IPv6."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, default=Path("out/fuzz"))
    parser.add_argument("--only", type=int, default=None, help="make one command again, here")
    given = parser.parse_args()
    given.state.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place:
        os.environ["TMPDIR"], tempfile.tempdir = place, None
        made = _Makers(Path(place))
        if given.only is not None:
            words = made.command(random.Random(f"{given.seed} {given.only}"))
            print(" ".join(words), *_run(words), sep="\n")
            return 0
        return _all(given, made)


def _all(given: argparse.Namespace, made: _Makers) -> int:
    path = given.state / "commands.json"
    state: dict[str, Any] = {"commands": 0, "seconds": 0.0, "peak_mb": 0, "slowest_s": 0.0, "codes": {}, "faults": {}}
    if path.exists():
        state |= json.loads(path.read_text())
    began, before = time.monotonic(), state["seconds"]
    for number in sorted({int(one) for one in state["faults"]} | set(range(state["commands"], given.commands))):
        if time.monotonic() - began > given.seconds:
            break
        words = made.command(random.Random(f"{given.seed} {number}"))
        _note(state, number, words, _Ended.of(words, made.place))
        if str(number) in state["faults"]:
            shutil.copytree(made.place / "given", given.state / f"command-{number}", dirs_exist_ok=True)
        state["commands"] = max(state["commands"], number + 1)
        state["seconds"] = round(before + time.monotonic() - began, 1)
        path.write_text(json.dumps(state, indent=1))
    print(
        f"{state['commands']:,} commands, exit codes {state['codes']}, peak {state['peak_mb']} MB, slowest "
        f"{state['slowest_s']} s, {len(state['faults'])} faults, {state['seconds']:.0f} s"
    )
    for number, told in state["faults"].items():
        print(f"  {number}: {told}  (--only {number})")
    return int(bool(state["faults"]))


def _note(state: dict[str, Any], number: int, words: list[str], end: _Ended) -> None:
    if number >= state["commands"]:
        state["codes"][str(end.code)] = state["codes"].get(str(end.code), 0) + 1
    state["peak_mb"] = max(state["peak_mb"], end.peak_mb)
    state["slowest_s"] = max(state["slowest_s"], end.seconds)
    state["faults"].pop(str(number), None)
    if end.code not in ALLOWED or "defect" in end.said or end.seconds > LONGEST_S or end.peak_mb > MOST_MB:
        told = f"{' '.join(words)[:300]}\n    {end.code}, {end.seconds} s, {end.peak_mb} MB: {end.said[:1500]}"
        state["faults"][str(number)] = told


class _Ended:
    """How a command ended.

    Attributes:
        code: its exit code; negative where a signal ended it.
        seconds: of computing.
        peak_mb: of its memory.
        said: on stderr.
    """

    def __init__(self, status: int, usage: Any, said: str) -> None:
        self.code, self.said = os.waitstatus_to_exitcode(status), said
        self.seconds = round(usage.ru_utime + usage.ru_stime, 2)
        self.peak_mb = usage.ru_maxrss // 1024

    @classmethod
    def of(cls, words: list[str], place: Path) -> _Ended:
        """Run a command in a fork."""
        told = place / "said"
        told.write_bytes(b"")
        child = os.fork()
        if not child:
            _in_fork(words, place, told)
        _, status, usage = os.wait4(child, 0)
        return cls(status, usage, told.read_text(encoding="utf-8", errors="replace"))


def _in_fork(words: list[str], place: Path, told: Path) -> NoReturn:
    from guard import Guard

    code = _STRANGE
    try:
        log = told.open("w", encoding="utf-8", errors="backslashreplace")
        faulthandler.register(signal.SIGALRM, file=log, chain=True)
        signal.setitimer(signal.ITIMER_REAL, 5 * LONGEST_S)
        guard = Guard([place], allowed=_OWN)
        guard.is_on = True
        code, said = _run(words)
        guard.is_on = False
        log.write(said + "".join(guard.found))
        log.flush()
        code = _STRANGE if guard.found else code
    finally:
        os._exit(code)


def _run(words: list[str]) -> tuple[int, str]:
    from mgtool.commands import console
    from mgtool.commands.main import main as command_line

    said = io.StringIO()
    console.err.file, sys.argv = said, ["mgtool", *words]
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())), contextlib.redirect_stderr(said):
        try:
            command_line()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
    return code, said.getvalue()


class _Makers:
    """Makes inputs and command lines; loads what the commands load."""

    def __init__(self, place: Path) -> None:
        from fuzz_kinds import KINDS
        from tiny_models import KIT

        import mgtool

        self.place, self.kinds, self.kit = place, KINDS, KIT
        self.tiny = Path(mgtool.__file__).parent / "model" / "tiny"
        (place / "seeds").mkdir()
        self.seeds = {}
        for name, kind in KINDS.items():
            folder = place / "seeds" / name
            folder.mkdir()
            self.seeds[name] = sorted(kind.seeds(folder).items())
        for choice in range(len(self._commands(random.Random(0), *self._fresh()))):
            _run(self._commands(random.Random(choice), *self._fresh())[choice]())

    def _fresh(self) -> tuple[Path, Path]:
        given, out = self.place / "given", self.place / "out"
        for folder in (given, out):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        return given, out

    def broken(self, kind: str, rng: random.Random, folder: Path, name: str = "") -> Path:
        """A file of a kind, broken two times in three."""
        own, data = rng.choice(self.seeds[kind])
        if rng.random() < 0.67:
            data = rng.choice(self.kinds[kind].mutate)(data, rng)
        path = folder / (name or own)
        path.write_bytes(data)
        return path

    def broken_folder(self, source: Path, rng: random.Random, folder: Path) -> Path:
        """A copy of a folder one of whose files is broken."""
        shutil.copytree(source, folder, dirs_exist_ok=True)
        path = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        ways = self.kinds["json" if path.suffix == ".json" else "checkpoints"].mutate
        path.write_bytes(rng.choice(ways)(path.read_bytes(), rng))
        return folder

    def command(self, rng: random.Random) -> list[str]:
        """A command line, after its inputs are written."""
        given, out = self._fresh()
        for n in range(3):
            self.broken("pictures", rng, given, f"{n}.jpg")
        if rng.random() < 0.3:
            os.utime(self.broken("leftovers", rng, out), (0, 0))  # a holder elsewhere gives no sign of life
        return rng.choice(self._commands(rng, given, out))()

    def _commands(self, rng: random.Random, given: Path, out: Path) -> tuple[Any, ...]:
        """What makes a command line, for each form of one."""
        to_out, common = ["--out", str(out)], ["--images", str(given), "-q"]
        in_order = ["--workers", "0", *to_out, *common]
        file = ["--model", "tiny", "--out", str(out / "a.jsonl"), *common]

        def source() -> str:
            kind = rng.choice(("json", "jsonl", "tsv", "lists", "tars", "pictures"))
            return str(
                given if kind == "pictures" else self.broken(kind, rng, given, "x.tar" if kind == "tars" else "")
            )

        def one(*kinds: str) -> str:
            return str(self.broken(rng.choice(kinds), rng, given))

        def parts() -> list[str]:
            kit = self.broken_folder(self.kit, rng, given / "kit")
            names = ("llm", "clip", "convnext")
            return ["--checkpoint", str(kit / "mg_llava.pth"), *(f"--{name}={kit / name}" for name in names)]

        def model() -> str:
            return str(self.broken_folder(self.tiny, rng, given / "model"))

        truth, boxes = ("truth", "tables", "workbooks", "parquet"), ("boxes", "box-parquet")
        names = ("pope", "vqav2", "custom", "mme", "mmbench", "refcoco", "coco_caption")
        return (
            lambda: ["detect", source(), "--detector", "tiny", *in_order],
            lambda: ["detect", source(), "--detector", "tiny", "--report", str(out / "r.html"), *in_order],
            lambda: ["detect", source(), "--detector", f"boxes:{one(*boxes)}", *in_order],
            lambda: ["pack", source(), "--boxes", one(*boxes), "--workers", "1", *to_out, *common],
            lambda: ["pack", "--verify", source(), "-q"],
            lambda: ["pack", source(), "--unpack", str(out / "u"), "-q"],
            lambda: ["detect", "--stats", one(*boxes), "-q"],
            lambda: ["infer", source(), *file, "--dry-run"],
            lambda: ["infer", source(), *file, "--max-new-tokens", "1", "--workers", "0"],
            lambda: ["infer", source(), *file, "--model", model(), "--max-new-tokens", "1", "--workers", "0"],
            lambda: ["import", *parts(), *to_out, "-q"],
            lambda: ["train", source(), "--model", "tiny", *to_out, "--dry-run"],
            lambda: ["table", one("toml"), *to_out, "-q"],
            lambda: ["eval", one("answers"), "--benchmark", rng.choice(names), "--ground-truth", one(*truth), *to_out],
            lambda: ["eval", one("answers"), "--benchmark", rng.choice(names), "--ground-truth", str(given), *to_out],
            lambda: ["detect", str(given), "--config", one("toml"), "--dry-run", *to_out],
        )


if __name__ == "__main__":
    sys.exit(main())
