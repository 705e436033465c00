"""Prompts of several groups on their way to being rows: what each group shares once, then their ends.

Prefixes of different lengths go through the language model as one batch, padded on the right: no token sees what comes
behind it, so that no mask is needed, and none reaches the keys and values that are kept. What was weighed against it:
kernels for packed sequences of different lengths are a GPU's alone, and pictures differ by a few boxes, 3 to 5 % of
their tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from mgtool.inference.attention import View, shared_prefixes
from mgtool.inference.attention_at_once import WholeView
from mgtool.inference.last_layer import last_layer_of
from mgtool.inference.prefix_store import Placement, Prefix, PrefixStore
from mgtool.inference.scheduler import Group
from mgtool.inference.served import Beginning, ServedModel


class Prefill(NamedTuple):
    """Prompts of one group, and the visual tokens of each picture that a prompt shows, (tokens, H)."""

    group: Group
    visuals: Sequence[Tensor]

    @property
    def is_whole(self) -> bool:
        """Whether what is shared is all of the prompt."""
        return len(self.group.prompts[0]) == self.group.common

    @property
    def beginning(self) -> Beginning:
        """What the prompts share."""
        ids = self.group.prompts[0][: self.group.common]
        return Beginning(self.group, ids, self.visuals[: sum(token < 0 for token in ids)])

    @property
    def ends(self) -> tuple[list[Sequence[int]], list[Tensor]]:
        """What is each prompt's own: its token ids, and visual tokens for all of them in order."""
        shared, placed = self.group.common, len(self.beginning.visuals)
        return [ids[shared:] for ids in self.group.prompts], [*self.visuals[placed:]] * len(self.group.prompts)


class Ends(NamedTuple):
    """What the ends of R prompts gave.

    Attributes:
        cache: keys and values, (R, heads, T, d) a layer, padded on the left.
        lengths: (R,) int64, of each.
        logits: (R, vocabulary) float32 behind each.
    """

    cache: DynamicCache
    lengths: Tensor
    logits: Tensor


class Prefixes:
    """What groups share; the last group's is kept for its other parts."""

    def __init__(self) -> None:
        self.kept: tuple[Any, Prefix] | None = None

    def of(self, model: ServedModel, prefills: Sequence[Prefill]) -> tuple[list[Prefix], Tensor | None]:
        """The prefix of each group, and (n, vocabulary) float32, the logits behind each of the n that are computed now.

        Args:
            model: computes them, those of all groups at once.
            prefills: of the groups; first those with prompts that are shared whole, which always are computed.
        """
        names = [_name(one) for one in prefills]
        found = dict([self.kept]) if self.kept else {}
        found |= {name: Prefix([], [], 0) for name, one in zip(names, prefills, strict=True) if not one.group.common}
        new = [
            at for at, (name, one) in enumerate(zip(names, prefills, strict=True)) if one.is_whole or name not in found
        ]
        self.kept = None
        begun, logits = model.begin([prefills[at].beginning for at in new]) if new else ([], None)
        prefixes = [found.get(name, Prefix([], [], 0)) for name in names]
        for at, prefix in zip(new, begun, strict=True):
            prefixes[at] = prefix
        if not prefills[-1].is_whole:
            self.kept = names[-1], prefixes[-1]
        return prefixes, logits


def _name(prefill: Prefill) -> tuple[Any, ...]:
    return prefill.group.key, tuple(prefill.group.prompts[0][: prefill.group.common])


def compute_ends(
    model: ServedModel, prefills: Sequence[Prefill], prefixes: Sequence[Prefix], store: PrefixStore | None
) -> Ends:
    """The ends of all prompts of groups, behind the prefix of each, as one batch; `store` as of `view_of`."""
    parts = [one.ends for one in prefills]
    rows, visuals = [ids for its_ids, _ in parts for ids in its_ids], [one for _, shown in parts for one in shown]
    ends, cache = model.splice(rows, visuals), DynamicCache()
    of_rows = [prefix for prefix, (its_ids, _) in zip(prefixes, parts, strict=True) for _ in its_ids]
    places = torch.tensor([[one.length, one.offset] for one in of_rows], device=ends.position_ids.device)
    positions, is_own = ends.position_ids + places[:, :1], ends.attention_mask.bool()
    with shared_prefixes(model.language_model), last_layer_of(model.language_model, slice(-1, None)):
        output = model.language_model(
            inputs_embeds=ends.inputs_embeds,
            position_ids=positions + places[:, 1:],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            view=view_of(of_rows, store, positions, positions.where(is_own, -1)),
        )
    return Ends(cache, is_own.sum(-1), output.logits[:, -1].float())


def view_of(prefixes: Sequence[Prefix], store: PrefixStore | None, positions: Tensor, own: Tensor) -> View | WholeView:
    """What R rows see that ask with T tokens each.

    Args:
        prefixes: of each row.
        store: where prefixes are attended to at once; None for one after the other.
        positions: (R, T) int64, of the tokens that ask, in their whole rows.
        own: (R, W) int64, positions of each row's own keys; negative where there is none.
    """
    if store is not None:
        return WholeView(store, Placement.of(store, prefixes).grid(own.device), positions, own)
    rows: dict[int, list[int]] = {}
    for row, prefix in enumerate(prefixes):
        rows.setdefault(id(prefix), []).append(row)
    return View([(_selection(places, own), prefixes[places[0]]) for places in rows.values()], positions, own)


def _selection(rows: Sequence[int], like: Tensor) -> slice | Tensor:
    """A slice where rows follow each other: it takes no copy."""
    if rows[-1] - rows[0] == len(rows) - 1:
        return slice(rows[0], rows[-1] + 1)
    return like.new_tensor(rows)
