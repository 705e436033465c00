"""`mgtool infer` against the plain loop and against `generate` in static batches, on one model of random weights.

    python tests/speed/infer.py [--quick] [--json] [--threads 2] [--dtype auto] [--only pope gqa] [--out FILE.json]

Three ways answer the same questions about the same pictures with the same weights and threads:

- plain: one question at a time and nothing shared, the towers' maps brought to one size and stacked, RoIAlign, mean;
- static: transformers' `generate` on batches padded on the left, each as long as its longest answer;
- mgtool: from encoded pictures and questions to token ids, planning included.

Answers have given lengths (no end token wins), so that every way makes the same tokens. Where a way would take hours it
answers a sample, ``plain_questions`` or ``static_questions``, and its time is scaled. ``*_cpu_s`` is processor time: on
a machine that does other work as well, look at ``cpu_ratio``.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import platform
import random
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import torch
import torchvision
from PIL import Image
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoTokenizer, StoppingCriteria

from mgtool.boxes.lookup import BoxSource
from mgtool.inference.engine import Engine
from mgtool.inference.grouping import Planner
from mgtool.inference.prompts import Prompter
from mgtool.inference.sampling import Greedy
from mgtool.media import images
from mgtool.model import ConvNextTowerConfig, MGLlavaConfig, MGLlavaForConditionalGeneration, MGLlavaProcessor
from mgtool.records import Detections, Media, Sample, Turn

TOKENIZER = Path(__file__).parent.parent / "conformance" / "mg_llava" / "llm"
LLM = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 2048,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": True,
}
SMALL_LLM = LLM | {"vocab_size": 1024, "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4}
SMALL_LLM |= {"num_attention_heads": 3, "num_key_value_heads": 1}
SMALL_CLIP = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 336,
    "patch_size": 14,
}
BOXES = 20
WORKLOADS = {  # pictures, questions a picture, shortest and longest answer, questions of the plain loop and of static
    "pope": (2, 18, (3, 3), 2, 0),
    "gqa": (2, 30, (4, 4), 2, 0),
    "caption": (8, 1, (100, 100), 1, 0),
    "mixed": (2, 8, (5, 500), 2, 16),
}
QUICK = {
    "pope": (2, 18, (3, 3), 4, 6),
    "gqa": (2, 30, (4, 4), 4, 6),
    "caption": (4, 1, (24, 24), 2, 4),
    "mixed": (2, 8, (5, 80), 2, 16),
}
STATIC_BATCH = 8
NOUNS = ("dog", "cat", "car", "tree", "person", "cup", "chair", "boat", "bird", "horse", "clock", "sofa", "train")


def build(quick):
    """A model whose parts all matter to its answers, and its processor."""
    torch.manual_seed(0)
    parts = {}
    if quick:
        parts["low_config"] = AutoConfig.for_model("clip_vision_model", **SMALL_CLIP)
        parts["high_config"] = ConvNextTowerConfig(architecture="convnext_atto")
    text = AutoConfig.for_model("llama", **(SMALL_LLM if quick else LLM))
    model = MGLlavaForConditionalGeneration(MGLlavaConfig(text_config=text, **parts)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(0.1)
            elif parameter.ndim > 1 and name.startswith(("language_model.model.layers", "fusion", "box_", "projector")):
                parameter.normal_(std=0.04)
        model.get_input_embeddings().weight[LLM["eos_token_id"]] = 0  # its logit is 0, which never is the largest
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    return model, MGLlavaProcessor(tokenizer, image_size=model.config.image_size)


def questions(workload, seed=0):
    """Samples with pictures and boxes, and how long each answer is."""
    pictures, each, (shortest, longest), *_ = workload
    chance = random.Random(seed)
    samples = []
    for number in range(pictures):
        media = picture(number)
        for _ in range(each):
            text = f"Is there a {chance.choice(NOUNS)} in the image?" if each > 1 else "Describe this picture."
            samples.append(Sample(id=len(samples), images=(media,), turns=(Turn("human", "<image>\n" + text),)))
    lengths = [round(shortest * (longest / shortest) ** chance.random()) for _ in samples]
    lengths[0] = longest
    return samples, lengths


def picture(number):
    """A JPEG file with its boxes."""
    noise = np.random.default_rng(number)
    pixels = noise.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG")
    corners = np.sort(noise.uniform(0, 1, (BOXES, 2, 2)), axis=1) * (640, 480)
    boxes = tuple(map(tuple, corners.reshape(BOXES, 4).tolist()))
    labels = tuple(f"thing {at}" for at in range(BOXES))
    found = Detections(boxes, tuple(np.linspace(1, 0.3, BOXES).tolist()), labels)
    return Media(name=f"{number}.jpg", data=file.getvalue(), detections=(found,))


def prepared(sample, processor):
    """A question as the model takes it, for the ways that do it one by one."""
    media = sample.images[0]
    turns = [(sample.turns[0].value, None)]
    return processor.tokenize(turns), processor.place(images.decode(media.data), media.detections[0])


@torch.inference_mode()
def plain(model, processor, samples, lengths):
    """One question at a time; the maps of the towers as the reference evaluation makes them."""
    answers = []
    for sample, length in zip(samples, lengths, strict=True):
        ids, placed = prepared(sample, processor)
        batch = processor.collate([ids], [placed])
        low = model.encode_low(batch["pixel_values"])
        features, stages = model.high_tower.stem(batch["pixel_values"].to(model.dtype)), []
        for stage in model.high_tower.stages:
            features = stage(features)
            stages.append(features)
        size = stages[0].shape[-1]
        maps = [functional.interpolate(each.float(), size=(size, size), mode="bilinear") for each in stages]
        scale = size / model.config.image_size
        regions = torchvision.ops.roi_align(torch.cat(maps, 1), [batch["boxes"]], model.config.box_bins, scale)
        tokens = model.box_projector(regions.mean((2, 3)).to(model.dtype))
        visuals = model.visual_tokens(model.project(model.fuse(low, stages)), tokens, batch["box_counts"])
        embeds = model.splice(batch["input_ids"], None, visuals).inputs_embeds
        answers.append(model.generate(inputs_embeds=embeds, do_sample=False, max_new_tokens=length)[0].tolist())
    return answers


class Ends(StoppingCriteria):
    """A row ends at its length, its prompt included."""

    def __init__(self, lengths):
        self.lengths = torch.tensor(lengths)

    def __call__(self, input_ids, scores, **kwargs):
        return self.lengths <= input_ids.shape[1]


@torch.inference_mode()
def static(model, processor, samples, lengths):
    """transformers' `generate`, batch after batch."""
    answers = []
    for begin in range(0, len(samples), STATIC_BATCH):
        wanted = lengths[begin : begin + STATIC_BATCH]
        chosen = samples[begin : begin + STATIC_BATCH]
        ids, placed = zip(*(prepared(sample, processor) for sample in chosen), strict=True)
        batch = processor.collate(ids, placed)
        begins = batch["input_ids"].shape[1]
        ends = [Ends([begins + length for length in wanted])]
        options = {"do_sample": False, "max_new_tokens": max(wanted), "stopping_criteria": ends}
        out = model.generate(**batch, **options, pad_token_id=0)[:, begins:].tolist()
        answers += [row[:length] for row, length in zip(out, wanted, strict=True)]
    return answers


class Lengths(Greedy):
    """The likeliest tokens, up to the length of each answer; remembers the first token's logits."""

    def __init__(self, lengths):
        super().__init__()
        self.lengths, self.counts, self.first = lengths, [0] * len(lengths), {}

    def choose(self, logits, states):
        for row, state in zip(logits, states, strict=True):
            if self.counts[state.number] == 0:
                self.first[state.number] = row.clone()
            self.counts[state.number] += 1
            state.done = self.counts[state.number] >= self.lengths[state.number]
        return super().choose(logits, states)


def ours(model, processor, samples, lengths, batch_size=None):
    """mgtool: answers in the order of the questions, and the sampler."""
    sampler = Lengths(lengths)
    engine = Engine(model, processor, max_new_tokens=max(lengths), batch_size=batch_size, sampler=sampler)
    planner = Planner(Prompter(), processor, BoxSource())
    outcomes = dict(engine.generate(planner.groups(enumerate(samples))))
    return [outcomes[number].ids for number in range(len(samples))], sampler


def measured(work):
    """A result, seconds, processor seconds, and the bytes that the memory's peak lay above its level before."""
    process = psutil.Process()
    Path("/proc/self/clear_refs").write_text("5")  # begin the peak anew
    before, cpu, began = process.memory_info().rss, time.process_time(), time.perf_counter()
    result = work()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return result, seconds, cpu, int(peak.split()[1]) * 1024 - before


def compare(workload, model, processor):
    """All three ways on one workload."""
    samples, lengths = questions(workload)
    (answers, sampler), seconds, cpu, peak = measured(lambda: ours(model, processor, samples, lengths))
    row = {"questions": len(samples), "new_tokens": sum(lengths)}
    row |= {"mgtool_s": seconds, "mgtool_cpu_s": cpu, "mgtool_peak_bytes": peak}
    row |= {"samples_per_s": len(samples) / seconds, "tokens_per_s": sum(lengths) / seconds, "equal": True}
    for name, way, count in (("plain", plain, workload[3]), ("static", static, workload[4])):
        if not count:
            continue
        # Evenly over the lengths of answers.
        by_length = sorted(range(len(samples)), key=lengths.__getitem__)
        chosen = sorted(by_length[(2 * at + 1) * len(samples) // (2 * count)] for at in range(count))
        told = [[entries[at] for at in chosen] for entries in (samples, lengths)]
        found, seconds, cpu, peak = measured(lambda way=way, told=told: way(model, processor, *told))
        scale = len(samples) / count
        row |= {f"{name}_s": seconds * scale, f"{name}_cpu_s": cpu * scale, f"{name}_peak_bytes": peak}
        row |= {f"{name}_questions": count, "equal": row["equal"] and found == [answers[at] for at in chosen]}
    row |= {"ratio": row["plain_s"] / row["mgtool_s"], "cpu_ratio": row["plain_cpu_s"] / row["mgtool_cpu_s"]}
    if "static_s" in row:
        row |= {"static_ratio": row["static_s"] / row["mgtool_s"]}
        row |= {"static_cpu_ratio": row["static_cpu_s"] / row["mgtool_cpu_s"]}
    row["load"] = round(os.getloadavg()[0], 1)
    row["roofline"] = least_seconds(workload, model, processor, samples, lengths) / row["mgtool_s"]
    return row, answers, sampler


def least_seconds(workload, model, processor, samples, lengths):
    """Seconds that the arithmetic and the reading of weights take at this machine's measured best."""
    flops_per_s, bytes_per_s = machine_best(model.dtype)
    layers = sum(p.numel() for p in model.language_model.model.layers.parameters())
    head = model.get_input_embeddings().weight.numel()
    shown = model.config.low_grid**2 + BOXES
    asked = sum(len(processor.tokenize([(sample.turns[0].value, None)])) for sample in samples)
    flops = workload[0] * (tower_flops(model) + 2 * layers * shown) + 2 * layers * (asked + sum(lengths))
    flops += 2 * head * sum(lengths)
    steps = (max(lengths) - 1) * model.dtype.itemsize * (layers + head)
    return flops / flops_per_s + steps / bytes_per_s


def tower_flops(model):
    """Of one picture, counted without computing."""
    with torch.device("meta"):
        towers = MGLlavaForConditionalGeneration(model.config)
        pixels = torch.empty(1, 3, model.config.image_size, model.config.image_size)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        towers.encode_low(pixels), towers.encode_high(pixels)
    return counter.get_total_flops()


@functools.cache
def machine_best(dtype):
    """The best FLOP/s of a matrix product and bytes/s of reading, over long enough to meet a quiet moment."""
    matrix, vector = torch.ones(2048, 2048, dtype=dtype), torch.ones(1 << 27)
    product = min(measured(lambda: matrix @ matrix)[1] for _ in range(100))
    reading = min(measured(vector.sum)[1] for _ in range(50))
    return 2 * 2048**3 / product, vector.nbytes / reading


def narrow(model, processor, workload, row, answers, sampler):
    """The same in bfloat16, against the plain loop in float32, with what it costs in equality."""
    samples, lengths = questions(workload)
    model.to(torch.bfloat16)
    (found, new), seconds, cpu, peak = measured(lambda: ours(model, processor, samples, lengths))
    few = samples[: len(samples) // workload[0]]
    alone, lone = ours(model, processor, few, lengths[: len(few)], batch_size=1)
    least = least_seconds(workload, model, processor, samples, lengths)
    model.to(torch.float32)
    return {
        "mgtool_s": seconds,
        "mgtool_cpu_s": cpu,
        "mgtool_peak_bytes": peak,
        "plain_s": row["plain_s"],
        "plain_cpu_s": row["plain_cpu_s"],
        "ratio": row["plain_s"] / seconds,
        "cpu_ratio": row["plain_cpu_s"] / cpu,
        "equal": found == answers,
        "equal_to_float32": share(found, answers),
        "logits_from_float32": apart(new.first, sampler.first),
        "equal_to_alone": share(found[: len(few)], alone),
        "logits_from_alone": apart(lone.first, new.first),
        "questions": len(samples),
        "new_tokens": sum(lengths),
        "samples_per_s": len(samples) / seconds,
        "tokens_per_s": sum(lengths) / seconds,
        "roofline": least / seconds,
    }


def share(some, others):
    """Of equal answers."""
    return sum(one == other for one, other in zip(some, others, strict=True)) / len(some)


def apart(some, others):
    """Largest difference of the first token's logits, over their largest."""
    return max(float((row - others[at]).abs().max() / others[at].abs().max()) for at, row in some.items())


def memory(counts):
    """Peak memory over ever more questions, of a stand-in model, 100 questions a picture."""
    rows = {}
    for count in counts:
        code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import infer; infer.ask({count})"
        pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", code])
        rows[count] = os.wait4(pid, 0)[2].ru_maxrss * 1024
    few, many = min(counts), max(counts)
    return {"questions": many, "few_questions": few, "peak_bytes": rows[many], "few_peak_bytes": rows[few]} | {
        "ratio": rows[many] / rows[few],
        "equal": True,
    }


def ask(count):
    """Ask a tiny model `count` questions that are made as they are read."""
    torch.set_num_threads(1)
    low = AutoConfig.for_model("clip_vision_model", **(SMALL_CLIP | {"image_size": 42, "num_hidden_layers": 1}))
    text = AutoConfig.for_model("llama", **(SMALL_LLM | {"num_hidden_layers": 1}))
    high = ConvNextTowerConfig(architecture="test_convnext", image_size=96)
    model = MGLlavaForConditionalGeneration(MGLlavaConfig(text_config=text, low_config=low, high_config=high)).eval()
    processor = MGLlavaProcessor(AutoTokenizer.from_pretrained(TOKENIZER), image_size=96)
    planner = Planner(Prompter(), processor, BoxSource())
    turns = [(Turn("human", f"<image>\nIs there a {noun} in the image?"),) for noun in NOUNS]
    media = [picture(number) for number in range(8)]
    samples = (Sample(id=at, images=(media[at // 100 % 8],), turns=turns[at % len(turns)]) for at in range(count))
    engine = Engine(model, processor, max_new_tokens=1)
    outcomes = engine.generate(planner.groups(enumerate(samples)))
    answered = sum(1 for position, _ in outcomes if planner.prompts.pop(position))
    if answered != count:
        raise SystemExit(f"{answered} of {count} questions were answered")


def run(options):
    """All workloads."""
    torch.set_num_threads(options.threads)
    workloads, results = QUICK if options.quick else WORKLOADS, {}
    chosen = [name for name in workloads if name in options.only]
    if "memory" in options.only:
        results["memory"] = memory((1_000, 5_000 if options.quick else 100_000))
        save(options, results)
    if not chosen:
        return results
    model, processor = build(options.quick)
    ours(model, processor, *questions((1, 2, (2, 2))))  # what a first call sets up is not the question
    for name in chosen:
        results[name], *answers = compare(workloads[name], model, processor)
        say(name, results[name])
        if name == "pope" and options.dtype == "auto" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
            results["pope-bfloat16"] = narrow(model, processor, workloads[name], results[name], *answers)
            say("pope-bfloat16", results["pope-bfloat16"])
        save(options, results)
    return results


def save(options, results):
    """Put what is measured so far into the file, beside what an earlier run with other workloads left there."""
    if options.out:
        kept = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
        kept |= {"machine": about(options)} | results
        options.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def about(options):
    """The machine, and how busy it is."""
    named = {"processor": processor_name(), "threads": options.threads, "torch": torch.__version__}
    return named | {"load": round(os.getloadavg()[0], 1)}


def say(name, row):
    """Progress, for a person who waits."""
    print(f"{name}: {row['mgtool_s']:.1f} s, ratio {row['ratio']:.1f} ({row['cpu_ratio']:.1f})", file=sys.stderr)


def table(results):
    """For a person."""
    head = (
        "workload",
        "questions",
        "plain s",
        "static s",
        "mgtool s",
        "ratio",
        "by CPU",
        "tokens/s",
        "roofline",
        "equal",
    )
    yield "| " + " | ".join(head) + " |\n|" + "---|" * len(head)
    for name, row in results.items():
        if name == "memory":
            few, many = row["few_peak_bytes"] / 1e6, row["peak_bytes"] / 1e6
            yield f"\nmemory: {few:.0f} MB at {row['few_questions']:,} questions, {many:.0f} MB at {row['questions']:,}"
            continue
        static_s = "-"
        if "static_s" in row:
            static_s = f"{row['static_s']:.1f} ({row['static_ratio']:.1f}x, by CPU {row['static_cpu_ratio']:.1f}x)"
        cells = [name, row["questions"], f"{row['plain_s']:.1f}", static_s, f"{row['mgtool_s']:.1f}"]
        cells += [f"{row['ratio']:.1f}", f"{row['cpu_ratio']:.1f}", f"{row['tokens_per_s']:.1f}"]
        yield "| " + " | ".join(map(str, [*cells, f"{row['roofline']:.0%}", row["equal"]])) + " |"


def processor_name():
    """The machine's processor."""
    found = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return found[0].partition(":")[2].strip() if found else platform.processor()


def main():
    """Print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small towers and language model")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=["float32", "auto"], default="auto", help="auto: bfloat16 as well")
    parser.add_argument("--only", nargs="+", choices=[*WORKLOADS, "memory"], default=[*WORKLOADS, "memory"])
    parser.add_argument("--out", type=Path, help="put the numbers into this JSON file, too")
    options = parser.parse_args()
    results = run(options)
    machine_line = ", ".join(f"{key} {value}" for key, value in about(options).items())
    print(json.dumps(results) if options.json else "\n".join([machine_line, *table(results)]))
    sys.exit(not all(row["equal"] for name, row in results.items() if "bfloat16" not in name))


if __name__ == "__main__":
    main()
