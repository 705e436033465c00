"""The conformance kit, and tiny models of any make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from mgtool.importing.options import ImportOptions
from mgtool.model import ConvNextTowerConfig, MGLlavaConfig, MGLlavaForConditionalGeneration
from mgtool.records import Detections

TESTS = Path(__file__).parent.parent
KIT = TESTS / "conformance" / "mg_llava"
CASES = json.loads((KIT / "cases.json").read_text())

TINY_LLMS = {
    "llama": {},
    "mistral": {},
    "qwen2": {"tie_word_embeddings": True},
    "phi3": {"pad_token_id": 0},
}


def parts_in(folder: Path, checkpoint: str = "mg_llava.pth", **more: Any) -> ImportOptions:
    """The four published parts in a folder, as they are called there."""
    places = {name: folder / name for name in ("llm", "clip", "convnext")}
    return ImportOptions(checkpoint=folder / checkpoint, **places, **more)


def tiny_llm(kind: str, **changes: Any) -> Any:
    """A causal LM's configuration with 32 channels."""
    sizes: dict[str, Any] = {
        "vocab_size": 400,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "initializer_range": 0.2,
    }
    return AutoConfig.for_model(kind, **(sizes | TINY_LLMS[kind] | changes))


def tiny_config(kind: str = "llama", low: str = "clip_vision_model", **changes: Any) -> MGLlavaConfig:
    """A model of 3 x 3 patches and a 96-pixel frame."""
    tower = AutoConfig.for_model(
        low,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=42,
        patch_size=14,
    )
    high = ConvNextTowerConfig(architecture="test_convnext", image_size=96)
    return MGLlavaConfig(text_config=tiny_llm(kind), low_config=tower, high_config=high, **changes)


def tiny_model(config: MGLlavaConfig, seed: int = 0) -> MGLlavaForConditionalGeneration:
    """Random weights everywhere, also where training would begin with zeros."""
    torch.manual_seed(seed)
    model = MGLlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.2)
    return model


def detections(case: dict[str, Any]) -> Detections:
    """What the detector gave for a case."""
    box = case["box"]
    return Detections(tuple(map(tuple, box["boxes"])), tuple(box["scores"]), tuple(box["labels"]))


IMAGE = -200


def batch_for(config, boxes=2):
    """One picture, two boxes, four words."""
    generator = torch.Generator().manual_seed(0)
    side = config.image_size
    return {
        "input_ids": torch.tensor([[1, 30, IMAGE, 31, 32]]),
        "attention_mask": torch.ones(1, 5, dtype=torch.int64),
        "pixel_values": torch.randn(1, 3, side, side, generator=generator),
        "boxes": torch.tensor([[0.0, 0, 40, 50], [10, 20, 90, 90]])[:boxes],
        "box_counts": torch.tensor([boxes]),
    }


@torch.no_grad()
def logits(model, batch):
    return model(**batch).logits


def new_tokens(model, batch, **options):
    """What `generate` puts behind a prompt, (B, new)."""
    return model.generate(**batch, **options)[:, batch["input_ids"].shape[1] :]
