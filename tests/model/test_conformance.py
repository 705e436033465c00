"""Every number that the reference gives, on every case of the kit."""

from __future__ import annotations

import pytest
import torch
from tiny_models import CASES, detections, new_tokens

from mgtool.model import MGLlavaProcessor
from mgtool.model.encoders import low_pixels

TOLERANCE = 1e-4
EXACT = 1e-6
PARTS = {
    "pixels_768_s16": EXACT,
    "pixels_336_s16": EXACT,
    "boxes_768": 0.0,
    "clip_tokens_s8": TOLERANCE,
    "convnext_last_s4": TOLERANCE,
    "fused_tokens_s8": TOLERANCE,
    "vision_tokens_s8": TOLERANCE,
    "box_tokens": TOLERANCE,
    "inputs_embeds_sum": TOLERANCE,
    "first_logits": TOLERANCE,
}
cases = pytest.mark.parametrize("case", CASES, ids=[case["key"] for case in CASES])


def prepared(case, processor, picture):
    """The processor with the case's template, the prompt's ids, and the placed picture."""
    own = MGLlavaProcessor(processor.tokenizer, template=case["template"])
    ids = own.tokenize([(f"<image>\n{case['question']}", None)])
    return own, ids, own.place(picture(case["image"]), detections(case))


@torch.no_grad()
def computed(case, model, processor, picture):
    """All named tensors of a case."""
    own, ids, placed = prepared(case, processor, picture)
    batch = own.collate([ids], [placed])
    pixels, counts = batch["pixel_values"], batch["box_counts"]
    low, stages = model.encode_low(pixels), model.encode_high(pixels)
    fused = model.fuse(low, stages)
    vision = model.project(fused)
    boxes = model.pool_regions(stages, batch["boxes"], counts)
    visuals = model.visual_tokens(vision, boxes, counts, batch["frame_counts"])
    spliced = model.splice(batch["input_ids"], batch["attention_mask"], visuals)
    return {
        "pixels_768_s16": pixels[0, :, ::16, ::16],
        "pixels_336_s16": low_pixels(pixels, 336)[0, :, ::16, ::16],
        "boxes_768": placed.boxes,
        "clip_tokens_s8": low[0, ::8],
        "convnext_last_s4": stages[-1][0, :, ::4, ::4],
        "fused_tokens_s8": fused[0, ::8],
        "vision_tokens_s8": vision[0, ::8],
        "box_tokens": boxes,
        "inputs_embeds_sum": spliced.inputs_embeds[0].sum(-1),
        "first_logits": model(**batch).logits[0, -1],
    }


@cases
def test_every_tensor_is_the_reference_s(case, model, processor, picture, expected):
    tensors = computed(case, model, processor, picture)
    assert set(PARTS) == {key.rpartition("/")[2] for key in expected}
    for name, tolerance in PARTS.items():
        target = expected[f"{case['key']}/{name}"]
        assert tensors[name].shape == target.shape, name
        assert (tensors[name] - target).abs().max() <= tolerance * target.abs().max(), name


@cases
def test_prompt_boxes_and_labels_are_the_reference_s(case, processor, picture):
    own, ids, placed = prepared(case, processor, picture)
    assert ids == case["input_ids"]
    assert own.render([(f"<image>\n{case['question']}", None)]).replace("<image>", "") == case["prompt"]
    assert list(placed.labels) == case["kept_labels"]
    assert len(placed.boxes) == case["n_box_tokens"]


@cases
def test_generated_answer_is_the_reference_s(case, model, processor, picture):
    own, ids, placed = prepared(case, processor, picture)
    options = own.generation_kwargs() | {"max_new_tokens": 24}
    generated = new_tokens(model, own.collate([ids], [placed]), **options)[0].tolist()
    assert generated == case["generated_ids"]
    assert own.decode(generated) == case["generated_text"]


def test_a_batch_of_all_cases_gives_the_same_answers(model, processor, picture):
    ready = [prepared(case, processor, picture) for case in CASES]
    batch = processor.collate([ids for _, ids, _ in ready], [placed for _, _, placed in ready])
    generated = new_tokens(model, batch, **(processor.generation_kwargs() | {"max_new_tokens": 24}))
    for case, row in zip(CASES, generated.tolist(), strict=True):
        length = len(case["generated_ids"])
        assert row[:length] == case["generated_ids"], case["key"]
        assert set(row[length:]) <= {processor.pad_token_id}
