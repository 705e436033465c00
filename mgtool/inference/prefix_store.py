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
SLOTS = 8
"""Slots by which the room for prefixes grows at least."""


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

    @property
    def tokens(self) -> int:
        """Places for keys and values of a layer, those beyond a prefix counted."""
        return self.keys[0].shape[0] * self.keys[0].shape[2] if self.keys else 0

    def slot(self, prefix: Prefix) -> int:
        """The slot of a prefix, which is put into one where it has none."""
        known = self._held.get(id(prefix))
        if known is not None:
            return known[0]
        taken = {slot for slot, _ in self._held.values()}
        slot = next(number for number in range(len(taken) + 1) if number not in taken)
        self._make_room(prefix, slot + 1)
        self.lengths += [0] * (slot + 1 - len(self.lengths))
        for kept, own in ((self.keys, prefix.keys), (self.values, prefix.values)):
            for layer, tensor in zip(kept, own, strict=False):
                layer[slot] = 0
                layer[slot, :, : prefix.length] = tensor
        self.lengths[slot] = prefix.length
        self._held[id(prefix)] = slot, prefix
        self._point(slot, prefix, range(len(prefix.keys)))
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
        # several slots at a time, so that all that is there is seldom moved
        slots = has[0] if slots <= has[0] else max(slots, has[0] + max(SLOTS, has[0] // 4))
        for kept, like in ((self.keys, prefix.keys), (self.values, prefix.values)):
            kept += [one.new_zeros(0, one.shape[0], 0, one.shape[2]) for one in like[len(kept) :]]
            for number in range(len(kept)):
                kept[number] = _grown(kept[number], slots, max(tokens, has[2]))
                for slot, held in self._held.values():
                    self._point(slot, held, range(number, number + 1))

    def _point(self, slot: int, prefix: Prefix, layers: Sequence[int]) -> None:
        """Make a prefix's tensors of some layers views of its slot; what it had is free then."""
        for own, kept in ((prefix.keys, self.keys), (prefix.values, self.values)):
            for number in layers if prefix.length else ():
                own[number] = kept[number][slot, :, : prefix.length]


def _grown(old: Tensor, slots: int, tokens: int) -> Tensor:
    """A larger layer that holds what the old one held."""
    grown = old.new_zeros(slots, old.shape[1], tokens, old.shape[3])
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
