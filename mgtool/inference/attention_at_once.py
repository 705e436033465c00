"""Attention of all rows of all groups in as many operations as those of one group.

The queries are laid out by the slots of their prefixes, (G, heads, Q, d), so that one product meets all prefixes,
however many there are. The scores over a prefix and over a row's own tokens stand side by side under one softmax.

What was weighed against it, by the number of operations alone: a softmax for each part, joined by their log-sum-exps,
takes at least 4 more a layer; prefixes repeated for each row take 4 fewer and are read once a row in place of once a
group; kernels over block tables or of variable length are a GPU's alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mgtool.inference.prefix_store import Grid, PrefixStore


class WholeView:
    """What R rows see that ask with T tokens each.

    Args:
        store: of the prefixes.
        grid: of the rows.
        positions: (R, T) int64, of the tokens that ask, in their whole rows.
        own: (R, W) int64, positions of each row's own keys; negative where there is none. Every token sees one.
    """

    def __init__(self, store: PrefixStore, grid: Grid, positions: Tensor, own: Tensor) -> None:
        self.store, self.grid, self.positions, self.own = store, grid, positions, own
        self.reach = grid.longest + own.shape[1]
        self._biases: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}
        self._heads: dict[int, Tensor] = {}

    def heads(self, count: int) -> Tensor:
        """(1, heads, 1) int64, the numbers of the heads, for indexing."""
        if count not in self._heads:
            self._heads[count] = torch.arange(count, device=self.own.device).view(1, count, 1)
        return self._heads[count]

    def biases(self, like: Tensor, heads: int, each: int, window: int | None) -> tuple[Tensor, Tensor]:
        """What is added to scores, 0 or -inf; made once a pass for all layers.

        Args:
            like: of the dtype and device.
            heads: of keys.
            each: heads of queries for each of them.
            window: that the layer sees of a row.

        Returns:
            (G x heads, Q x each x T or 1, P) and (R x heads, each x T or 1, W).
        """
        window = window if window is not None and self.reach > window else None
        name = (like.dtype, heads, each, window)
        if name not in self._biases:
            pair = (_for_heads(seen, heads, each) for seen in self._seen(window))
            zero, none = like.new_zeros(()), like.new_full((), -torch.inf)
            first, second = (torch.where(seen, zero, none) for seen in pair)
            self._biases[name] = first, second
        return self._biases[name]

    def _seen(self, window: int | None) -> tuple[Tensor, Tensor]:
        """(G, Q or 1, T or 1, P) and (R, 1, T, W) bool."""
        keys = torch.arange(self.grid.longest, device=self.own.device)
        shared = (keys < self.grid.lengths[:, None])[:, None, None]
        own = (self.own[:, None] >= 0) & (self.own[:, None] <= self.positions[..., None])
        if window is None:
            return shared, own[:, None]
        first = (self.positions - window)[..., None]
        return shared & (keys > first[self.grid.row[:, 0]]), (own & (self.own[:, None] > first))[:, None]


def _for_heads(seen: Tensor, heads: int, each: int) -> Tensor:
    """(B, Q or 1, T or 1, W) -> (B x heads, Q x each x T or 1, W)."""
    count, places, steps, width = seen.shape
    each = 1 if places == steps == 1 else each
    return (
        seen[:, None, :, None].expand(-1, heads, -1, each, -1, -1).reshape(count * heads, places * each * steps, width)
    )


class Bounds(NamedTuple):
    """Of one layer's attention: its number, what scores are multiplied by, the sliding window, the scores' bound."""

    layer: int
    scaling: float
    window: int | None
    softcap: float | None


def attend_at_once(query: Tensor, key: Tensor, value: Tensor, view: WholeView, bounds: Bounds) -> Tensor:
    """Mixed values, (R, heads of queries, T, d), of (R, heads of queries, T, d) and the rows' own (R, heads, W, d)."""
    count, heads, width, depth = key.shape
    queries = query.reshape(count, heads, -1, depth)
    each, (_, slots, places, longest) = queries.shape[2], view.grid.shape
    shared_bias, own_bias = view.biases(query, heads, query.shape[1] // heads, bounds.window)
    numbers = view.heads(heads)
    own = _scores(queries.flatten(0, 1), key.flatten(0, 1), own_bias, bounds)
    if not longest:
        return (own.softmax(-1) @ value.flatten(0, 1)).view(query.shape)
    asked = queries[view.grid.row, numbers].view(slots * heads, places * each, depth)
    keys = view.store.keys[bounds.layer][:slots, :, :longest].flatten(0, 1)
    values = view.store.values[bounds.layer][:slots, :, :longest].flatten(0, 1)
    shared = _scores(asked, keys, shared_bias, bounds).view(slots, heads, places, each, longest)
    rows = view.grid.slot, numbers[..., 0], view.grid.place
    scores = torch.cat([shared[rows], own.view(count, heads, each, width)], dim=-1)
    weights = scores.softmax(-1)
    laid = weights[..., :longest][view.grid.row, numbers].view(slots * heads, places * each, longest)
    mixed = torch.bmm(laid, values).view(slots, heads, places, each, depth)[rows]
    ends = weights[..., longest:].flatten(0, 1)
    return torch.baddbmm(mixed.flatten(0, 1), ends, value.flatten(0, 1)).view(query.shape)


def _scores(queries: Tensor, keys: Tensor, bias: Tensor, bounds: Bounds) -> Tensor:
    """(B, n, d) and (B, W, d) -> (B, n, W), with what is not seen at -inf."""
    if bounds.softcap is None:
        return torch.baddbmm(bias, queries, keys.mT, alpha=bounds.scaling)
    return torch.tanh(torch.bmm(queries, keys.mT) * (bounds.scaling / bounds.softcap)) * bounds.softcap + bias
