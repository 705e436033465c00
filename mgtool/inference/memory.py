"""What a model and its prompts take in memory, and what there is of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil
import torch
import torch.distributed as dist
from torch import nn
from transformers import AutoModelForImageTextToText

from mgtool.errors import MgtoolError

if TYPE_CHECKING:
    from mgtool.inference.served import ServedModel

BITS = {"8bit": 8, "4bit": 4}
MEMORY_SHARE = 0.6
"""Of the memory that is free once the model is there, for keys and values."""


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
    """Bytes of a model's weights; none is loaded or made.

    Args:
        config: the model's.
        dtype: of the weights.
        quantize: a key of `BITS`, for the language model's matrices; its scales, a few percent, do not count.
    """
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, trust_remote_code=False)
    whole = sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize
    if not quantize:
        return whole
    head = model.get_output_embeddings()
    decoder = getattr(model, "language_model", None) or model.get_decoder()
    linear = [one for one in decoder.modules() if isinstance(one, nn.Linear) and one is not head]
    narrow = sum(one.weight.numel() for one in linear)
    return whole - narrow * dtype.itemsize + narrow * BITS[quantize] // 8


def token_budget(model: ServedModel) -> int:
    """Tokens whose keys and values the free memory holds; of a split model, that of the process with the least."""
    on_gpu = model.device.type == "cuda"
    free = torch.cuda.mem_get_info(model.device)[0] if on_gpu else psutil.virtual_memory().available
    if _is_split():
        least = torch.tensor(free, device=model.device)
        dist.all_reduce(least, dist.ReduceOp.MIN)
        free = int(least)
    return int(free * MEMORY_SHARE) // token_bytes(model.text_config, model.dtype)


def _is_split() -> bool:
    """Whether other processes compute parts of the same matrices, and must do the same steps."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device or the machine had no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def is_scarce(error: Exception) -> bool:
    """Whether to try again with less; where a model is split, the other processes would go on with the whole."""
    scarce = is_out_of_memory(error)
    if scarce and _is_split():
        raise MgtoolError("a part of the model has no memory left: give a smaller `batch_size`") from error
    return scarce
