"""This project's engine against vLLM's, on the same embeddings and weights, one language model of 110M in float32.

    python tests/speed/vllm_cpu.py [--quick] [--json] [--pairs 5] [--threads 2] [--only pope captions] [--out FILE.json]

Each runs in a process of its own, as a user has it: within one, their threads disturb each other. What the towers see
is computed before. vLLM chooses its own tokens here, and its cache of prefixes is emptied before every run. Runs take
turns, ``ratio`` is the median of the pairs' ratios: above 1, this project is faster. Runs where vLLM is installed:
``make vllm-test`` makes such an environment.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from infer import LLM, SMALL_CLIP, SMALL_LLM, Lengths, questions
from transformers import AutoConfig, AutoTokenizer

import mgtool
from mgtool.boxes.lookup import BoxSource
from mgtool.inference.engine import Engine
from mgtool.inference.grouping import Planner
from mgtool.inference.loading import load_model, load_processor
from mgtool.inference.native_model import NativeModel
from mgtool.inference.plan import InferencePlan
from mgtool.inference.prompts import Prompter
from mgtool.model import ConvNextTowerConfig, MGLlavaConfig, MGLlavaForConditionalGeneration, MGLlavaProcessor

TEXT = LLM | {"vocab_size": 32000, "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12}
TEXT |= {"num_attention_heads": 12, "num_key_value_heads": 12}
CONTEXT = multiprocessing.get_context("spawn")
TOKENIZER = Path(__file__).parent.parent / "conformance" / "mg_llava" / "llm"
WORKLOADS = {"pope": (6, 18, (3, 3)), "captions": (32, 1, (60, 60))}
QUICK = {"pope": (2, 6, (3, 3)), "captions": (3, 1, (8, 8))}


def build(folder, quick):
    """A model folder: small towers, and the language model that is measured."""
    torch.manual_seed(0)
    text = AutoConfig.for_model("llama", **(SMALL_LLM | {"num_key_value_heads": 3} if quick else TEXT))
    low = AutoConfig.for_model("clip_vision_model", **SMALL_CLIP)
    config = MGLlavaConfig(
        text_config=text, low_config=low, high_config=ConvNextTowerConfig(architecture="convnext_atto")
    )
    model = MGLlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and name.startswith(("language_model.model.layers", "fusion", "box_", "projector")):
                parameter.normal_(std=0.04)
    model.save_pretrained(folder)
    MGLlavaProcessor(AutoTokenizer.from_pretrained(TOKENIZER), image_size=config.image_size).save_pretrained(folder)


class Seen(NativeModel):
    """A model whose pictures were seen before."""

    def __init__(self, model, processor, known):
        super().__init__(model, processor)
        self.known = known

    def see(self, group):
        return self.known[group.key]

    def see_all(self, groups):
        return [self.known[group.key] for group in groups]


def by_native(model, processor, groups, lengths):
    """Answers groups by this project's engine; gives token ids by number."""
    known = {group.key: NativeModel(model, processor).see(group) for group in groups}
    engine = Engine(Seen(model, processor, known), processor, max_new_tokens=max(lengths))
    engine._ends = set()

    def answer():
        engine.sampler = Lengths(lengths)
        return {number: outcome.ids for number, outcome in engine.generate(iter(groups))}

    return answer


def by_vllm(model, processor, groups, lengths):
    """Answers groups by vLLM alone, all requests at once; gives token ids by number."""
    from vllm import SamplingParams

    engine, fixed = model.started.engine, {"temperature": 0, "ignore_eos": True, "detokenize": False}
    model.started.choose = lambda logits, numbers: logits
    known = {group.key: model.see(group) for group in groups}

    def answer():
        engine.reset_prefix_cache()
        found = {}
        for group in groups:
            for number, ids in zip(group.numbers, group.prompts, strict=True):
                params = SamplingParams(**fixed, max_tokens=lengths[number], extra_args={"mgtool_number": 0})
                engine.add_request(str(number), model.prompt(ids, group, known[group.key]), params)
        while engine.has_unfinished_requests():
            for output in engine.step():
                if output.finished:
                    found[int(output.request_id)] = list(output.outputs[0].token_ids)
        return found

    return answer


WAYS = {"native": by_native, "vllm": by_vllm}


@torch.inference_mode()
def serve(way, folder, threads, asked):
    """One way in a process of its own: for each workload that is asked for, its answers, seconds, and processor's."""
    torch.set_num_threads(threads)
    plan = InferencePlan.of(["-"], mgtool.InferOptions(model=Path(folder), device="cpu", dtype="float32", backend=way))
    model, processor, ready = load_model(plan), load_processor(plan), {}
    torch.set_num_threads(threads)
    while (workload := asked.recv()) is not None:
        if workload not in ready:
            samples, lengths = questions((*workload, 0, 0))
            planned = Planner(Prompter(), processor, BoxSource()).groups(enumerate(samples))
            ready[workload] = WAYS[way](model, processor, [group for group in planned if group is not None], lengths)
        began, cpu = time.perf_counter(), time.process_time()
        answers = ready[workload]()
        asked.send((answers, time.perf_counter() - began, time.process_time() - cpu))


def started(way, folder, threads):
    """The pipe to a process that serves one way."""
    here, there = CONTEXT.Pipe()
    CONTEXT.Process(target=serve, args=(way, folder, threads, there), daemon=True).start()
    there.close()
    return here


def compare(workload, ways, pairs):
    """Both ways in turn."""
    rows, equal = [], True
    for pair in range(pairs + 1):  # the first warms both up
        found = []
        for way in ways:
            way.send(workload)
            found.append(way.recv())
        (answers, seconds, cpu), (others, its_seconds, its_cpu) = found
        equal = equal and answers == others
        rows += [(seconds, its_seconds, cpu, its_cpu)] if pair else []
    mine, their, cpu, its_cpu = (statistics.median(column) for column in zip(*rows, strict=True))
    ratios = [other / own for own, other, *_ in rows]
    return {
        "questions": len(answers),
        "new_tokens": sum(map(len, answers.values())),
        "mgtool_s": mine,
        "vllm_s": their,
        "ratio": statistics.median(ratios),
        "ratios": [round(one, 2) for one in ratios],
        "cpu_ratio": its_cpu / cpu,
        "equal": equal,
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if importlib.util.find_spec("vllm") is None:
        print("{}" if args.json else "vLLM is not installed: make vllm-test makes an environment that has it")
        return
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "3")
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        build(folder, args.quick)
        ways = [started(way, folder, args.threads) for way in WAYS]
        for name in args.only:
            workload, pairs = (QUICK if args.quick else WORKLOADS)[name], args.pairs or (1 if args.quick else 5)
            rows[name] = compare(workload, ways, pairs)
            if not args.json:
                print(name, json.dumps(rows[name]), flush=True)
            if args.out is not None:
                args.out.write_text(json.dumps(rows, indent=1) + "\n")
        for way in ways:
            way.send(None)
    if args.json:
        print(json.dumps(rows))
    sys.exit(not all(row["equal"] for row in rows.values()))


if __name__ == "__main__":
    main()
