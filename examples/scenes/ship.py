"""A trained model in bfloat16, as it is shipped: python examples/scenes/ship.py MODEL OUT."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor


def ship(model: Path, out: Path) -> None:
    """Write weights, configuration and processor of a model folder; the weights rounded to bfloat16."""
    MGLlavaForConditionalGeneration.from_pretrained(model, dtype=torch.bfloat16).save_pretrained(out)
    MGLlavaProcessor.from_pretrained(model).save_pretrained(out)


if __name__ == "__main__":
    ship(*map(Path, sys.argv[1:]))
