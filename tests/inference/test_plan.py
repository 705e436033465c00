"""`mgtool infer --dry-run`: what a run would take, against the weights and the cache that it would then have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForImageTextToText

PHOTOS = Path(__file__).parent.parent / "images"


def _plan(mgtool, model, *options):
    code, out, _ = mgtool("infer", PHOTOS, "--model", model, "--out", "never.jsonl", "--dry-run", "--json", *options)
    assert code == 0
    return json.loads(out)


def test_a_plan_tells_the_bytes_of_weights_and_cache(mgtool, models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = _plan(mgtool, models["vicuna"], "--task", "caption", "--device", "cpu")
    assert (plan["samples"], plan["dtype"]) == (3, "float32")
    with safe_open(models["vicuna"] / "model.safetensors", "pt") as file:
        weights = sum(4 * file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    model = AutoModelForImageTextToText.from_pretrained(models["vicuna"]).eval()
    with torch.no_grad():
        cache = model.language_model(input_ids=torch.ones(1, 10, dtype=torch.long)).past_key_values
    ten_tokens = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert plan["memory_gb"]["weights"] == pytest.approx(weights / 1e9, rel=2e-3)
    assert plan["memory_gb"]["thousand_tokens"] == pytest.approx(100 * ten_tokens / 1e9, rel=2e-3)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_a_gpu_run_can_be_planned_where_there_is_none(mgtool, models):
    on_cpu, on_gpu, narrow = (
        _plan(mgtool, models["vicuna"], "--task", "caption", "--device", device, *more)
        for device, more in (("cpu", ()), ("cuda", ()), ("cuda:0,cuda:1", ("--dtype", "float16")))
    )
    assert (on_gpu["dtype"], narrow["dtype"]) == ("bfloat16", "float16")
    assert on_gpu["memory_gb"]["weights"] == pytest.approx(on_cpu["memory_gb"]["weights"] / 2, rel=2e-3)


def test_four_bits_take_an_eighth_of_the_language_models_matrices(mgtool, models):
    whole = _plan(mgtool, models["vicuna"], "--task", "caption", "--device", "cpu")
    narrow = _plan(mgtool, models["vicuna"], "--task", "caption", "--device", "cpu", "--quantize", "4bit")
    model = AutoModelForImageTextToText.from_pretrained(models["vicuna"])
    linear = [
        m for name, m in model.language_model.named_modules() if isinstance(m, torch.nn.Linear) and "head" not in name
    ]
    saved = sum(one.weight.numel() for one in linear) * 4 * 7 / 8
    assert whole["memory_gb"]["weights"] - narrow["memory_gb"]["weights"] == pytest.approx(saved / 1e9, rel=1e-2)
