"""Packed samples for other programs: in order, at random, or shuffled over ranks and workers for training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import IterableDataset, get_worker_info

from mgtool.errors import InputError, ItemError
from mgtool.records import Failure, Sample
from mgtool.tars.index import TarIndex

T = TypeVar("T")


class TarDataset(IterableDataset[T], Generic[T]):
    """Every sample of tars once in an epoch, over any number of ranks and of `DataLoader` workers.

    The order of an epoch depends on `seed` and the epoch alone. Rank r takes every world-size-th sample of it, and
    the workers of a rank take turns by batches, so that a `DataLoader` gives the same stream with any number of
    workers. After k batches of `batch_size` on each rank, the first k x batch_size x world size samples of the order
    have been given: `set_epoch` goes on from there, also with another number of ranks or workers.

    Args:
        source: as `mgtool.open_tars` takes it, but for ``-``; local tars that are not compressed.
        transform: makes what the loader gives of a sample, for instance a model's input.
        seed: of the shuffling; None keeps the order of the tars.
        batch_size: of the `DataLoader`.
        rank, world_size: this process among those that share the samples; from the environment where None.
        even: leave out the last samples of an epoch, fewer than `world_size`, so that all ranks get equally many.
        on_failure: told of samples that cannot be used, which are then left out; without it they raise.
    """

    def __init__(
        self,
        source: str | Path | Sequence[str | Path],
        transform: Callable[[Sample], T],
        *,
        seed: int | None = 0,
        batch_size: int = 1,
        rank: int | None = None,
        world_size: int | None = None,
        even: bool = False,
        on_failure: Callable[[Failure], None] | None = None,
    ) -> None:
        super().__init__()
        self.index = TarIndex.of(source)
        self.transform = transform
        self.seed, self.batch_size, self.even, self.on_failure = seed, batch_size, even, on_failure
        self.rank = int(os.environ.get("RANK", "0")) if rank is None else rank
        self.world_size = int(os.environ.get("WORLD_SIZE", "1")) if world_size is None else world_size
        self._pass = torch.zeros(2, dtype=torch.int64)
        self._pass.share_memory_()  # type: ignore[no-untyped-call]

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy of its own, as `pickle` and `copy` make it, shares with its own workers."""
        self.__dict__.update(state)
        self._pass.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def epoch(self) -> int:
        """Number of the pass."""
        return int(self._pass[0])

    @property
    def start(self) -> int:
        """Samples of the pass that all ranks together have had before."""
        return int(self._pass[1])

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the order of the next pass, also for workers that live on (`persistent_workers`).

        Args:
            epoch: number of the pass.
            start: samples of it that all ranks together have had before.
        """
        self._pass[0], self._pass[1] = epoch, start

    def __len__(self) -> int:
        """Samples of this rank in this pass."""
        return len(self._mine())

    def __iter__(self) -> Iterator[T]:
        """This worker's part of this rank's samples."""
        worker = get_worker_info()
        number, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        mine = self._mine()
        for first in range(number * self.batch_size, len(mine), count * self.batch_size):
            for position in mine[first : first + self.batch_size]:
                try:
                    loaded = self.transform(self.index[int(position)])
                except ItemError as error:
                    self._fail(int(position), error)
                else:
                    yield loaded

    def pipeline(self, *stages: Any) -> Any:
        """These samples through stages of webdataset: a ``webdataset.DataPipeline``.

        Args:
            stages: as webdataset has them, for instance ``webdataset.map(f)``, ``webdataset.shuffle(100)`` or
                ``webdataset.batched(8)``; this data set has shared the samples out already.
        """
        import webdataset

        return webdataset.DataPipeline(self, *stages)

    def _mine(self) -> npt.NDArray[np.int64]:
        order = np.arange(len(self.index))
        if self.seed is not None:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(order)
        order = order[self.start :]
        if self.even:
            order = order[: len(order) - len(order) % self.world_size]
        return order[self.rank :: self.world_size]

    def _fail(self, position: int, error: ItemError) -> None:
        entry = self.index.entry(position)
        if self.on_failure is None:
            raise InputError(f"{entry.shard}: {entry.key}: {error}") from error
        self.on_failure(Failure.of(entry.id or entry.key, "load", error))
