"""What all groups' rows begin with, in one tensor a layer, so that a step attends to all of it at once."""

from __future__ import annotations

import itertools
from collections import Counter
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
    def of(cls, cache: DynamicCache, offset: int = 0, *, row: int = 0, length: int | None = None) -> Prefix:
        """The first tokens, or all, of a row of a cache, (rows, heads, P, d) a layer."""
        keys = [layer.keys[row, :, :length] for layer in cache.layers]
        values = [layer.values[row, :, :length] for layer in cache.layers]
        return cls(keys, values, keys[0].shape[1] if keys else 0, offset)

    def turn(self) -> None:
        """Lay values in float32 out with tokens last in memory, the order in which one row's weights meet them."""
        for layer, values in enumerate(self.values):
            if values.dtype == torch.float32:
                self.values[layer] = values.mT.contiguous().mT


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

    def tokens_with(self, prefixes: Iterable[Prefix]) -> int:
        """Places for keys and values of a layer, those beyond a prefix counted, and tokens of prefixes not put here."""
        elsewhere = {id(one): one.length for one in prefixes if id(one) not in self._held}
        return (self.keys[0].shape[0] * self.keys[0].shape[2] if self.keys else 0) + sum(elsewhere.values())

    @property
    def room(self) -> int:
        """Tokens that each slot has places for."""
        return self.keys[0].shape[2] if self.keys else 0

    def slots(self, prefixes: Sequence[Prefix]) -> list[int]:
        """The slot of each prefix; those that have none are put into one, all together."""
        new = [one for one in {id(one): one for one in prefixes}.values() if id(one) not in self._held]
        taken = {slot for slot, _ in self._held.values()}
        free = itertools.filterfalse(taken.__contains__, itertools.count())
        found = list(itertools.islice(free, len(new)))
        self.lengths += [0] * (max(found, default=-1) + 1 - len(self.lengths))
        for slot, prefix in zip(found, new, strict=True):
            self._held[id(prefix)] = slot, prefix
            self.lengths[slot] = prefix.length
        filled = [(slot, prefix) for slot, prefix in zip(found, new, strict=True) if prefix.length]
        self._make_room(len(self.lengths), max((prefix.length for _, prefix in filled), default=0), filled)
        if filled:
            self._fill(filled)
        return [self._held[id(prefix)][0] for prefix in prefixes]

    def _fill(self, new: Sequence[tuple[int, Prefix]]) -> None:
        """Put prefixes into their slots, in as many operations as one."""
        slots = [slot for slot, _ in new]
        numbers = [[slot] * prefix.length for slot, prefix in new], [range(prefix.length) for _, prefix in new]
        rows, places = torch.tensor([[*itertools.chain(*each)] for each in numbers])
        keys, values = [prefix.keys for _, prefix in new], [prefix.values for _, prefix in new]
        for kept, own in ((self.keys, keys), (self.values, values)):
            for number, layer in enumerate(kept):
                layer[torch.tensor(slots, device=layer.device)] = 0
                tokens = torch.cat([layers[number] for layers in own], dim=1)
                layer[rows.to(layer.device), :, places.to(layer.device)] = tokens.transpose(0, 1)
        for slot, prefix in new:
            self._point(slot, prefix, range(len(prefix.keys)))

    def keep(self, prefixes: Iterable[Prefix]) -> None:
        """Free the slots of all others."""
        wanted = {id(prefix) for prefix in prefixes}
        for name in [name for name in self._held if name not in wanted]:
            self.lengths[self._held.pop(name)[0]] = 0
        while self.lengths and len(self.lengths) - 1 not in {slot for slot, _ in self._held.values()}:
            self.lengths.pop()

    def make_slots(self, count: int) -> None:
        """Grow to so many slots at least."""
        self._make_room(count, 0, [])

    def _make_room(self, slots: int, longest: int, new: Sequence[tuple[int, Prefix]]) -> None:
        """Grow to so many slots of so many tokens.

        Args:
            slots: that are needed.
            longest: tokens of the longest prefix.
            new: slots and prefixes that are put there next.
        """
        has = self.keys[0].shape if self.keys else (0, 0, 0, 0)
        tokens = -(-longest // BLOCK) * BLOCK
        if has[0] >= slots and has[2] >= tokens:
            return
        # several slots at a time, so that all that is there is seldom moved
        slots = has[0] if slots <= has[0] else max(slots, has[0] + max(SLOTS, has[0] // 4))
        numbers = {slot for slot, _ in new}
        like = new[0][1] if new else Prefix([], [], 0)
        for kept, own in ((self.keys, like.keys), (self.values, like.values)):
            kept += [one.new_zeros(0, one.shape[0], 0, one.shape[2]) for one in own[len(kept) :]]
            for number in range(len(kept)):
                kept[number] = _grown(kept[number], slots, max(tokens, has[2]))
                for slot, held in self._held.values():
                    self._point(slot, held, range(number, number + 1) if slot not in numbers else ())

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


class GridShape(NamedTuple):
    """The size of a grid.

    Attributes:
        rows, slots, places: R, G and Q.
        longest: tokens of the longest prefix.
    """

    rows: int
    slots: int
    places: int
    longest: int

    @property
    def sizes(self) -> list[int]:
        """How many numbers each attribute of a `Grid` has, in their order."""
        return [self.slots * self.places, *[self.rows] * 4, self.slots]


class Grid:
    """Rows by the slots of their prefixes: G slots with Q places each, of which some are empty.

    Args:
        shape: of the grid.
        numbers: int64, as `Placement.numbers` gives them; the attributes are views of it.

    Attributes:
        row: (G, 1, Q) int64, the row at each place; an empty place repeats the first.
        slot, place: (R, 1) int64, of each row.
        starts, offsets: (R,) int64, tokens before each row's own, and what is added to its positions.
        lengths: (G,) int64, of the prefixes.
    """

    def __init__(self, shape: GridShape, numbers: Tensor) -> None:
        self.shape, self.longest = shape, shape.longest
        row, slot, place, self.starts, self.offsets, self.lengths = torch.split(numbers, shape.sizes)
        self.row, self.slot, self.place = row.view(shape.slots, 1, shape.places), slot[:, None], place[:, None]


class Placement(NamedTuple):
    """Where rows stand.

    Attributes:
        slots: of each row's prefix.
        prefixes: of each row.
        lengths: of the prefix in each slot.
    """

    slots: list[int]
    prefixes: Sequence[Prefix]
    lengths: list[int]

    @classmethod
    def of(cls, store: PrefixStore, prefixes: Sequence[Prefix]) -> Placement:
        """Of rows whose prefixes are put into a store where they are not there yet."""
        slots = store.slots(prefixes)
        return cls(slots, prefixes, store.lengths[: max(slots, default=0) + 1])

    @property
    def shape(self) -> GridShape:
        """The smallest grid."""
        most = max(Counter(self.slots).values(), default=1)
        return GridShape(len(self.slots), len(self.lengths), most, max(self.lengths, default=0))

    def grid(self, device: torch.device) -> Grid:
        """The smallest grid, on a device."""
        return Grid(self.shape, torch.tensor(self.numbers(self.shape), device=device))

    def numbers(self, shape: GridShape) -> list[int]:
        """A grid's numbers, of which those of rows and slots that are not there are 0."""
        rows: list[list[int]] = [[] for _ in range(shape.slots)]
        places = []
        for number, slot in enumerate(self.slots):
            places.append(len(rows[slot]))
            rows[slot].append(number)
        filled = [one + [0] * (shape.places - len(one)) for one in rows]
        starts, offsets = [prefix.length for prefix in self.prefixes], [prefix.offset for prefix in self.prefixes]
        of_rows = [one + [0] * (shape.rows - len(one)) for one in (self.slots, places, starts, offsets)]
        lengths = self.lengths + [0] * (shape.slots - len(self.lengths))
        return [*itertools.chain(*filled, *of_rows), *lengths]
