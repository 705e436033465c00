"""How far bfloat16 and float16 are from float32 on the conformance kit; writes a markdown table.

    python tests/speed/parity.py [--quick] [--json] [--write FILE.md]

With --write, the table replaces what stands between `<!-- parity -->` and `<!-- /parity -->` in the file.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from transformers.utils import logging

from mgtool.importing.options import ImportOptions
from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor
from mgtool.records import Detections
from mgtool.stages.import_model import import_model

TESTS = Path(__file__).parent.parent
KIT = TESTS / "conformance" / "mg_llava"
CASES = json.loads((KIT / "cases.json").read_text())
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(folder, device, dtype):
    """The kit's model."""
    return MGLlavaForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval().to(device)


def batch_of(case, processor):
    """A case as the model takes it."""
    box = case["box"]
    found = Detections(tuple(map(tuple, box["boxes"])), tuple(box["scores"]), tuple(box["labels"]))
    own = MGLlavaProcessor(processor.tokenizer, template=case["template"])
    picture = Image.open(TESTS / "images" / case["image"]).convert("RGB")
    ids = own.tokenize([(f"<image>\n{case['question']}", None)])
    return own, own.collate([ids], [own.place(picture, found)])


@torch.no_grad()
def outputs(model, batch, own, reference):
    """Logits along the reference's answer, and the model's own answer."""
    batch = {key: value.to(model.device) for key, value in batch.items()}
    spliced = model.splice(
        batch["input_ids"],
        batch["attention_mask"],
        model.see(batch["pixel_values"], batch["boxes"], batch["box_counts"]),
    )
    answer = torch.tensor([reference], device=model.device)
    embeds = torch.cat([spliced.inputs_embeds, model.embed_text(answer)], dim=1)
    forced = model(inputs_embeds=embeds).logits[0, -len(reference) - 1 : -1].float().cpu()
    options = own.generation_kwargs() | {"max_new_tokens": len(reference)}
    return forced, model.generate(**batch, **options)[0, batch["input_ids"].shape[1] :].tolist()


def compare(model, cases, processor, truth):
    """Against float32 on the CPU: largest differences and shares of equal tokens."""
    began, worst, largest, forced_equal, free_equal, total = time.perf_counter(), 0.0, 0.0, 0, 0, 0
    for case in cases:
        own, batch = batch_of(case, processor)
        logits, tokens = outputs(model, batch, own, case["generated_ids"])
        wide, wide_tokens = truth[case["key"]]
        worst = max(worst, float((logits - wide).abs().max()))
        largest = max(largest, float(wide.abs().max()))
        forced_equal += int((logits.argmax(-1) == wide.argmax(-1)).sum())
        free_equal += sum(ours == theirs for ours, theirs in zip(tokens, wide_tokens, strict=False))
        total += len(wide_tokens)
    return {
        "mgtool_s": time.perf_counter() - began,
        "largest_difference": worst,
        "relative_difference": worst / largest,
        "equal_tokens_same_prefix": forced_equal / total,
        "equal_tokens_own_prefix": free_equal / total,
        "equal": free_equal == total,
    }


def table(rows):
    """Markdown."""
    lines = [
        "| device | dtype | largest difference in logits | of the largest | equal tokens, same prefix | own prefix |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        device, dtype = name.split("/")
        lines.append(
            f"| {device} | {dtype} | {row['largest_difference']:.2g} | {row['relative_difference']:.2g} "
            f"| {row['equal_tokens_same_prefix']:.1%} | {row['equal_tokens_own_prefix']:.1%} |"
        )
    return "\n".join(lines)


def measure(cases):
    """All rows: every dtype on every device at hand."""
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        parts = {name: KIT / name for name in ("llm", "clip", "convnext")}
        import_model(ImportOptions(checkpoint=KIT / "mg_llava.pth", **parts), out)
        processor = MGLlavaProcessor.from_pretrained(out)
        wide = load(out, "cpu", torch.float32)
        ready = {case["key"]: (case, *batch_of(case, processor)) for case in cases}
        truth = {key: outputs(wide, batch, own, case["generated_ids"]) for key, (case, own, batch) in ready.items()}
        for device in ["cpu"] + (["cuda"] if torch.cuda.is_available() else []):
            for name, dtype in DTYPES.items():
                rows[f"{device}/{name}"] = compare(load(out, device, dtype), cases, processor, truth)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two cases")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    logging.disable_progress_bar()
    rows = measure(CASES[:2] if options.quick else CASES)
    if options.json:
        print(json.dumps(rows))
        return
    print(table(rows))
    if options.write:
        text = options.write.read_text(encoding="utf-8")
        filled = f"<!-- parity -->\n{table(rows)}\n<!-- /parity -->"
        options.write.write_text(
            re.sub(r"<!-- parity -->.*<!-- /parity -->", lambda _: filled, text, flags=re.DOTALL), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
