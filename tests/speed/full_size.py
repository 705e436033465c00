"""The published size on a CPU: random weights of 4.4 billion parameters, imported, and asked about 3 pictures.

    python tests/speed/full_size.py [--quick] [--json] [--layers 32] [--threads 2] [--folder DIR] [--out FILE.json]

CLIP-L/336, ConvNeXt-L and Phi-3-mini (3.8 billion) in bfloat16. Each stage is a process of its own, whose peak memory
is told. ``products_share`` is the processor time of matrix products and convolutions among all of it, ``of_product``
the arithmetic a second of towers and prefill against that of one large matrix product in the same process;
``picture_s`` is what a picture with its questions takes of towers, prefill and decoding.

Needs 26 GB of disk and 11 GB of memory. Of what was weighed for a CPU: attention to all prefixes at once took as
long as in turn (8 rows behind 620 tokens, a language model of 135 million: 0.167 and 0.170 s a step).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from infer import SMALL_CLIP, Lengths, about, questions, tower_flops
from model_gpu import SIZES
from safetensors.torch import save_file
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoTokenizer

from mgtool.boxes.lookup import BoxSource
from mgtool.importing.options import ImportOptions
from mgtool.inference.engine import Engine
from mgtool.inference.grouping import Planner
from mgtool.inference.loading import load_model, load_processor
from mgtool.inference.options import InferOptions
from mgtool.inference.plan import InferencePlan
from mgtool.inference.prompts import Prompter
from mgtool.model import ConvNextTowerConfig, MGLlavaConfig, MGLlavaForConditionalGeneration
from mgtool.model.config import CLIP_LARGE_336
from mgtool.stages.import_model import import_model

TOKENIZER = Path(__file__).parent.parent / "conformance" / "mg_llava" / "llm"
WORKLOAD, FEW = (3, 6, (3, 3)), (2, 2, (2, 2))
SMALL = {"vocab_size": 1024, "hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 2}
SMALL |= {"num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
PARTS = {"language_model": "llm", "projector": "projector.model", "box_projector": "bbox_projector.model"}
PARTS |= {"fusion": "fuse_module"}
BLOCK = 1 << 22
"""Random numbers, which the weights repeat: drawing four billion would take minutes."""
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "scaled_dot_product", "linear")
MEMORY_SHARE, MEMORY_MORE = 1.15, 2e9
"""Peak memory of asking may be so many times the weights, and so much more."""
LEAST_OF_PRODUCT, MOST_OUTSIDE = 0.25, 0.4
"""Of the arithmetic a second of one product, and of the time that goes to anything but products."""


def configuration(options):
    """Of the published model, or of one as deep as asked."""
    sizes = (
        SIZES["phi3-3.8b"] | {"num_hidden_layers": options.layers, "pad_token_id": 0} | (SMALL if options.quick else {})
    )
    return MGLlavaConfig(
        text_config=AutoConfig.for_model(**sizes),
        low_config=AutoConfig.for_model("clip_vision_model", **(SMALL_CLIP if options.quick else CLIP_LARGE_336)),
        high_config=ConvNextTowerConfig(architecture="convnext_atto" if options.quick else "convnext_large"),
    )


def weight(name, shape, block):
    """Random numbers where a weight is a matrix; what initialising gives elsewhere."""
    if len(shape) < 2:
        ones = name.endswith(("weight", "gamma"))
        return torch.full(shape, 0.1 if name.endswith("gamma") else float(ones), dtype=torch.bfloat16)
    count = shape.numel()
    return block.repeat(-(-count // BLOCK))[:count].view(shape)


def write_parts(folder, options):
    """The four published parts; gives the bytes of their weights."""
    config = configuration(options)
    with torch.device("meta"):
        model = MGLlavaForConditionalGeneration(config)
    block = (torch.randn(BLOCK, generator=torch.Generator().manual_seed(0)) * 0.02).bfloat16()
    low, high, rest = {}, {}, {}
    for key, value in model.state_dict().items():
        part, _, name = key.partition(".")
        target = {"low_tower": low, "high_tower": high}.get(part, rest)
        name = name.removeprefix("encoder.") if part == "low_tower" else name
        name = {"low_tower": "", "high_tower": "visual.trunk."}.get(part, f"{PARTS.get(part, part)}.") + name
        target[name] = weight(key, value.shape, block)
    for name in ("clip", "convnext", "llm"):
        (folder / name).mkdir()
    save_file(low, folder / "clip" / "model.safetensors")
    config.low_config.save_pretrained(folder / "clip")
    torch.save(high, folder / "convnext" / "open_clip_pytorch_model.bin")
    tower = {"timm_model_name": config.high_config.architecture, "image_size": 320}
    about_tower = {"model_cfg": {"embed_dim": 768, "vision_cfg": tower}}
    (folder / "convnext" / "open_clip_config.json").write_text(json.dumps(about_tower))
    config.text_config.save_pretrained(folder / "llm")
    AutoTokenizer.from_pretrained(TOKENIZER).save_pretrained(folder / "llm")
    torch.save(rest, folder / "mg_llava.pth")
    return sum(one.nbytes for part in (low, high, rest) for one in part.values())


def peak_bytes():
    """Of this process, so far."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024


def imported(folder, options):
    """What an import takes."""
    parts = {name: folder / name for name in ("clip", "convnext", "llm")}
    began = time.perf_counter()
    import_model(ImportOptions(checkpoint=folder / "mg_llava.pth", **parts), folder / "model")
    return {"import_s": time.perf_counter() - began, "import_peak_bytes": peak_bytes()}


def asked(folder, options):
    """What answering takes, and where its time goes."""
    torch.set_num_threads(options.threads)
    began = time.perf_counter()
    plan = InferencePlan.of([], InferOptions(model=folder / "model", dtype="bfloat16", device="cpu"))
    model, processor = load_model(plan), load_processor(plan)
    loaded = time.perf_counter() - began
    samples, lengths = questions(FEW if options.quick else WORKLOAD)
    engine = Engine(model, processor, max_new_tokens=max(lengths), sampler=Lengths(lengths))
    planner = Planner(Prompter(), processor, BoxSource())
    began = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        outcomes = dict(engine.generate(planner.groups(enumerate(samples))))
    seconds, peak = time.perf_counter() - began, peak_bytes()
    stages, times = engine.times.summary()["seconds"], profiled.key_averages()
    row = {"load_s": loaded, "ask_s": seconds, "ask_peak_bytes": peak, "stages_s": stages}
    row["picture_s"] = sum(stages[name] for name in ("towers", "prefill", "decode")) / engine.times.pictures
    row |= {"answers": len(outcomes), "tokens": sum(len(one.ids) for one in outcomes.values())}
    return row | rates(model, engine, stages, times)


def rates(model, engine, stages, times):
    """Arithmetic a second, and the share of time that matrix products take."""
    own = {one.key: one.self_cpu_time_total for one in times if not one.key.startswith("mgtool")}
    products = sum(value for name, value in own.items() if any(part in name for part in PRODUCTS))
    weights = sum(one.numel() for one in model.language_model.model.layers.parameters())
    flops = engine.times.pictures * tower_flops(model) + 2 * weights * engine.times.prefilled
    rate, best = flops / (stages["towers"] + stages["prefill"]), product_rate(model)
    found = sorted(own.items(), key=lambda one: -one[1])[:12]
    return {
        "products_share": products / sum(own.values()),
        "flops_per_s": rate,
        "product_flops_per_s": best,
        "of_product": rate / best,
        "most_of_the_time": {name: value / sum(own.values()) for name, value in found},
    }


def product_rate(model):
    """Arithmetic a second of one product of the language model's."""
    layer = model.language_model.model.layers[0].mlp.gate_up_proj.weight
    tokens, best = torch.randn(700, layer.shape[1], dtype=layer.dtype), float("inf")
    for _ in range(8):
        began = time.perf_counter()
        with torch.inference_mode():
            tokens @ layer.T
        best = min(best, time.perf_counter() - began)
    return 2 * 700 * layer.numel() / best


def stage(name, folder, options):
    """Run a stage in a process of its own; gives what it measured."""
    more = ["--layers", str(options.layers), "--threads", str(options.threads), *(["--quick"] * options.quick)]
    command = [sys.executable, __file__, "--stage", name, "--folder", str(folder), *more]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    row = json.loads(found.stdout.splitlines()[-1])
    print(f"{name}: {row}", file=sys.stderr)
    return row


def run(options):
    """All stages; gives one row."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        row = {name: value for step in STAGES for name, value in stage(step, Path(folder), options).items()}
    allowed = MEMORY_SHARE * row["weight_bytes"] + MEMORY_MORE
    is_fast = row["of_product"] >= LEAST_OF_PRODUCT and 1 - row["products_share"] <= MOST_OUTSIDE
    row |= {"fits": row["ask_peak_bytes"] <= allowed, "is_fast": is_fast}
    return row | {"layers": options.layers, "machine": about(options)}


STAGES = {
    "write": lambda folder, options: {"weight_bytes": write_parts(folder, options)},
    "import": imported,
    "ask": asked,
}


def main():
    """Print what was measured, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small model")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--layers", type=int, default=32, help="of the language model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder otherwise")
    parser.add_argument("--out", type=Path, help="put the numbers into this JSON file, too")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.layers = min(options.layers, 2) if options.quick else options.layers
    if options.stage:
        print(json.dumps(STAGES[options.stage](options.folder, options)))
        return
    row = run(options)
    if options.out:
        options.out.write_text(json.dumps({"full-size": row}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({"full-size": row}) if options.json else "\n".join(f"{name}: {row[name]}" for name in row))


if __name__ == "__main__":
    main()
