"""Language models that cannot attend to a shared prefix: how they are known, and their rows, one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from mgtool.generation.attention import Prefix
from mgtool.generation.decoding import Rows
from mgtool.generation.memory import is_out_of_memory

_ASKED = 8
"""Tokens of the question whether a model attends as it should."""
_NOISE, _HALF_NOISE = 1e-3, 0.1
"""Of logits that are the same number computed in another order, against their spread: in float32, in half precision."""
_known: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


class AloneRows:
    """R prompts in the middle of decoding, each with a cache of its own, if its model has one, and no padding.

    Attributes:
        tokens: (R,) int64, chosen last and not among the embeddings yet.
    """

    def __init__(self, device: torch.device) -> None:
        self.tokens = torch.zeros(0, dtype=torch.int64, device=device)
        self._embeds: list[Tensor] = []
        self._caches: list[DynamicCache | None] = []

    def __len__(self) -> int:
        return len(self._embeds)

    @property
    def held(self) -> int:
        """Tokens of all rows."""
        return sum(embeds.shape[1] for embeds in self._embeds)

    def enter(self, language_model: Any, prompts: Sequence[Tensor], choose: Callable[[Tensor], Tensor]) -> None:
        """Add prompts, (1, T, H) each, and choose their first tokens; `choose` as of `advance`."""
        has_cache = language_model._supports_default_dynamic_cache()
        caches = [DynamicCache(config=language_model.config) if has_cache else None for _ in prompts]
        logits = [_logits(language_model, *row) for row in zip(prompts, prompts, caches, strict=True)]
        self.tokens = torch.cat([self.tokens, choose(torch.cat(logits))])
        self._embeds += prompts
        self._caches += [cache if cache is not None and _is_filled(cache) else None for cache in caches]

    def advance(self, language_model: Any, choose: Callable[[Tensor], Tensor]) -> None:
        """Choose the next token of every row; `choose` takes (R, vocabulary) float32 and gives (R,) int64."""
        new = language_model.get_input_embeddings()(self.tokens)[:, None, None]
        self._embeds = [torch.cat([whole, last], dim=1) for whole, last in zip(self._embeds, new, strict=True)]
        rows = zip(self._embeds, new, self._caches, strict=True)
        self.tokens = choose(torch.cat([_logits(language_model, *row) for row in rows]))

    def leave(self, row: int) -> None:
        """Take a row out; the last one takes its number."""
        self._embeds[row], self._caches[row], self.tokens[row] = self._embeds[-1], self._caches[-1], self.tokens[-1]
        self._embeds.pop()
        self._caches.pop()
        self.tokens = self.tokens[:-1]


def _is_filled(cache: DynamicCache) -> bool:
    """False after a model that takes a cache among its other keywords and leaves it as it is."""
    return any(getattr(layer, "is_initialized", True) for layer in cache.layers)


def _logits(language_model: Any, whole: Tensor, new: Tensor, cache: DynamicCache | None) -> Tensor:
    """(1, vocabulary) float32 behind a row, of which the cache has all but what is new."""
    known = {"use_cache": False} if cache is None else {"use_cache": True, "past_key_values": cache}
    return language_model(inputs_embeds=whole if cache is None else new, **known).logits[:, -1].float()


def shares_prefixes(language_model: Any) -> bool:
    """Whether a model's attention is one that transformers lets others replace.

    Models that bring their own kind compute something else over a shared prefix, or nothing at all. So the model is
    asked once, with a few tokens, and what it says is compared with what it says to the whole of them.
    """
    if language_model not in _known:
        _known[language_model] = _agrees(language_model)
    return _known[language_model]


@torch.inference_mode()
def _agrees(language_model: Any) -> bool:
    if getattr(language_model.config, "attention_chunk_size", None):
        return False  # the few tokens of the question would all be in one chunk
    last = language_model.config.vocab_size - 1
    ids = torch.linspace(0, last, _ASKED, device=language_model.device).long()
    try:
        expected = language_model(input_ids=ids[None], use_cache=False).logits[0, -1].float()
        found = _over_a_prefix(language_model, ids)
    except (RuntimeError, ValueError, TypeError, AttributeError, LookupError) as error:
        return is_out_of_memory(error)  # which is said where a prompt meets it
    if not expected.isfinite().all():
        return True
    noise = _NOISE if language_model.dtype == torch.float32 else _HALF_NOISE
    return bool((found - expected).square().mean().sqrt() <= noise * expected.std())


def _over_a_prefix(language_model: Any, ids: Tensor) -> Tensor:
    """(vocabulary,) logits behind T ids, all but the last two of which are a prefix."""
    found = []

    def choose(logits: Tensor) -> Tensor:
        found.append(logits[0])
        return ids[-1:]

    cache = DynamicCache()
    language_model(input_ids=ids[None, :-2], past_key_values=cache, use_cache=True)
    rows = Rows(language_model.config.num_hidden_layers, ids.device)
    rows.enter(Prefix.of(cache), None, rows.lengths.new_zeros(1), ids[-2:-1])
    for _ in range(2):
        rows.advance(language_model, choose)
    return found[-1]
