"""Packing and reading back: speed against `tar cf` and webdataset, and peak memory from 10^3 to 10^6 samples.

    python tests/speed/pack.py [--quick] [--json] [--only speed|memory] [--gigabytes 4] [--workers 0] [--folder D]

Writers take turns on the same files, which are in memory ("warm") or, where the cache can be emptied, on disk only
("cold"); readers read the same tars; the best of three. mgtool's time is that of the whole command: it checks and
hashes each picture, looks its boxes up, hashes each tar twice, and waits until it is on disk. `tar cf` does none of
this, so the rows "+ sync" wait for the disk with all of them. `load` is what the machine was busy with, 1 a core.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from PIL import Image

REPEATS = 3
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
PACK = [str(Path(sys.executable).with_name("mgtool")), "pack"]
WEBDATASET_WRITER = """
import json, sys
from pathlib import Path
import numpy as np
import webdataset
folder, out, size = sys.argv[1:]
boxes = {line["image"]: line for line in map(json.loads, open(f"{folder}/boxes.jsonl"))}
with webdataset.ShardWriter(f"{out}/shard-%06d.tar", maxcount=int(size), verbose=0) as sink:
    for number, line in enumerate(open(f"{folder}/train.jsonl")):
        record = json.loads(line)
        found = boxes[record["image"]]
        rows = np.array(found["boxes"], dtype=np.float32)
        about = {"scores": found["scores"], "labels": found["labels"]}
        data = Path(folder, "photos", record["image"]).read_bytes()
        sink.write({"__key__": f"{number:09}", "jpg": data, "json": record, "boxes.npy": rows, "boxes.json": about})
"""
MGTOOL_READER = """
import sys, time
import mgtool
began = time.perf_counter()
count = size = 0
for sample in mgtool.open_tars(sys.argv[1]):
    count, size = count + 1, size + len(sample.images[0].data) + len(sample.images[0].detections[0].boxes)
print(time.perf_counter() - began, count, size)
"""
WEBDATASET_READER = """
import sys, time, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import webdataset
began = time.perf_counter()
count = size = 0
urls = sorted(map(str, Path(sys.argv[1]).glob("*.tar")))
for sample in webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode():
    count, size = count + 1, size + len(sample["jpg"]) + len(sample["boxes.npy"])
print(time.perf_counter() - began, count, size)
"""


def jpeg(seed, side, quality):
    """A JPEG of noise; at quality 90 about 0.9 bytes a pixel."""
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def make_data(folder, count, side):
    """Pictures, conversations and boxes; each picture is a file of its own. Gives the bytes of the pictures."""
    (folder / "photos").mkdir(parents=True)
    kinds = [jpeg(seed, side - side // 4 + seed * side // 64, 90) for seed in range(32)]
    box = {"boxes": [[1.5, 2.0, 30.0, 40.25]] * 20, "scores": [0.5] * 20, "labels": ["person"] * 20}
    total = 0
    with (folder / "train.jsonl").open("w") as train, (folder / "boxes.jsonl").open("w") as boxes:
        for number in range(count):
            name = f"{number:07}.jpg"
            data = kinds[number % len(kinds)] + number.to_bytes(4, "big")
            (folder / "photos" / name).write_bytes(data)
            total += len(data)
            turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A bird. " * 30}]
            train.write(json.dumps({"id": number, "image": name, "conversations": turns}) + "\n")
            line = {"image": name, "sha256": hashlib.sha256(data).hexdigest(), "width": 64, "height": 64, **box}
            boxes.write(json.dumps(line) + "\n")
    return total


class Times(NamedTuple):
    """Best seconds of a command until it returns, and until what it wrote is on disk."""

    returned: float = float("inf")
    durable: float = float("inf")


def timed(commands, *, cold):
    """Times of commands that each fill a folder, in turns; `cold` empties the cache of files before each."""
    best = {out: Times() for out in commands}
    for _ in range(REPEATS):
        for out, command in commands.items():
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            os.sync()
            if cold:
                DROP_CACHES.write_text("3")
            began = time.perf_counter()
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            middle = time.perf_counter()
            subprocess.run(["sync", "-f", str(out)], check=True)
            now = Times(middle - began, time.perf_counter() - began)
            best[out] = Times(*map(min, best[out], now))
    return best.values()


def same_pictures(photos, tars):
    """Whether the tars hold exactly the files."""
    packed = hashlib.sha256()
    for tar in sorted(tars.glob("*.tar")):
        with tarfile.open(tar) as opened:
            for member in opened:
                if member.name.endswith(".jpg"):
                    packed.update(opened.extractfile(member).read())
    given = hashlib.sha256()
    for path in sorted(photos.iterdir()):
        given.update(path.read_bytes())
    return packed.digest() == given.digest()


def pack_command(data, out, workers, size):
    """mgtool's command line."""
    return [
        *PACK, str(data / "train.jsonl"), "--images", str(data / "photos"), "--boxes", str(data / "boxes.jsonl"),
        "--out", str(out), "--workers", str(workers), "--shard-size", str(size), "-q",
    ]  # fmt: skip


def row(mgtool_s, plain_s, total, count, equal):
    """One workload's numbers."""
    return {
        "mgtool_s": round(mgtool_s, 3),
        "plain_s": round(plain_s, 3),
        "ratio": round(plain_s / mgtool_s, 3),
        "equal": equal,
        "mgtool_mb_per_s": round(total / mgtool_s / 1e6),
        "mgtool_samples_per_s": round(count / mgtool_s),
        "load": round(os.getloadavg()[0], 1),
    }


def writing(place, name, count, side, workers):
    """`mgtool pack` against `tar cf` and ShardWriter; leaves mgtool's tars for the readers."""
    data, size = place / name, 1000
    total = make_data(data, count, side)
    packed, tarred, written = (place / f"{name}-{who}" for who in ("mgtool", "tar", "webdataset"))
    commands = {
        packed: pack_command(data, packed, workers, size),
        tarred: ["tar", "cf", str(tarred / "x.tar"), "--sort=name", "-C", str(data), "photos"],
        written: [sys.executable, "-c", WEBDATASET_WRITER, str(data), str(written), str(size)],
    }
    rows = {}
    for cold in (False, True) if os.access(DROP_CACHES, os.W_OK) else (False,):
        if not cold:
            for path in (data / "photos").iterdir():
                path.read_bytes()
        mgtool, tar, writer = timed(commands, cold=cold)
        equal = same_pictures(data / "photos", packed)
        kind = f"write {name}, {'cold' if cold else 'warm'}"
        for plain, times in (("tar cf", tar), ("webdataset", writer)):
            rows[f"{kind}, {plain}"] = row(mgtool.returned, times.returned, total, count, equal)
            rows[f"{kind}, {plain} + sync"] = row(mgtool.durable, times.durable, total, count, equal)
    shutil.rmtree(tarred)
    shutil.rmtree(written)
    return rows


def reading(tars, name):
    """`mgtool.open_tars` against webdataset's reader, JSON and boxes decoded."""
    found = {}
    for reader, script in (("mgtool", MGTOOL_READER), ("webdataset", WEBDATASET_READER)):
        lines = [
            subprocess.run([sys.executable, "-c", script, str(tars)], check=True, capture_output=True, text=True).stdout
            for _ in range(REPEATS)
        ]
        found[reader] = min((line.split() for line in lines), key=lambda fields: float(fields[0]))
    (mgtool_s, count, size), (plain_s, *plain) = found["mgtool"], found["webdataset"]
    equal = [count, size] == plain
    return {f"read {name}": row(float(mgtool_s), float(plain_s), int(size), int(count), equal)}


def memory(place, count, workers):
    """Peak resident memory of all of mgtool's processes together, with many samples of a few tiny pictures."""
    data = place / f"many-{count}"
    (data / "photos").mkdir(parents=True)
    for number in range(8):
        (data / "photos" / f"{number}.jpg").write_bytes(jpeg(number, 16, 50))
    with (data / "train.jsonl").open("w") as train:
        for number in range(count):
            turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A bird."}]
            train.write(json.dumps({"id": number, "image": f"{number % 8}.jpg", "conversations": turns}) + "\n")
    out = data / "out"
    command = [*PACK, str(data / "train.jsonl"), "--images", str(data / "photos"), "--out", str(out), "-q"]
    began = time.perf_counter()
    process = psutil.Popen([*command, "--workers", str(workers), "--shuffle", "1"])
    peak = largest = 0
    while process.poll() is None:
        sizes = [resident(one) for one in [process, *children(process)]]
        peak, largest = max(peak, sum(sizes)), max(largest, *sizes)
        time.sleep(0.05)
    seconds = time.perf_counter() - began
    packed = json.loads((out / "run.json").read_bytes())["counts"]["samples"]
    shutil.rmtree(data)
    return {
        "mgtool_s": round(seconds, 2),
        "peak_mb": round(peak / 1e6),
        "largest_process_mb": round(largest / 1e6),
        "equal": packed == count,
    }


def children(process):
    """All processes below one."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def resident(process):
    """Resident bytes of a process; what processes share counts for each."""
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def run(place, options):
    """All workloads."""
    rows = speed(place, options) if options.only != "memory" else {}
    if options.only != "speed":
        for count in (1_000, 10_000) if options.quick else (1_000, 100_000, 1_000_000):
            rows[f"memory, {count:,} samples"] = memory(place, count, options.workers)
    return rows


def speed(place, options):
    """Writing and reading of large and of small pictures."""
    small = 2_000 if options.quick else 30_000
    large = int(options.gigabytes * 1e9 / 185_000)
    rows = writing(place, "185 KB pictures", large, 480, options.workers)
    rows |= reading(place / "185 KB pictures-mgtool", "185 KB pictures")
    for path in place.glob("185 KB*"):
        shutil.rmtree(path)
    rows |= writing(place, "8 KB pictures", small, 96, options.workers)
    rows |= reading(place / "8 KB pictures-mgtool", "8 KB pictures")
    for path in place.glob("8 KB*"):
        shutil.rmtree(path)
    return rows


def show(rows):
    """A table."""
    print(f"{'workload':<46}{'mgtool s':>10}{'plain s':>10}{'ratio':>8}{'equal':>7}{'MB/s':>8}{'samples/s':>11}")
    for name, one in rows.items():
        if "ratio" in one:
            print(
                f"{name:<46}{one['mgtool_s']:>10.2f}{one['plain_s']:>10.2f}{one['ratio']:>8.2f}{one['equal']!s:>7}"
                f"{one['mgtool_mb_per_s']:>8}{one['mgtool_samples_per_s']:>11}"
            )
    for name, one in rows.items():
        if "peak_mb" in one:
            largest = f"{one['largest_process_mb']} MB in the largest of them"
            print(f"{name:<46}{one['mgtool_s']:>10.2f}  peak {one['peak_mb']} MB in all processes, {largest}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="0.2 GB and 10^4 samples")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--gigabytes", type=float, default=4.0, help="of large pictures")
    parser.add_argument("--workers", type=int, default=0, help="of mgtool; 0: one a core")
    parser.add_argument("--only", choices=("speed", "memory"), help="not everything")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder otherwise")
    options = parser.parse_args()
    if options.quick:
        options.gigabytes = 0.2
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = run(Path(folder), options)
    if options.json:
        print(json.dumps(rows))
    else:
        print(f"{os.cpu_count()} cores")
        show(rows)


if __name__ == "__main__":
    main()
