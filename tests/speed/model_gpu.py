"""The published sizes with random weights on one GPU: where the time of an answer goes.

    python tests/speed/model_gpu.py [--quick] [--json] [--out results/CARD.md] [--device cuda]

Prefill is measured against the card's peak bfloat16 FLOP/s, decoding against its memory bandwidth. Without a GPU it
says so and ends with 0.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from transformers import AutoConfig, DynamicCache

from mgtool.model import ConvNextTowerConfig, MGLlavaConfig, MGLlavaForConditionalGeneration

LLAMA = {"model_type": "llama", "vocab_size": 32000, "max_position_embeddings": 4096}
SIZES = {
    "phi3-3.8b": {
        "model_type": "phi3",
        "vocab_size": 32064,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 4096,
    },
    "vicuna-7b": LLAMA
    | {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
    "vicuna-13b": LLAMA
    | {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40},
}
TINY = LLAMA | {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
BATCHES = (1, 2, 4, 8, 16, 32, 64)
PEAKS = {  # dense bfloat16 FLOP/s and bytes/s of the makers' data sheets
    "H200": (989e12, 4.8e12),
    "H100 PCIe": (756e12, 2.0e12),
    "H100": (989e12, 3.35e12),
    "A100-SXM4-40GB": (312e12, 1.555e12),
    "A100": (312e12, 2.039e12),
    "L40S": (362e12, 0.864e12),
    "L4": (121e12, 0.3e12),
    "4090": (165e12, 1.008e12),
}
TEXT_TOKENS, BOXES, NEW_TOKENS = 48, 30, 16


def peaks(name):
    """FLOP/s and bytes/s of a card; None where it is not known."""
    return next((peak for key, peak in PEAKS.items() if key in name), (None, None))


def build(size, device, quick):
    """A model of random weights in bfloat16."""
    text = AutoConfig.for_model(**(TINY if quick else SIZES[size]))
    options = {"high_config": ConvNextTowerConfig(architecture="test_convnext")} if quick else {}
    if quick:
        options["low_config"] = AutoConfig.for_model(
            "clip_vision_model",
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=336,
            patch_size=14,
        )
    config = MGLlavaConfig(text_config=text, **options)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = MGLlavaForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    return model.eval()


def timed(device, repeats, work):
    """Median milliseconds of `work`, the device waited for; and its last result."""
    times, result = [], None
    for number in range(repeats + 1):
        result = None  # two results (caches, say) at a time would count twice in the peak
        synchronize(device)
        began = time.perf_counter()
        result = work()
        synchronize(device)
        if number:
            times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times), result


def synchronize(device):
    if device != "cpu":
        torch.cuda.synchronize()


def read_weights(model):
    """The language model's weights that every step reads whole: all but the table of embeddings."""
    table = model.get_input_embeddings().weight
    return [p for p in model.language_model.parameters() if p is not table]


def llm_flops(model, tokens, length):
    """Of a prefill: two for each weight and token, and attention's."""
    config = model.config.text_config
    weights = sum(p.numel() for p in read_weights(model))
    return 2 * weights * tokens + 2 * config.num_hidden_layers * config.hidden_size * tokens * length


@torch.no_grad()
def measure(model, batch, device, repeats):
    """One batch size."""
    side = model.config.image_size
    pixels = torch.randn(batch, 3, side, side, device=device)
    corners = torch.randint(0, side + 1, (batch * BOXES, 2, 2), device=device).sort(dim=1).values
    boxes, counts = corners.reshape(-1, 4).float(), [BOXES] * batch
    encode_ms, (low, stages) = timed(device, repeats, lambda: (model.encode_low(pixels), model.encode_high(pixels)))

    def fuse():
        return model.project(model.fuse(low, stages)), model.pool_regions(stages, boxes, counts)

    fuse_ms, (vision, regions) = timed(device, repeats, fuse)
    ids = torch.randint(3, 100, (batch, TEXT_TOKENS), device=device)
    ids[:, 4] = -200
    embeds = model.splice(ids, None, model.visual_tokens(vision, regions, counts)).inputs_embeds
    length = embeds.shape[1]

    def prefill():
        cache = DynamicCache(config=model.config.text_config)
        return model(inputs_embeds=embeds, past_key_values=cache, use_cache=True, logits_to_keep=1)

    prefill_ms, output = timed(device, repeats, prefill)
    decode_ms = decode(model, output, device)
    weights = sum(p.nbytes for p in read_weights(model))
    cache = sum(layer.keys.nbytes + layer.values.nbytes for layer in output.past_key_values.layers)
    return {
        "batch": batch,
        "tokens": length,
        "encode_ms": encode_ms,
        "fusion_regions_ms": fuse_ms,
        "prefill_ms": prefill_ms,
        "prefill_flops_per_s": llm_flops(model, batch * length, length) / prefill_ms * 1000,
        "decode_ms": decode_ms,
        "decode_bytes_per_s": (weights + cache) / decode_ms * 1000,
        "peak_bytes": torch.cuda.max_memory_allocated() if device != "cpu" else 0,
    }


def decode(model, output, device):
    """Milliseconds a token, greedy, with the cache of a prefill."""
    cache, token = output.past_key_values, output.logits[:, -1:].argmax(-1)
    token = model(input_ids=token, past_key_values=cache, use_cache=True).logits[:, -1:].argmax(-1)
    synchronize(device)
    began = time.perf_counter()
    for _ in range(NEW_TOKENS):
        token = model(input_ids=token, past_key_values=cache, use_cache=True).logits[:, -1:].argmax(-1)
    synchronize(device)
    return 1000 * (time.perf_counter() - began) / NEW_TOKENS


def rows_of(size, options):
    """All batch sizes that fit."""
    model = build(size, options.device, options.quick)
    for batch in BATCHES[:2] if options.quick else BATCHES:
        if options.device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        try:
            yield measure(model, batch, options.device, repeats=1 if options.quick else 5)
        except torch.OutOfMemoryError:
            yield {"batch": batch, "out_of_memory": True}
            return


def shown(row, flops, bandwidth):
    """A line of the table."""
    if row.get("out_of_memory"):
        return f"| {row['batch']} | out of memory | | | | | | |"
    mfu = f"{row['prefill_flops_per_s'] / flops:.0%}" if flops else "?"
    share = f"{row['decode_bytes_per_s'] / bandwidth:.0%}" if bandwidth else "?"
    return (
        f"| {row['batch']} | {row['encode_ms']:.1f} | {row['fusion_regions_ms']:.1f} | {row['prefill_ms']:.1f} | {mfu} "
        f"| {row['decode_ms']:.2f} | {share} | {row['peak_bytes'] / 1e9:.1f} |"
    )


HEADER = (
    "| batch | encode ms | fusion + regions ms | prefill ms | of peak FLOP/s | decode ms/token | of peak bandwidth "
    "| peak GB |\n|---|---|---|---|---|---|---|---|"
)


def report(options, card):
    """Measure every size; gives the markdown and the numbers."""
    flops, bandwidth = peaks(card)
    results, lines = {}, [f"# {card}, torch {torch.__version__}, bfloat16, {BOXES} boxes, {TEXT_TOKENS} text tokens"]
    for size in ["tiny"] if options.quick else options.sizes:
        lines += ["", f"## {size}", "", HEADER]
        results[size] = []
        for row in rows_of(size, options):
            results[size].append(row)
            lines.append(shown(row, flops, bandwidth))
            print(lines[-1], file=sys.stderr)
        gc.collect()
        if options.device != "cpu":
            torch.cuda.empty_cache()
    return "\n".join(lines) + "\n", {"card": card, **results}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny model")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help="write the table here, too")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the script")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    options = parser.parse_args()
    if options.device != "cpu" and not torch.cuda.is_available():
        print("no GPU here: nothing measured")
        return
    card = "CPU" if options.device == "cpu" else torch.cuda.get_device_name()
    text, numbers = report(options, card)
    print(json.dumps(numbers) if options.json else text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
