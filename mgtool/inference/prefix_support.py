"""Language models that cannot attend to a shared prefix, and how they are known."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from mgtool.inference.attention import Prefix
from mgtool.inference.cache_support import LengthDependentRope, probe
from mgtool.inference.rows import Rows

_known: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def shares_prefixes(language_model: Any) -> bool:
    """Whether a model's attention is one that transformers lets others replace.

    Models that bring their own kind compute something else over a shared prefix, or nothing at all. So the model is
    probed once, with a few tokens, and what it gives is compared with what it gives for the whole of them.
    """
    if language_model not in _known:
        _known[language_model] = _agrees(language_model)
    return _known[language_model]


@torch.inference_mode()
def _agrees(language_model: Any) -> bool:
    if getattr(language_model.config, "attention_chunk_size", None):
        return False  # the few tokens would all be in one chunk
    if LengthDependentRope.of(language_model) is not None:
        return False  # the longest row would change all others
    return probe(language_model, lambda ids: _over_a_prefix(language_model, ids))


def _over_a_prefix(language_model: Any, ids: Tensor) -> Tensor:
    """(vocabulary,) logits behind T ids, all but the last two of which are a prefix."""
    found = []

    def choose(logits: Tensor) -> Tensor:
        found.append(logits[0])
        return ids[-1:]

    cache = DynamicCache()
    language_model(input_ids=ids[None, :-2], past_key_values=cache, use_cache=True)
    rows = Rows(language_model.config.num_hidden_layers, ids.device)
    rows.add([Prefix.of(cache)], None, rows.lengths.new_zeros(1), ids[-2:-1])
    for _ in range(2):
        rows.advance(language_model, choose)
    return found[-1]
