"""Attention of rows that begin alike: what they share is read once for all of them, and is in memory once.

A row's keys are its group's prefix and then its own. The scores over both are put side by side under one softmax,
so that the result is that of ordinary attention over the whole row.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from mgtool.inference.attention_at_once import Bounds, WholeView, attend_at_once
from mgtool.inference.prefix_store import Prefix as Prefix

NAME = "mgtool_shared_prefix"
"""The attention's name among those of transformers; without a mask function of that name it builds no masks."""


class View:
    """What the rows of one forward pass see.

    Args:
        groups: places among the R rows, and the prefix of those rows.
        positions: (R, T) int64, of the tokens that ask, in their whole rows.
        own: (R, W) int64, positions of each row's own keys; negative where there is none.
    """

    def __init__(self, groups: Sequence[tuple[slice | Tensor, Prefix]], positions: Tensor, own: Tensor) -> None:
        self.groups = [(rows, prefix) for rows, prefix in groups if prefix.length]
        self.positions, self.own = positions, own
        self.longest = max((prefix.length for _, prefix in self.groups), default=0)
        self.reach = self.longest + own.shape[1]
        seen = (own[:, None] >= 0) & (own[:, None] <= positions[..., None])
        # Padding sees anything rather than nothing, which would make it NaN, and so all that it meets.
        self.bias = torch.where(seen | ~seen.any(-1, keepdim=True), 0.0, -torch.inf)

    def out_of(self, window: int) -> Tensor:
        """(R, T, longest + W) bool, keys that a sliding window has left behind."""
        shared = torch.arange(self.longest, device=self.own.device).expand(len(self.own), -1)
        keys = torch.cat([shared, self.own], dim=1)
        return keys[:, None] <= self.positions[..., None] - window


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    view: View | WholeView,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it; gives (R, T, heads of queries, d), and no weights.

    Args:
        module: the attention layer.
        query: (R, heads of queries, T, d).
        key, value: (R, heads, W, d), of the rows' own tokens.
        attention_mask: None; `view`, of this pass, says what is seen: that of a `WholeView` in a constant number of
            operations, that of a `View` group after group, which a CPU is faster with.
        scaling, softcap: of the scores; the latter is a bound of them, for models that have one.
        sliding_window: tokens that are seen, the asking one included; None for all.
        kwargs: what other kinds of attention take.

    Raises:
        ValueError: for a model whose softmax has a sink, or whose layer leaves the window that it has to its masks.
    """
    if sliding_window is None and _is_windowed(module):
        raise ValueError("language models whose windows stand in their masks alone are not supported")
    if kwargs.get("s_aux") is not None:
        raise ValueError("language models with attention sinks are not supported")
    if isinstance(view, WholeView):
        bounds = Bounds(module.layer_idx, scaling, sliding_window, softcap)
        return attend_at_once(query, key, value, view, bounds).transpose(1, 2), None
    return _attend_by_group(module.layer_idx, (query * scaling, key, value), view, sliding_window, softcap), None


def _attend_by_group(
    layer: int, states: tuple[Tensor, Tensor, Tensor], view: View, sliding_window: int | None, softcap: float | None
) -> Tensor:
    """One group after the other, for scaled queries, keys and values as of `attend`."""
    query, key, value = states
    (count, _, steps, width), heads = query.shape, key.shape[1]
    queries = query.reshape(count, heads, -1, width).transpose(0, 1)
    scores = _scores(queries, key, view, layer, softcap)
    _mask(scores.view(heads, count, -1, steps, scores.shape[-1]), view, sliding_window)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    mixed = _mix(weights, value, view, layer).transpose(0, 1)
    return mixed.reshape(count, -1, steps, width).transpose(1, 2)


def _is_windowed(module: Any) -> bool:
    """Whether a layer, by its configuration, sees a part of the row alone."""
    config = getattr(module, "config", None)
    kinds = getattr(config, "layer_types", None) or ()
    kind = kinds[module.layer_idx] if module.layer_idx < len(kinds) else "full_attention"
    return kind != "full_attention" and getattr(config, "sliding_window", None) is not None


def _mask(scores: Tensor, view: View, sliding_window: int | None) -> None:
    """Take what is not seen out of (heads, R, queries of a head, T, longest + W), in place."""
    scores[..., view.longest :] += view.bias.to(scores)[:, None]
    if sliding_window is not None and view.reach > sliding_window:
        scores.masked_fill_(view.out_of(sliding_window).to(scores.device)[:, None], -torch.inf)


def _scores(queries: Tensor, key: Tensor, view: View, layer: int, softcap: float | None) -> Tensor:
    """(heads, R, n, d) and (R, heads, W, d) -> (heads, R, n, longest + W), -inf where a prefix is shorter."""
    heads, count, each, _ = queries.shape
    scores = queries.new_full((heads, count, each, view.longest + key.shape[2]), -torch.inf)
    for rows, prefix in view.groups:
        found = queries[:, rows].flatten(1, 2) @ prefix.keys[layer].mT
        scores[:, rows, :, : prefix.length] = _capped(found, softcap).view(heads, -1, each, prefix.length)
    scores[..., view.longest :] = _capped(queries.transpose(0, 1) @ key.mT, softcap).transpose(0, 1)
    return scores


def _capped(scores: Tensor, softcap: float | None) -> Tensor:
    """Scores within their bound; what is not seen is no score yet, so that it stays out."""
    return scores if softcap is None else torch.tanh(scores / softcap) * softcap


def _mix(weights: Tensor, value: Tensor, view: View, layer: int) -> Tensor:
    """(heads, R, n, longest + W) and (R, heads, W, d) -> (heads, R, n, d)."""
    heads, _, each, _ = weights.shape
    mixed = (weights[..., view.longest :].transpose(0, 1) @ value).transpose(0, 1).contiguous()
    for rows, prefix in view.groups:
        found = weights[:, rows, :, : prefix.length].flatten(1, 2) @ prefix.values[layer]
        mixed[:, rows] += found.view(heads, -1, each, found.shape[-1])
    return mixed


@contextlib.contextmanager
def shared_prefixes(language_model: Any) -> Iterator[None]:
    """The language model attends through `attend` meanwhile."""
    config = language_model.config
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
