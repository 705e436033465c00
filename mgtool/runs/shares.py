"""One input for several runs, each of which takes a stretch of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """What one of several runs does.

    Attributes:
        rank: from 0.
        world_size: number of shares; 1 is all of it.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def is_all(self) -> bool:
        """Whether there is no other."""
        return self.world_size == 1

    @property
    def name(self) -> str:
        """As it stands in the names of files.

        >>> Share(1, 4).name
        '00001-of-00004'
        """
        return f"{self.rank:05d}-of-{self.world_size:05d}"

    def stretch(self, total: int) -> tuple[int, int]:
        """Where it begins and ends in an input of `total` items.

        >>> [Share(rank, 3).stretch(10) for rank in range(3)]
        [(0, 3), (3, 6), (6, 10)]
        """
        return total * self.rank // self.world_size, total * (self.rank + 1) // self.world_size

    def of(self, read: Callable[[], Iterable[T]]) -> Iterator[T]:
        """This share of what `read` gives; unless that is all, it is read once before, to be counted.

        >>> list(Share(1, 3).of(lambda: "abcdefghij"))
        ['d', 'e', 'f']
        """
        if self.is_all:
            return iter(read())
        return itertools.islice(read(), *self.stretch(sum(1 for _ in read())))


ALL = Share()
