"""Finding items by their names, in a few bytes a name."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Sequence
from functools import cached_property

import numpy as np

from mgtool.scoring.benchmark import Item
from mgtool.scoring.statistics import chunks

_HASH_BITS = 64


def own_id(item: Item) -> tuple[str]:
    """The official one."""
    return (str(item.id),)


class ItemIndex(Container[str]):
    """Where the item of a name stands, in eight bytes a name: the head of its hash, and the place.

    A name that is found is compared with the item's own.

    Args:
        items: those of the benchmark.
        names: of an item.
    """

    def __init__(self, items: Sequence[Item], names: Callable[[Item], Iterable[str]] = own_id) -> None:
        self._items, self._names = items, names
        self._head = (1 << _HASH_BITS) - (1 << len(items).bit_length())
        self._keys = array("Q", (hash(name) & self._head | n for n, item in enumerate(items) for name in names(item)))
        np.frombuffer(self._keys, np.uint64).sort()

    @cached_property
    def is_unique(self) -> bool:
        """Whether no two items have a name in common."""
        keys, head = np.frombuffer(self._keys, np.uint64), np.uint64(self._head)
        for part in chunks(len(keys) - 1):
            heads = keys[part.start : part.stop + 1] & head
            for at in (np.flatnonzero(heads[1:] == heads[:-1]) + part.start).tolist():
                one, other = (set(self._names(self._items[keys[n] & ~head])) for n in (at, at + 1))
                if one & other:
                    return False
        return True

    def find(self, name: str) -> int | None:
        """The place of the last item with a name; None where none has it."""
        head = hash(name) & self._head
        at, found = bisect_left(self._keys, head), None
        while at < len(self._keys) and self._keys[at] & self._head == head:
            place = self._keys[at] - head
            if name in self._names(self._items[place]):
                found = place
            at += 1
        return found

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None
