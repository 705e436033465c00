"""What a model and its prompts take in memory, from the model's configuration alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

BITS = {"8bit": 8, "4bit": 4}


def token_bytes(config: Any, dtype: torch.dtype) -> int:
    """Bytes of one token's keys and values.

    Args:
        config: of a language model.
        dtype: of its arithmetic.
    """
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * dtype.itemsize)


def weight_bytes(config: Any, dtype: torch.dtype, quantize: str = "") -> int:
    """Bytes of an `MGLlavaConfig`'s weights; no weight is loaded or made.

    Args:
        config: the model's.
        dtype: of the weights.
        quantize: a key of `BITS`, for the language model's matrices; its scales, a few percent, do not count.
    """
    from mgtool.model import MGLlavaForConditionalGeneration

    with torch.device("meta"):
        model = MGLlavaForConditionalGeneration(config)
    whole = sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize
    if not quantize:
        return whole
    head = model.get_output_embeddings()
    linear = [one for one in model.language_model.modules() if isinstance(one, nn.Linear) and one is not head]
    narrow = sum(one.weight.numel() for one in linear)
    return whole - narrow * dtype.itemsize + narrow * BITS[quantize] // 8
