"""Whole commands over folders of broken files: an exit code and lines, never a defect, nothing written elsewhere."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
sys.dont_write_bytecode = True

ALLOWED = (0, 2, 3)
LONGEST_S = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, default=Path("out/fuzz"))
    given = parser.parse_args()
    given.state.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    began, faults, codes = time.monotonic(), dict[str, str](), dict[int, int]()
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place:
        os.environ["TMPDIR"], tempfile.tempdir = place, None
        made = _Makers(Path(place))
        for number in range(given.commands):
            if time.monotonic() - began > given.seconds:
                break
            words = made.command(random.Random(f"{given.seed} {number}"))
            start = time.process_time()
            code, said = _run(words)
            codes[code] = codes.get(code, 0) + 1
            took = time.process_time() - start
            if code not in ALLOWED or "defect" in said or took > LONGEST_S:
                faults[f"{number}: {' '.join(words)}"[:300]] = f"{code}, {took:.1f} s: {said[-400:]}"
                shutil.copytree(Path(place) / "given", given.state / f"command-{number}", dirs_exist_ok=True)
    print(
        f"{sum(codes.values()):,} commands, exit codes {codes}, {len(faults)} faults, {time.monotonic() - began:.0f} s"
    )
    for words, told in faults.items():
        print(f"  {words}\n    {told}")
    (given.state / "commands.json").write_text(json.dumps({"codes": codes, "faults": faults}, indent=1))
    return int(bool(faults))


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
    """Makes inputs and command lines."""

    def __init__(self, place: Path) -> None:
        from fuzz_kinds import KINDS

        self.place, self.kinds = place, KINDS
        (place / "seeds").mkdir()
        self.seeds = {}
        for name, kind in KINDS.items():
            folder = place / "seeds" / name
            folder.mkdir()
            self.seeds[name] = sorted(kind.seeds(folder).items())

    def broken(self, kind: str, rng: random.Random, folder: Path, name: str = "") -> Path:
        """A file of a kind, broken two times in three."""
        own, data = rng.choice(self.seeds[kind])
        if rng.random() < 0.67:
            data = rng.choice(self.kinds[kind].mutate)(data, rng)
        path = folder / (name or own)
        path.write_bytes(data)
        return path

    def command(self, rng: random.Random) -> list[str]:
        """A command line, after its inputs are written."""
        given, out = self.place / "given", self.place / "out"
        for folder in (given, out):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        for n in range(3):
            self.broken("pictures", rng, given, f"{n}.jpg")
        if rng.random() < 0.3:
            self.broken("leftovers", rng, out)
        kind = rng.choice(("json", "jsonl", "tsv", "lists", "tars", "pictures"))
        source = given if kind == "pictures" else self.broken(kind, rng, given, "x.tar" if kind == "tars" else "")
        answers, name = self.broken("answers", rng, given), rng.choice(("pope", "vqav2", "custom", "mme"))
        truth = self.broken(rng.choice(("truth", "tables", "workbooks")), rng, given)
        boxes = self.broken(rng.choice(("boxes", "box-parquet")), rng, given)
        common = ["--images", str(given), "-q"]
        return rng.choice((
            ["detect", str(source), "--detector", "tiny", "--workers", "0", "--out", str(out), *common],
            ["detect", str(source), "--detector", f"boxes:{boxes}", "--workers", "0", "--out", str(out), *common],
            ["pack", str(source), "--boxes", str(boxes), "--workers", "1", "--out", str(out), *common],
            ["pack", "--verify", str(source), "-q"],
            ["pack", str(source), "--unpack", str(out / "u"), "-q"],
            ["detect", "--stats", str(boxes), "-q"],
            ["infer", str(source), "--model", "tiny", "--out", str(out / "a.jsonl"), "--dry-run", *common],
            ["eval", str(answers), "--benchmark", name, "--ground-truth", str(truth), "--out", str(out)],
            ["detect", str(given), "--config", str(self.broken("toml", rng, given)), "--out", str(out), "--dry-run"],
        ))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
