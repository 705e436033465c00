"""What a model and its prompts take in memory, and what there is of it."""

from __future__ import annotations

from collections.abc import Sequence
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
PREFILL_SHARE = 0.2
"""Of the same memory, for what is computed while pictures are seen and prompts prefilled."""
MOST_GROUPS = 64
"""Groups that are prefilled at once; a device is busy with fewer, and rows that run wait meanwhile."""
GROUPS_AT_ONCE = {"cpu": 1}
"""On a CPU one more takes as long as the first, and the other rows' answers would wait."""
MOST_PADDING = 2
"""Tokens that are computed for each token that is needed, at most."""


def token_bytes(config: Any, dtype: torch.dtype) -> int:
    """Bytes of one token's keys and values.

    Args:
        config: of a language model.
        dtype: of its arithmetic.
    """
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * width * dtype.itemsize)


def picture_bytes(config: Any, dtype: torch.dtype) -> int:
    """Bytes that a picture takes at most while the towers see it.

    Args:
        config: an `MGLlavaConfig`.
        dtype: of the towers' arithmetic.
    """
    high = config.high_config
    cells = (high.image_size // high.strides[0]) ** 2
    # A block of the first stage holds what comes in and four times as much; box features are made of float32.
    return int(cells * high.widths[0] * (10 * dtype.itemsize + 8)) + 3 * high.image_size**2 * 4


def _working_bytes(config: Any, dtype: torch.dtype) -> int:
    """Bytes that a token takes at most while a language model's layer computes."""
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return int((8 * config.hidden_size + 3 * inner) * dtype.itemsize)


class PrefillBudget:
    """How much is prefilled at once; halved for good where memory does not suffice.

    Args:
        model: that computes it.

    Attributes:
        tokens: of prefixes, padding included.
        pictures: that are seen.
        groups: of prompts.
    """

    def __init__(self, model: ServedModel) -> None:
        room = int(_free_bytes(model) * PREFILL_SHARE)
        self.tokens = max(1, room // _working_bytes(model.text_config, model.dtype))
        self.pictures = max(1, room // max(1, model.picture_bytes))
        self.groups = GROUPS_AT_ONCE.get(model.device.type, MOST_GROUPS)

    def halve(self) -> None:
        """Memory did not suffice."""
        self.tokens, self.pictures, self.groups = (
            max(1, most // 2) for most in (self.tokens, self.pictures, self.groups)
        )

    def holds(self, lengths: Sequence[int], pictures: int) -> bool:
        """Whether prefixes of some lengths, and so many pictures, are not too much at once."""
        if len(lengths) > self.groups or pictures > self.pictures:
            return False
        return len(lengths) == 1 or (max(lengths) * len(lengths) <= min(self.tokens, MOST_PADDING * sum(lengths)))


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
    return int(_free_bytes(model) * MEMORY_SHARE) // token_bytes(model.text_config, model.dtype)


def _free_bytes(model: ServedModel) -> int:
    on_gpu = model.device.type == "cuda"
    free = torch.cuda.mem_get_info(model.device)[0] if on_gpu else psutil.virtual_memory().available
    if is_split():
        least = torch.tensor(free, device=model.device)
        dist.all_reduce(least, dist.ReduceOp.MIN)
        free = int(least)
    return int(free)


def is_split() -> bool:
    """Whether other processes compute parts of the same matrices, and must do the same steps."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device or the machine had no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def is_scarce(error: Exception) -> bool:
    """Whether to try again with less; where a model is split, the other processes would go on with the whole."""
    scarce = is_out_of_memory(error)
    if scarce and is_split():
        raise MgtoolError("a part of the model has no memory left: give a smaller `batch_size`") from error
    return scarce
