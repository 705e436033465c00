"""One process of a tensor-parallel model: `torchrun parallel.py MODEL OUT` writes what rank 0 computed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from tiny_models import batch_for, logits
from transformers.distributed import DistributedConfig

from mgtool.model import MGLlavaForConditionalGeneration


def main() -> None:
    """Load this process's share, run one forward pass, save logits and the share's size."""
    folder, out = map(Path, sys.argv[1:])
    plan = DistributedConfig(tp_plan="auto")
    model = MGLlavaForConditionalGeneration.from_pretrained(folder, distributed_config=plan).eval()
    weight = model.language_model.model.layers[0].mlp.down_proj.weight
    own = weight.to_local() if hasattr(weight, "to_local") else weight
    found = logits(model, batch_for(model.config))
    if os.environ["RANK"] == "0":
        torch.save({"logits": found, "share": tuple(own.shape)}, out)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
