"""Pictures prepared for the model: in threads of `mgtool infer`'s own process, and in worker processes.

    python tests/speed/pictures.py [--quick] [--json] [--out FILE.json]

A picture is decoded, padded, resized to the high tower's 768 pixels and normalised, with 20 boxes. What counts where a
GPU waits is the time that the process which feeds it is busy, ``own_ms`` a picture; ``ratio`` is that of threads over
that of workers. ``pictures_per_s`` ends at the machine's cores, which are named beside it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoTokenizer

from mgtool.inference.picture_loader import MediaInput, PictureLoader
from mgtool.model import MGLlavaProcessor
from mgtool.records import Detections

TOKENIZER = Path(__file__).parent.parent / "conformance" / "mg_llava" / "llm"
WORKERS = (0, 1, 2)
FULL, QUICK = 200, 24


def files(count):
    """JPEG files of 640 x 480 with 20 boxes."""
    noise = np.random.default_rng(0)
    for number in range(count):
        file = io.BytesIO()
        pixels = Image.fromarray(noise.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        pixels.resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG")
        corners = np.sort(noise.uniform(0, 1, (20, 2, 2)), axis=1) * (640, 480)
        boxes = tuple(map(tuple, corners.reshape(20, 4).tolist()))
        found = Detections(boxes, (0.5,) * 20, tuple(map(str, range(20))))
        yield MediaInput(str(number), file.getvalue(), (found,))


def prepared(loader, given):
    """Every file's pixels, summed, as many ahead as `mgtool infer` keeps."""
    waiting, sums = deque(), []
    for media in given:
        waiting.append(loader.submit(media))
        if len(waiting) > loader.ahead:
            sums.append(waiting.popleft().result()[0].pixels.sum().item())
    return sums + [future.result()[0].pixels.sum().item() for future in waiting]


def measure(processor, given, workers):
    """Pictures a second, the own process's milliseconds a picture, and what came out."""
    with PictureLoader(processor, workers) as loader:
        prepared(loader, given[: 2 * loader.ahead])  # processes start
        cpu, began = time.process_time(), time.perf_counter()
        sums = prepared(loader, given)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"pictures_per_s": len(given) / seconds, "own_ms": 1000 * cpu / len(given), "mgtool_s": seconds}, sums


def run(options):
    """All numbers of workers."""
    torch.set_num_threads(1)
    processor = MGLlavaProcessor(AutoTokenizer.from_pretrained(TOKENIZER))
    given = list(files(QUICK if options.quick else FULL))
    results, expected = {}, None
    for workers in WORKERS:
        row, sums = measure(processor, given, workers)
        expected = expected or sums
        threads = results.get("workers-0", row)
        ratio = {"plain_s": threads["mgtool_s"], "ratio": threads["own_ms"] / row["own_ms"]}
        results[f"workers-{workers}"] = row | ratio | {"equal": sums == expected}
    return results


def main():
    """Print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer pictures")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="put the numbers into this JSON file, too")
    options = parser.parse_args()
    results = run(options)
    machine = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    if options.out:
        options.out.write_text(json.dumps({"machine": machine} | results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results) if options.json else "\n".join(table(machine, results)))
    sys.exit(not all(row["equal"] for row in results.values()))


def table(machine, results):
    """For a person."""
    yield f"{machine['cores']} cores, load {machine['load']}"
    yield "| workers | pictures/s | ms of the own process | ratio | equal |\n|---|---|---|---|---|"
    for name, row in results.items():
        cells = [f"{row['pictures_per_s']:.1f}", f"{row['own_ms']:.1f}", f"{row['ratio']:.1f}", row["equal"]]
        yield "| " + " | ".join(map(str, [name, *cells])) + " |"


if __name__ == "__main__":
    main()
