"""Many small pictures through detect, pack, infer and eval: nothing may grow, and two ranks give the same bytes.

Memory, handles, threads and temporary files of each command and of all its processes are taken while it runs, and how
much it writes in the processor time that a fixed piece of work takes meanwhile, whatever else the machine does. The
slope of each over the run, with its 95 % interval, has to be that of something flat.
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
from typing import Any

import numpy as np
import psutil
from PIL import Image
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

SIDE = 32
LOOKS_EVERY_S = 0.5
WARM = 0.2
DONE = 0.95
"""Of what a command writes: from where it has loaded what it needs, to where its workers end."""
STRETCHES = 20
"""Whose means a slope is fitted to: looks that follow each other are alike, and would make its interval too narrow."""
KNOWN_BYTES = {"detect": 300.0}
"""That a command needs for each picture: its name and hash, of which one that comes again is known."""
MOST_GROWTH = {"memory_mb": 10.0, "handles": 4.0, "threads": 2.0, "temporary": 4.0}
"""From the first look that counts to the last."""
MOST_SLOWER = 0.05
"""Of the rate, from the first look that counts to the last."""
MGTOOL = [sys.executable, "-m", "mgtool.commands.main"]


@dataclass
class Looks:
    """What was seen of a command while it ran, one entry a look."""

    seconds: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    yards: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in MOST_GROWTH})

    def add(self, second: float, processes: list[psutil.Process], tmp: Path, out: Path) -> None:
        """Look once."""
        memory, handles, threads, busy = 0.0, 0, 0, 0.0
        for process in processes:
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    memory += process.memory_info().rss / 1e6
                    handles += process.num_fds()
                    threads += process.num_threads()
                    busy += times.user + times.system
            except psutil.Error:
                continue
        self.seconds.append(second)
        self.busy.append(busy)
        self.written.append(_size(out))
        self.yards.append(_yardstick())
        found = {"memory_mb": memory, "handles": handles, "threads": threads, "temporary": _count(tmp)}
        for name, value in found.items():
            self.values[name].append(value)

    def growth(self) -> dict[str, tuple[float, float]]:
        """From the first look that counts to the last: by the fitted slope, and half of its 95 % interval."""
        written = np.array(self.written)
        loaded = int(np.argmax(written >= written[:1] + WARM * np.ptp(written)))
        begin, end = min(loaded, len(written) // 2), int(np.argmax(written >= DONE * written.max()))
        if end - begin < 2 * STRETCHES:
            return {}
        x = np.array(self.seconds[begin:end])
        found = {name: _fitted(x, np.array(values[begin:end])) for name, values in self.values.items()}
        return found | self._slower(begin, end)

    def _slower(self, begin: int, end: int) -> dict[str, tuple[float, float]]:
        """Change of the rate, as a share of it."""
        edges = np.linspace(begin, end - 1, STRETCHES + 1).astype(int)
        busy, written = np.diff(np.array(self.busy)[edges]), np.diff(np.array(self.written)[edges])
        if (busy <= 0).any() or (written <= 0).sum() > STRETCHES // 4:
            return {}  # all is written in the end
        rate = written / busy
        if self.yards:
            rate *= np.array([np.median(part) for part in np.array_split(self.yards[begin:end], STRETCHES)])
        change, half = _fitted(edges[1:].astype(float), rate)
        return {"rate": (change / rate.mean(), half / rate.mean())}


def _yardstick() -> float:
    """Processor time of a fixed piece of work, which is longer where others crowd the caches."""
    began = time.thread_time()
    hashlib.sha256(json.dumps(list(range(20_000))).encode()).digest()
    return time.thread_time() - began


def _fitted(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """How much a line through the means of stretches rises from end to end, and half of its 95 % interval."""
    x_means, y_means = (np.array([part.mean() for part in np.array_split(values, STRETCHES)]) for values in (x, y))
    line, length = stats.linregress(x_means, y_means), x[-1] - x[0]
    half = np.nan_to_num(line.stderr) * stats.t.ppf(0.975, STRETCHES - 2)  # of a constant, no number
    return float(line.slope * length), float(half * length)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=None, help="of infer and eval; one a picture by default")
    parser.add_argument("--out", type=Path, default=None, help="folder to work in; kept, and what is done there stands")
    given = parser.parse_args()
    folder = given.out or Path(tempfile.mkdtemp(prefix="soak-"))
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    items = {"detect": given.pictures, "pack": given.pictures}
    make(folder, given.pictures, given.questions or given.pictures)
    os.environ["TMPDIR"] = str(folder / "tmp")
    print(f"{'command':<8}{'seconds':>9}{'busy':>7}{'items':>9}{'ms each':>9}{'peak MB':>9}  growth (95 % interval)")
    faults = [
        fault
        for name, words in commands(folder, "one")
        for fault in watched(name, words, folder, items.get(name, given.questions or given.pictures))
    ]
    for name, words in commands(folder, "two"):
        done_by_ranks(words) if name in ("detect", "infer") else _done([words])
    faults += [f"two ranks: {name}" for name in different(folder)]
    left = [path.name for path in (folder / "tmp").iterdir() if not path.name.startswith("pymp-")]
    faults += [f"left in TMPDIR: {left}"] if left else []
    print("\n".join(faults) or "nothing grows, and two ranks give the same bytes")
    return int(bool(faults))


def make(folder: Path, pictures: int, questions: int) -> None:
    """Pictures of noise, questions about them, the truth, a detector and a model."""
    import tiny_transformers
    from tiny_models import KIT, tiny_config, tiny_model
    from transformers import AutoTokenizer

    from mgtool.model import MGLlavaProcessor

    (folder / "photos").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(pictures):
        path, pixels = folder / "photos" / _name(number), rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        if not path.exists():
            Image.fromarray(pixels).save(path, compress_level=0)
    with (folder / "questions.jsonl").open("w") as asked, (folder / "truth.jsonl").open("w") as truth:
        for number in range(questions):
            record = {"question_id": number, "image": _name(number), "text": "What?"}
            asked.write(json.dumps(record) + "\n")
            truth.write(json.dumps({**record, "answer": "a", "question": "What?"}) + "\n")
    if (folder / "model").exists():
        return
    tiny_transformers.yolos(folder / "detector")
    tiny_model(tiny_config()).save_pretrained(folder / "model")
    MGLlavaProcessor(AutoTokenizer.from_pretrained(KIT / "llm"), image_size=96).save_pretrained(folder / "model")


def _name(number: int) -> str:
    return f"{number:06}.png"


def commands(folder: Path, run: str) -> Iterator[tuple[str, list[str]]]:
    """The command lines of a run, in order."""
    out, photos = folder / run, str(folder / "photos")
    out.mkdir(exist_ok=True)
    # one picture at a time: the last digits of a network's boxes depend on what is beside a picture in its batch
    detector = ["--detector", f"hf:{folder}/detector", "--threshold", "0.2", "--batch-size", "1", "--device", "cpu"]
    yield "detect", ["detect", photos, *detector, "--out", str(out / "boxes")]
    yield "pack", ["pack", photos, "--boxes", str(out / "boxes"), "--out", str(out / "tars")]
    infer = [str(folder / "questions.jsonl"), "--images", photos, "--boxes", str(out / "boxes")]
    model = ["--model", str(folder / "model"), "--max-new-tokens", "1", "--device", "cpu"]
    yield "infer", ["infer", *infer, *model, "--out", str(out / "answers" / "answers.jsonl")]
    truth = ["--ground-truth", str(folder / "truth.jsonl"), "--metric", "exact"]
    answers = str(out / "answers" / "answers.jsonl")
    yield "eval", ["eval", answers, "--benchmark", "custom", *truth, "--out", str(out / "scores")]


def watched(name: str, words: list[str], folder: Path, items: int) -> list[str]:
    """Run a command, if that was not done before, and print what was seen; gives what is wrong."""
    kept = folder / f"{name}.json"
    if not kept.exists():
        kept.write_text(json.dumps(_run(words, folder)))
    run = json.loads(kept.read_text())
    looks, code = Looks(**run["looks"]), run["code"]
    growth = looks.growth()
    _tell(name, run["seconds"], items, looks, growth)
    known = KNOWN_BYTES.get(name, 0.0) * items / 1e6
    return [f"{name}: exit code {code}: {run['said'][-300:]}"] * int(code != 0) + _grown(name, growth, known)


def _run(words: list[str], folder: Path) -> dict[str, Any]:
    """Run a command and look at it until its end."""
    began, looks, out = time.monotonic(), Looks(), Path(words[words.index("--out") + 1])
    process = subprocess.Popen([*MGTOOL, *words, "-q"], stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    reading = threading.Thread(target=lambda: said.extend(process.stderr or ()))
    reading.start()
    own = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            processes = [own, *own.children(recursive=True)]
        except psutil.Error:
            break
        looks.add(time.monotonic() - began, processes, folder / "tmp", out if out.is_dir() else out.parent)
        time.sleep(LOOKS_EVERY_S)
    reading.join()
    code = process.wait()
    return {"code": code, "seconds": time.monotonic() - began, "said": "".join(said), "looks": vars(looks)}


def _tell(name: str, seconds: float, items: int, looks: Looks, growth: dict[str, tuple[float, float]]) -> None:
    units = {"memory_mb": "MB", "rate": "of the rate"}
    told = ", ".join(f"{value:+.3g} ± {half:.2g} {units.get(kind, kind)}" for kind, (value, half) in growth.items())
    busy, peak = max(looks.busy, default=0.0), max(looks.values["memory_mb"], default=0)
    print(
        f"{name:<8}{seconds:>9.0f}{busy:>7.0f}{items:>9,}{busy * 1e3 / items:>9.2f}{peak:>9.0f}"
        f"  {told or 'too short for a slope'}",
        flush=True,
    )


def _grown(name: str, growth: dict[str, tuple[float, float]], known: float) -> list[str]:
    rate, half = growth.get("rate", (0.0, 0.0))
    most = MOST_GROWTH | {"memory_mb": MOST_GROWTH["memory_mb"] + known}
    grown = [kind for kind in most.keys() & growth.keys() if growth[kind][0] - growth[kind][1] > most[kind]]
    return [f"{name}: {kind} grows" for kind in grown] + [f"{name}: becomes slower"] * int(rate + half < -MOST_SLOWER)


def done_by_ranks(words: list[str]) -> None:
    """Run a command as two ranks at once."""
    _done([[*words, "--rank", str(rank), "--world-size", "2"] for rank in range(2)])


def _done(lines: list[list[str]]) -> None:
    running = [subprocess.Popen([*MGTOOL, *words, "-q"], stderr=subprocess.PIPE, text=True) for words in lines]
    for process in running:
        said = process.communicate()[1]
        if process.returncode:
            raise SystemExit(f"{process.args}: {said}")


def different(folder: Path) -> list[str]:
    """Files that two ranks wrote otherwise than one process, beside the records of the runs."""
    found = [_digests(folder / run) for run in ("one", "two")]
    return sorted(name for name in found[0].keys() | found[1].keys() if found[0].get(name) != found[1].get(name))


def _digests(folder: Path) -> dict[str, str]:
    names = [
        path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(("run.json", "report.html"))
    ]
    names = [path for path in names if "-of-" not in path.name]  # a rank's own, of which the whole is made
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in names}


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            else:
                yield entry
    except OSError:
        return


def _count(folder: Path) -> int:
    return sum(1 for _ in _files(folder))


def _size(folder: Path) -> int:
    total = 0
    for entry in _files(folder):
        try:
            total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total


if __name__ == "__main__":
    sys.exit(main())
