"""Finding items by their names, in a few bytes a name."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np

from mgtool.scoring.compact import HASH
from mgtool.scoring.number_file import NumberFile, SortedNumbers

T = TypeVar("T")


def own_id(item: Any) -> tuple[str]:
    """The official one."""
    return (str(item.id),)


class ItemIndex(Container[str], Generic[T]):
    """Where the item of a name stands, in eight bytes a name: the head of its hash, and the place.

    A name that is found is compared with the item's own.

    Args:
        items: those of the benchmark, or other records with names.
        names: of an item.

    Raises:
        OutputError: when the temporary file for many names cannot be written.
    """

    def __init__(self, items: Sequence[T], names: Callable[[T], Iterable[str]] = own_id) -> None:
        self._items, self._names = items, names
        self._head = HASH + 1 - (1 << len(items).bit_length())
        keys = NumberFile()
        keys.extend(hash(name) & self._head | n for n, item in enumerate(items) for name in names(item))
        self._keys = SortedNumbers(keys)

    @cached_property
    def is_unique(self) -> bool:
        """Whether no two items have a name in common."""
        head, last = np.uint64(self._head), np.empty(0, np.uint64)
        for block in self._keys:
            keys = np.concatenate([last, block])
            heads, last = keys & head, block[-1:]
            for at in np.flatnonzero(heads[1:] == heads[:-1]).tolist():
                one, other = (set(self._names(self._items[int(keys[n] & ~head)])) for n in (at, at + 1))
                if one & other:
                    return False
        return True

    def find(self, name: str) -> int | None:
        """The place of the last item with a name; None where none has it."""
        head, found = hash(name) & self._head, None
        for key in self._keys.since(head):
            if key & self._head != head:
                break
            if name in self._names(self._items[key - head]):
                found = key - head
        return found

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None


class ItemFinder(Generic[T]):
    """Items by their names, for those who ask in about the order of the items: the one behind the last comes first.

    Args:
        items, names: as of `ItemIndex`.
    """

    def __init__(self, items: Sequence[T], names: Callable[[T], Iterable[str]] = own_id) -> None:
        self._items, self._names = items, names
        self.index = ItemIndex(items, names)
        self._next, self._count = 0, len(items)
        self._ahead: Iterator[T] | None = iter(items) if self.index.is_unique else None
        self._waiting = None if self._ahead is None else next(self._ahead, None)

    def find(self, name: str) -> tuple[int, T] | None:
        """The last item with a name, and its place; None where none has it."""
        if self._waiting is not None and name in self._names(self._waiting):
            found = self._next, self._waiting
            self._await(self._next + 1)
            return found
        place = self.index.find(name)
        if place is None:
            return None
        found = place, self._items[place]
        if self.index.is_unique:
            self._ahead = None
            self._await(place + 1)
        return found

    def _await(self, place: int) -> None:
        """The item that is likely to be asked for next: of the whole pass, as long as nobody asked out of order."""
        self._next = place
        if self._ahead is not None:
            self._waiting = next(self._ahead, None)
        else:
            self._waiting = self._items[place] if place < self._count else None
