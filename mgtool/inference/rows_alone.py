"""Rows that share nothing, each with a cache of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from mgtool.inference.cache_support import CacheSupport
from mgtool.inference.prefill import Prefill
from mgtool.inference.rows import Choose
from mgtool.inference.scheduler import moves_for
from mgtool.inference.served import ServedModel


class AloneRows:
    """R prompts in the middle of decoding, each with a cache of its own, if its model has one, and no padding.

    Attributes:
        tokens: (R,) int64, chosen last and not among the embeddings yet.
    """

    def __init__(self, device: torch.device, support: CacheSupport) -> None:
        self.support = support
        self.tokens = torch.zeros(0, dtype=torch.int64, device=device)
        self._embeds: list[Tensor] = []
        self._caches: list[DynamicCache | None] = []

    def __len__(self) -> int:
        return len(self._embeds)

    @property
    def held(self) -> int:
        """Tokens of all rows."""
        return sum(embeds.shape[1] for embeds in self._embeds)

    def enter(self, model: ServedModel, prefills: Sequence[Prefill], choose: Choose) -> None:
        """Add prompts, each computed whole, and choose their first tokens."""
        language_model = model.language_model
        embeds = [model.splice([ids], one.visuals).inputs_embeds for one in prefills for ids in one.group.prompts]
        caches = [self._new_cache(language_model, whole.shape[1]) for whole in embeds]
        logits = [self._logits(language_model, *row) for row in zip(embeds, embeds, caches, strict=True)]
        self.tokens = torch.cat([self.tokens, choose(torch.cat(logits))])
        self._embeds += embeds
        self._caches += caches

    def advance(self, language_model: Any, choose: Choose) -> None:
        """Choose the next token of every row."""
        new = list(language_model.get_input_embeddings()(self.tokens)[:, None, None])
        self._embeds = [torch.cat([whole, last], dim=1) for whole, last in zip(self._embeds, new, strict=True)]
        for row, whole in enumerate(self._embeds):
            if self.support.begins_anew(whole.shape[1]):
                self._caches[row], new[row] = self._new_cache(language_model, whole.shape[1]), whole
        rows = zip(self._embeds, new, self._caches, strict=True)
        self.tokens = choose(torch.cat([self._logits(language_model, *row) for row in rows]))

    def leave(self, rows: Sequence[int]) -> None:
        """Take rows out; the last ones take their numbers, in the order of `moves_for`."""
        for source, target in moves_for(rows, len(self)):
            self._embeds[target], self._caches[target] = self._embeds[source], self._caches[source]
            self.tokens[target] = self.tokens[source]
        kept = len(self) - len(rows)
        self._embeds, self._caches, self.tokens = self._embeds[:kept], self._caches[:kept], self.tokens[:kept]

    def forget(self) -> None:
        """Nothing is kept."""

    def _new_cache(self, language_model: Any, length: int) -> DynamicCache | None:
        """For a row that has so many tokens; None where every step computes it anew."""
        return DynamicCache(config=language_model.config) if self.support.holds(length) else None

    def _logits(self, language_model: Any, whole: Tensor, new: Tensor, cache: DynamicCache | None) -> Tensor:
        """(1, vocabulary) float32 behind a row, of which the cache has all but what is new."""
        if self.support.rope is not None:
            self.support.rope.reset()
        known: dict[str, Any] = {"use_cache": cache is not None}
        if cache is not None:
            known[self.support.name] = cache
        output = language_model(inputs_embeds=whole if cache is None else new, **known)
        logits: Tensor = output.logits[:, -1].float()
        return logits
