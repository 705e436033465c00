"""One input for several runs, each of which takes a stretch of it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mgtool.errors import UsageError
from mgtool.files.holders import host
from mgtool.files.local import refuse_url

T = TypeVar("T")
ANY, ANY_RANK = "any", -1
"""What asks for whichever shares are free."""


@dataclass(frozen=True)
class Share:
    """What one of several runs does.

    Attributes:
        rank: from 0; `ANY_RANK` for whichever shares are free.
        world_size: number of shares; 1 is all of it.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def is_all(self) -> bool:
        """Whether there is no other."""
        return self.world_size == 1

    @property
    def is_any(self) -> bool:
        """Whether it stands for whichever shares are free."""
        return self.rank == ANY_RANK

    @property
    def all(self) -> list[Share]:
        """Every share of the run, in order, but for this one's rank, which comes first."""
        first = max(self.rank, 0)
        return [Share((first + step) % self.world_size, self.world_size) for step in range(self.world_size)]

    @property
    def name(self) -> str:
        """As it stands in the names of files.

        >>> Share(1, 4).name
        '00001-of-00004'
        """
        if self.is_any:
            return f"any-{host()}-{os.getpid()}"
        return f"{self.rank:05d}-of-{self.world_size:05d}"

    def stretch(self, total: int) -> tuple[int, int]:
        """Where it begins and ends in an input of `total` items.

        >>> [Share(rank, 3).stretch(10) for rank in range(3)]
        [(0, 3), (3, 6), (6, 10)]
        """
        if self.is_any:
            return 0, total
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

_SLURM, _TORCHRUN = "slurm", "torchrun"
LAUNCHERS = {_SLURM: ("SLURM_PROCID", "SLURM_NTASKS"), _TORCHRUN: ("RANK", "WORLD_SIZE")}
"""Variables of launchers that say a process's rank and how many there are."""
_ARRAY = "SLURM_ARRAY_TASK_"


def share_of(rank: str, world_size: int) -> Share:
    """A run's share, from a launcher's variables where one is named.

    >>> share_of("2", 4)
    Share(rank=2, world_size=4)

    Raises:
        UsageError: no rank, or one that the number of shares does not have.
    """
    if rank in LAUNCHERS:
        share = _launched(rank)
    elif rank == ANY:
        share = Share(ANY_RANK, world_size)
    elif _is_number(rank):
        share = Share(int(rank), world_size)
    else:
        raise UsageError("rank", f"{rank[:_DIGITS]}: give a number from 0, any, slurm or torchrun")
    if share.is_any and share.is_all:
        raise UsageError("rank", "any: give `world_size`, the number of shares, best some for each process")
    if share.world_size > MOST_SHARES:
        raise UsageError("world_size", f"{share.world_size}: at most {MOST_SHARES:,} shares")
    if share.rank >= share.world_size:
        last = share.world_size - 1
        raise UsageError("rank", f"{share.rank}: with `world_size` {share.world_size} ranks go from 0 to {last}")
    return share


def _launched(launcher: str) -> Share:
    """What a launcher's variables say; every task of a job array is as many ranks as it has processes."""
    share = Share(*(_variable(launcher, name) for name in LAUNCHERS[launcher]))
    if launcher != _SLURM or f"{_ARRAY}ID" not in os.environ:
        return share
    task, count = (_variable(launcher, _ARRAY + name) for name in ("ID", "COUNT"))
    first, last, step = (_variable(launcher, _ARRAY + name) for name in ("MIN", "MAX", "STEP"))
    if (last - first) // max(step, 1) + 1 != count or (task - first) % max(step, 1):
        names = f"{first} to {last} by {step} are not its {count} tasks"
        raise UsageError("rank", f"slurm: {_ARRAY}ID {task} of an array with gaps, {names}: give numbers without gaps")
    return Share((task - first) // max(step, 1) * share.world_size + share.rank, count * share.world_size)


def _variable(launcher: str, name: str) -> int:
    value = os.environ.get(name, "")
    if not _is_number(value):
        raise UsageError("rank", f"{launcher}: the variable {name} is not there")
    return int(value)


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= _DIGITS


def check_share(share: Share, out: str | None, inputs: Sequence[str]) -> None:
    """Refuse an output that is no path, and a share that would read or write what other runs cannot.

    Raises:
        UsageError: a URL to write to; stdin or stdout in a run of several shares.
    """
    refuse_url("out", out or "", allows_stores=True)
    if not share.is_all and (out == "-" or "-" in inputs):
        raise UsageError("rank", ": shares of a run need inputs and an output on disk, not -")
