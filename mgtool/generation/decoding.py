"""Rows that are decoded together: their key-value cache, and how rows enter and leave it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache


class Rows:
    """R prompts in the middle of decoding.

    Attributes:
        cache: keys and values of each layer, (R, heads, W, d), padded anywhere `mask` is 0.
        mask: (R, W) int64, 1 on tokens.
        tokens: (R,) int64, chosen last and not in the cache yet.
    """

    def __init__(self, cache: DynamicCache, mask: Tensor, tokens: Tensor) -> None:
        self.cache, self.mask, self.tokens = cache, mask, tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def advance(self, language_model: Any, choose: Callable[[Tensor], Tensor]) -> None:
        """Choose the next token of every row; `choose` takes (R, vocabulary) float32 and gives (R,) int64."""
        positions = self.mask.sum(-1, keepdim=True)
        mask = torch.cat([self.mask, self.mask.new_ones(len(self), 1)], dim=-1)
        output = language_model(
            input_ids=self.tokens[:, None],
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.mask, self.tokens = mask, choose(output.logits[:, -1].float())

    def keep(self, rows: Sequence[int]) -> Rows:
        """Those rows alone, without columns that are padding in all of them."""
        index = torch.tensor(rows, device=self.mask.device)
        mask = self.mask[index]
        used = mask.any(0)
        layers = [(layer.keys[index][:, :, used], layer.values[index][:, :, used]) for layer in self.cache.layers]
        return Rows(DynamicCache(layers), mask[:, used], self.tokens[index])

    def join(self, other: Rows) -> Rows:
        """These rows and then the others, padded on the left to one width."""
        width = max(self.mask.shape[1], other.mask.shape[1])
        layers = [
            (_stack(own.keys, new.keys, width, 2), _stack(own.values, new.values, width, 2))
            for own, new in zip(self.cache.layers, other.cache.layers, strict=True)
        ]
        mask = _stack(self.mask, other.mask, width, 1)
        return Rows(DynamicCache(layers), mask, torch.cat([self.tokens, other.tokens]))


def _stack(first: Tensor, second: Tensor, width: int, dim: int) -> Tensor:
    return torch.cat([_widened(first, width, dim), _widened(second, width, dim)])


def _widened(tensor: Tensor, width: int, dim: int) -> Tensor:
    missing = width - tensor.shape[dim]
    after = [0, 0] * (tensor.ndim - 1 - dim)
    return torch.nn.functional.pad(tensor, [*after, missing, 0]) if missing else tensor
