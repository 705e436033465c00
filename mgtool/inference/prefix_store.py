"""What all groups' rows begin with, in one tensor a layer, so that a step attends to all of it at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

BLOCK = 64
"""Tokens by which the room for a prefix grows."""


class Prefix(NamedTuple):
    """What a group's rows begin with.

    Attributes:
        keys, values: of each layer, (heads, P, d).
        length: P; 0 for rows that share nothing.
        offset: of the positions behind it, from their places in the row: a picture may take fewer than it has tokens.
    """

    keys: list[Tensor]
    values: list[Tensor]
    length: int
    offset: int = 0

    @classmethod
    def of(cls, cache: DynamicCache, offset: int = 0) -> Prefix:
        """The cache of one row, (1, heads, P, d) a layer."""
        keys = [layer.keys[0] for layer in cache.layers]
        return cls(keys, [layer.values[0] for layer in cache.layers], keys[0].shape[1] if keys else 0, offset)


class PrefixStore:
    """Keys and values of the prefixes of rows, (slots, heads, room for tokens, d) a layer; what is beyond one is zero.

    A prefix that is put here lies here alone: its tensors become views of its slot.

    Attributes:
        keys, values: of each layer.
        lengths: of the prefix in each slot; 0 for a free one.
    """

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.lengths: list[int] = []
        self._held: dict[int, tuple[int, Prefix]] = {}

    def slot(self, prefix: Prefix) -> int:
        """The slot of a prefix, which is put into one where it has none."""
        known = self._held.get(id(prefix))
        if known is not None:
            return known[0]
        taken = {slot for slot, _ in self._held.values()}
        slot = next(number for number in range(len(taken) + 1) if number not in taken)
        if prefix.length:
            self._make_room(prefix, slot + 1)
        self.lengths += [0] * (slot + 1 - len(self.lengths))
        for kept, own in ((self.keys, prefix.keys), (self.values, prefix.values)):
            for layer, tensor in zip(kept, own, strict=False):
                layer[slot] = 0
                layer[slot, :, : prefix.length] = tensor
        self.lengths[slot] = prefix.length
        self._held[id(prefix)] = slot, prefix
        self._point(slot, prefix)
        return slot

    def keep(self, prefixes: Iterable[Prefix]) -> None:
        """Free the slots of all others."""
        wanted = {id(prefix) for prefix in prefixes}
        for name in [name for name in self._held if name not in wanted]:
            self.lengths[self._held.pop(name)[0]] = 0
        while self.lengths and len(self.lengths) - 1 not in {slot for slot, _ in self._held.values()}:
            self.lengths.pop()

    def _make_room(self, prefix: Prefix, slots: int) -> None:
        """Grow to so many slots of a prefix's length."""
        has = self.keys[0].shape if self.keys else (0, 0, 0, 0)
        tokens = -(-prefix.length // BLOCK) * BLOCK
        if has[0] >= slots and has[2] >= tokens:
            return
        # twice as many slots at a time, so that all that is there is seldom moved
        slots, tokens = (slots if slots <= has[0] else max(slots, 2 * has[0])), max(tokens, has[2])
        for name, like in (("keys", prefix.keys), ("values", prefix.values)):
            old = getattr(self, name) or [None] * len(like)
            setattr(self, name, [_grown(was, one, slots, tokens) for was, one in zip(old, like, strict=True)])
        for slot, held in self._held.values():
            self._point(slot, held)

    def _point(self, slot: int, prefix: Prefix) -> None:
        for own, kept in ((prefix.keys, self.keys), (prefix.values, self.values)):
            own[:] = [layer[slot, :, : prefix.length] for layer in kept[: len(own)]]


def _grown(old: Tensor | None, like: Tensor, slots: int, tokens: int) -> Tensor:
    """A larger layer that holds what the old one held; `like` is (heads, P, d)."""
    grown = like.new_zeros(slots, like.shape[0], tokens, like.shape[2])
    if old is not None:
        grown[: old.shape[0], :, : old.shape[2]] = old
    return grown


class Grid:
    """Rows by the slots of their prefixes: G slots with Q places each, of which some are empty.

    Attributes:
        shape: G and Q.
        row: (G, 1, Q) int64, the row at each place; an empty place repeats the first.
        slot, place: (R, 1) int64, of each row.
        starts, offsets: (R,) int64, tokens before each row's own, and what is added to its positions.
        longest: tokens of the longest prefix.
        lengths: (G,) int64, of the prefixes.
    """

    def __init__(self, store: PrefixStore, prefixes: Sequence[Prefix], device: torch.device) -> None:
        slots = [store.slot(prefix) for prefix in prefixes]
        rows: dict[int, list[int]] = {slot: [] for slot in range(max(slots, default=0) + 1)}
        for number, its_slot in enumerate(slots):
            rows[its_slot].append(number)
        most = max(map(len, rows.values()))
        self.shape = len(rows), most
        filled = [one + [0] * (most - len(one)) for one in rows.values()]
        places = [rows[its_slot].index(number) for number, its_slot in enumerate(slots)]
        lengths = store.lengths[: len(rows)]
        self.longest = max(lengths, default=0)
        starts, offsets = [prefix.length for prefix in prefixes], [prefix.offset for prefix in prefixes]
        numbers = torch.tensor([*itertools.chain(*filled), *slots, *places, *starts, *offsets, *lengths], device=device)
        sizes = [len(rows) * most, *[len(slots)] * 4, len(lengths)]
        row, slot, place, self.starts, self.offsets, self.lengths = torch.split(numbers, sizes)
        self.row, self.slot, self.place = row.view(len(rows), 1, most), slot[:, None], place[:, None]
