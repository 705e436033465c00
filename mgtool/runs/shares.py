"""One input for several runs, each of which takes a stretch of it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mgtool.errors import UsageError
from mgtool.files.local import refuse_url

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
MOST_SHARES = 99_999
"""As many as their names count."""
_DIGITS = 9

LAUNCHERS = {"slurm": ("SLURM_PROCID", "SLURM_NTASKS"), "torchrun": ("RANK", "WORLD_SIZE")}
"""Variables of launchers that say a process's rank and how many there are."""


def share_of(rank: str, world_size: int) -> Share:
    """A run's share, from a launcher's variables where one is named.

    >>> share_of("2", 4)
    Share(rank=2, world_size=4)

    Raises:
        UsageError: no rank, or one that the number of shares does not have.
    """
    if rank in LAUNCHERS:
        names = LAUNCHERS[rank]
        missing = [name for name in names if not _is_number(os.environ.get(name, ""))]
        if missing:
            raise UsageError("rank", f"{rank}: the variable {missing[0]} is not there")
        share = Share(*(int(os.environ[name]) for name in names))
    elif _is_number(rank):
        share = Share(int(rank), world_size)
    else:
        raise UsageError("rank", f"{rank[:_DIGITS]}: give a number from 0, slurm or torchrun")
    if share.world_size > MOST_SHARES:
        raise UsageError("world_size", f"{share.world_size}: at most {MOST_SHARES:,} shares")
    if share.rank >= share.world_size:
        last = share.world_size - 1
        raise UsageError("rank", f"{share.rank}: with `world_size` {share.world_size} ranks go from 0 to {last}")
    return share


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= _DIGITS


def check_share(share: Share, out: str | None, inputs: Sequence[str]) -> None:
    """Refuse an output that is no path, and a share that would read or write what other runs cannot.

    Raises:
        UsageError: a URL to write to; stdin or stdout in a run of several shares.
    """
    refuse_url("out", out or "")
    if not share.is_all and (out == "-" or "-" in inputs):
        raise UsageError("rank", ": shares of a run need inputs and an output on disk, not -")
