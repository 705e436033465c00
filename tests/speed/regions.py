"""Box features: time and peak memory against interpolate + roi_align + mean, on a CPU.

python tests/speed/regions.py [--quick] [--json] [--threads 2] [--boxes 30]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from pathlib import Path

import torch
import torchvision
from torch.nn import functional

from mgtool.model.regions import pool_boxes

FRAME, BINS = 768, 56
PUBLISHED = {"widths": (192, 384, 768, 1536), "sizes": (192, 96, 48, 24)}
QUICK = {"widths": (48, 96, 192, 384), "sizes": (192, 96, 48, 24)}


def inputs(geometry, count):
    """Stage maps and boxes as a detector might give them."""
    generator = torch.Generator().manual_seed(0)
    stages = [
        torch.randn(1, c, s, s, generator=generator) for c, s in zip(geometry["widths"], geometry["sizes"], strict=True)
    ]
    corners = torch.randint(0, FRAME + 1, (count, 2, 2), generator=generator).sort(dim=1).values
    return stages, corners.reshape(count, 4).float()


def fast(stages, boxes):
    """mgtool's way."""
    return pool_boxes(stages, boxes[None], image_size=FRAME, bins=BINS)[0]


def plain(stages, boxes):
    """The published way."""
    size = stages[0].shape[-1]
    maps = [functional.interpolate(s, size=(size, size), mode="bilinear", align_corners=False) for s in stages]
    return torchvision.ops.roi_align(torch.cat(maps, 1), [boxes], BINS, spatial_scale=size / FRAME).mean((2, 3))


def status(field):
    """A field of /proc/self/status in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def measure(way, geometry, count, threads, repeats, results):
    """In its own process: seconds, and bytes above what the inputs take."""
    torch.set_num_threads(threads)
    stages, boxes = inputs(geometry, count)
    way(stages, boxes[:1])  # what a first call sets up is not the question
    Path("/proc/self/clear_refs").write_text("5")  # begin the peak anew
    before = status("VmRSS")
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        features = way(stages, boxes)
        times.append(time.perf_counter() - began)
    results.put((statistics.median(times), status("VmHWM") - before, features.numpy()))


def run(way, *args):
    """Measure in a fresh process."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=measure, args=(way, *args, results))
    process.start()
    outcome = results.get()
    process.join()
    return outcome


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the channels")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--boxes", type=int, default=30)
    options = parser.parse_args()
    geometry, name = (QUICK, "regions-quarter") if options.quick else (PUBLISHED, "regions-published")
    mgtool_s, mgtool_bytes, ours = run(fast, geometry, options.boxes, options.threads, 9)
    plain_s, plain_bytes, theirs = run(plain, geometry, options.boxes, options.threads, 2)
    difference = float(abs(ours - theirs).max())
    row = {
        "mgtool_s": mgtool_s,
        "plain_s": plain_s,
        "ratio": plain_s / mgtool_s,
        "equal": bool(difference <= 1e-5),
        "largest_difference": difference,
        "mgtool_peak_bytes": mgtool_bytes,
        "plain_peak_bytes": plain_bytes,
        "memory_ratio": plain_bytes / max(mgtool_bytes, 1),
        "boxes": options.boxes,
        "threads": options.threads,
    }
    if options.json:
        print(json.dumps({name: row}))
        return
    print(f"{name}: {options.boxes} boxes, {options.threads} threads")
    print(f"{'':10}{'seconds':>10}{'peak MB':>10}")
    print(f"{'plain':10}{plain_s:>10.3f}{plain_bytes / 1e6:>10.0f}")
    print(f"{'mgtool':10}{mgtool_s:>10.4f}{mgtool_bytes / 1e6:>10.0f}")
    print(f"{row['ratio']:.0f} times faster, 1/{row['memory_ratio']:.0f} of the memory, difference {difference:.1e}")


if __name__ == "__main__":
    main()
