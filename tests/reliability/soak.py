"""Many small pictures through detect, pack, infer and eval: nothing may grow, and two ranks give the same bytes.

Memory, handles, threads and temporary files of each command and of all its processes are taken while it runs; the
slope of each over the items, with its 95 % interval, has to be that of something flat.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

SIDE = 32
LOOKS_EVERY_S = 1.0
WARM = 0.2
"""Of a command's time, in which it loads what it needs."""
MOST_GROWTH = {"memory_mb": 60.0, "handles": 8.0, "threads": 4.0, "temporary": 8.0}
"""From the first look that counts to the last."""
FEWEST_LOOKS = 40
"""From which a slope is told."""
MGTOOL = [sys.executable, "-m", "mgtool.commands.main"]


@dataclass
class Looks:
    """What was seen of a command while it ran, one entry a look."""

    seconds: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in MOST_GROWTH})

    def add(self, second: float, processes: list[psutil.Process], tmp: Path) -> None:
        """Look once."""
        memory, handles, threads = 0.0, 0, 0
        for process in processes:
            try:
                memory += process.memory_info().rss / 1e6
                handles += process.num_fds()
                threads += process.num_threads()
            except psutil.Error:
                continue
        self.seconds.append(second)
        found = {"memory_mb": memory, "handles": handles, "threads": threads, "temporary": _files(tmp)}
        for name, value in found.items():
            self.values[name].append(value)

    def growth(self) -> dict[str, tuple[float, float]]:
        """From the first look that counts to the last: by the fitted slope, and half of its 95 % interval."""
        begin = int(len(self.seconds) * WARM)
        x = np.array(self.seconds[begin:-1])
        found = {}
        for name, values in self.values.items():
            y = np.array(values[begin:-1])
            if len(x) < FEWEST_LOOKS:
                found[name] = (0.0, 0.0)
                continue
            slope, offset = np.polyfit(x, y, 1)
            left = y - slope * x - offset
            spread = np.sqrt((left**2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum())
            found[name] = (float(slope * (x[-1] - x[0])), float(1.96 * spread * (x[-1] - x[0])))
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=None, help="folder to work in; kept")
    given = parser.parse_args()
    folder = given.out or Path(tempfile.mkdtemp(prefix="soak-"))
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = str(folder / "tmp")
    make(folder, given.pictures)
    print(f"{'command':<8}{'seconds':>9}{'items/s':>9}{'peak MB':>9}  growth (95 % interval)")
    faults = [
        fault for name, words in commands(folder, "one") for fault in watched(name, words, folder, given.pictures)
    ]
    for rank in range(2):
        for name, words in commands(folder, "two"):
            if name in ("detect", "infer"):
                _done([*words, "--rank", str(rank), "--world-size", "2"])
    faults += [f"two ranks: {name}" for name in different(folder)]
    left = [path.name for path in (folder / "tmp").iterdir() if not path.name.startswith("pymp-")]
    faults += [f"left in TMPDIR: {left}"] if left else []
    print("\n".join(faults) or "nothing grows, and two ranks give the same bytes")
    return int(bool(faults))


def make(folder: Path, count: int) -> None:
    """Pictures of noise, questions about them, and the truth."""
    (folder / "photos").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    with (folder / "questions.jsonl").open("w") as questions, (folder / "truth.jsonl").open("w") as truth:
        for number in range(count):
            name = f"{number:06}.png"
            if not (folder / "photos" / name).exists():
                pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "photos" / name, compress_level=0)
            record = {"question_id": number, "image": name, "text": "What?"}
            questions.write(json.dumps(record) + "\n")
            truth.write(json.dumps({"question_id": number, "answer": "a", "question": "What?", "image": name}) + "\n")


def commands(folder: Path, run: str) -> Iterator[tuple[str, list[str]]]:
    """The command lines of a run, in order."""
    out, photos = folder / run, str(folder / "photos")
    out.mkdir(exist_ok=True)
    infer = [str(folder / "questions.jsonl"), "--images", photos, "--boxes", str(out / "boxes"), "--model", "tiny"]
    yield "detect", ["detect", photos, "--detector", "tiny", "--out", str(out / "boxes")]
    yield "pack", ["pack", photos, "--boxes", str(out / "boxes"), "--out", str(out / "tars")]
    yield "infer", ["infer", *infer, "--max-new-tokens", "1", "--device", "cpu", "--out", str(out / "answers.jsonl")]
    truth = ["--ground-truth", str(folder / "truth.jsonl"), "--metric", "exact"]
    answers = str(out / "answers.jsonl")
    yield "eval", ["eval", answers, "--benchmark", "custom", *truth, "--out", str(out / "scores")]


def watched(name: str, words: list[str], folder: Path, items: int) -> list[str]:
    """Run a command and print what was seen; gives what is wrong."""
    began, looks = time.monotonic(), Looks()
    process = subprocess.Popen([*MGTOOL, *words, "-q"], stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    reading = threading.Thread(target=lambda: said.extend(process.stderr or ()))
    reading.start()
    own = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            looks.add(time.monotonic() - began, [own, *own.children(recursive=True)], folder / "tmp")
        except psutil.Error:
            break
        time.sleep(LOOKS_EVERY_S)
    reading.join()
    code, seconds, growth = process.wait(), time.monotonic() - began, looks.growth()
    told = ", ".join(f"{kind} {value:+.1f} ± {half:.1f}" for kind, (value, half) in growth.items())
    peak = max(looks.values["memory_mb"], default=0)
    print(f"{name:<8}{seconds:>9.0f}{items / seconds:>9.0f}{peak:>9.0f}  {told}", flush=True)
    grown = [kind for kind, (value, half) in growth.items() if value - half > MOST_GROWTH[kind]]
    return [f"{name}: exit code {code}: {''.join(said)[-300:]}"] * (code != 0) + [
        f"{name}: {kind} grows" for kind in grown
    ]


def different(folder: Path) -> list[str]:
    """Files of boxes and answers that two ranks wrote otherwise than one process."""
    names = [path.relative_to(folder / "one") for path in (folder / "one" / "boxes").glob("boxes-*.jsonl")]
    names.append(Path("answers.jsonl"))
    digests = [[_digest(folder / run / name) for name in names] for run in ("one", "two")]
    if not (folder / "two" / "answers.jsonl").exists():  # ranks leave a file each
        shares = sorted((folder / "two").glob("answers-*-of-*.jsonl"))
        digests[1][-1] = hashlib.sha256(b"".join(path.read_bytes() for path in shares)).hexdigest()
    return [str(name) for name, one, two in zip(names, *digests, strict=True) if one != two]


def _done(words: list[str]) -> None:
    done = subprocess.run([*MGTOOL, *words, "-q"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{words}: {done.stderr}")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"


def _files(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


if __name__ == "__main__":
    sys.exit(main())
