"""Questions and captions through the engine on one GPU: tokens a second, and what share of the card each stage takes.

    python tests/speed/gpu_infer.py [--quick] [--json] [--device cuda] [--size phi3-3.8b]

Weights are random and of the published sizes, in bfloat16; answers have given lengths. `equal` compares the first
answers with those of `batch_size` 1, where nothing is shared; in bfloat16 a few may differ.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from infer import Lengths, questions
from infer import build as build_quick
from model_gpu import SIZES
from model_gpu import build as build_published
from transformers import AutoTokenizer

from mgtool.boxes.lookup import BoxSource
from mgtool.inference.engine import Engine
from mgtool.inference.grouping import Planner
from mgtool.inference.peaks import Work, peak_of, shares_of_peak
from mgtool.inference.prompts import Prompter
from mgtool.model import MGLlavaProcessor

WORKLOADS = {"captions": (64, 1, (100, 100)), "pope": (32, 18, (3, 3)), "one picture": (1, 18, (3, 3))}
QUICK = {"captions": (2, 1, (4, 4)), "pope": (1, 3, (3, 3))}
ALONE = 2


def model_of(options):
    """The model on its device, and its processor."""
    if options.quick:
        model, processor = build_quick(quick=True)
        return model.to(options.device), processor
    from infer import TOKENIZER

    model = build_published(options.size, options.device, quick=False)
    return model, MGLlavaProcessor(AutoTokenizer.from_pretrained(TOKENIZER), image_size=model.config.image_size)


def answered(model, processor, samples, lengths, batch_size=None):
    """Token ids by number, seconds, and the engine, whose times tell the stages."""
    engine = Engine(model, processor, max_new_tokens=max(lengths), batch_size=batch_size, sampler=Lengths(lengths))
    planner = Planner(Prompter(), processor, BoxSource(), pinned=model.device.type == "cuda")
    planner.times = engine.times
    began = time.perf_counter()
    outcomes = dict(engine.generate(engine.times.drawing(planner.groups(enumerate(samples)))))
    return [outcomes[number].ids for number in range(len(samples))], time.perf_counter() - began, engine


def measure(workload, model, processor):
    """One workload."""
    samples, lengths = questions((*workload, 0, 0))
    if model.device.type == "cuda":  # the first time compiles and captures
        answered(model, processor, samples, lengths)
    found, seconds, engine = answered(model, processor, samples, lengths)
    alone, _, _ = answered(model, processor, samples[:ALONE], lengths[:ALONE], batch_size=1)
    row = {"questions": len(samples), "new_tokens": sum(lengths), "seconds": seconds}
    row |= {"tokens_per_s": sum(lengths) / seconds, "pictures_per_s": workload[0] / seconds}
    row |= {"stages": engine.times.summary(), "equal": sum(map(list.__eq__, found, alone)) / ALONE}
    if model.device.type == "cuda":
        peak = peak_of(torch.cuda.get_device_name())
        row["peak_bytes"] = torch.cuda.max_memory_allocated()
        if peak is not None:
            row["share_of_peak"] = shares_of_peak(engine.times, Work.of(model.config, model.dtype), peak, model.dtype)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small parts")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the script")
    parser.add_argument("--size", choices=SIZES, default="phi3-3.8b")
    options = parser.parse_args()
    if options.device != "cpu" and not torch.cuda.is_available():
        print("{}" if options.json else "no GPU here: nothing measured")
        return
    model, processor = model_of(options)
    rows = {name: measure(work, model, processor) for name, work in (QUICK if options.quick else WORKLOADS).items()}
    print(json.dumps(rows, indent=None if options.json else 1))


if __name__ == "__main__":
    main()
