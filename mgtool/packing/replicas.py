"""Packing on a Ray cluster: each process holds what packs samples, and is given a shard's samples when it is free."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from mgtool.boxes.index import BoxIndex
from mgtool.packing.layout import Layout
from mgtool.packing.options import PackOptions
from mgtool.packing.packer import Packer
from mgtool.packing.plan import ShardPlan
from mgtool.packing.spool import CarriedItems, Items
from mgtool.records import Advance
from mgtool.runs import ray_nodes
from mgtool.runs.ray_actors import Unit
from mgtool.runs.ray_cluster import Cluster, run_units


class Job(Unit, Protocol):
    """What is done at once; `name` is what the cluster shows."""

    @property
    def numbers(self) -> Sequence[int]:
        """Of its samples in the plan's spool."""


J = TypeVar("J", bound=Job)
R = TypeVar("R")
Task = Callable[[J, Packer, Items], R]
"""Does a job with what packs samples, and with its samples; is found in a module."""


class _Loaded(NamedTuple):
    job: Any
    items: CarriedItems


def each(task: Task[J, R], jobs: Iterable[J], plan: ShardPlan, advance: Advance) -> Generator[R]:
    """Results of all jobs, in the order in which they are done; `advance` is told of the nodes' work.

    Nodes need the pictures and the output, and neither the inputs nor the boxes, which the driver has read.

    Raises:
        UsageError, MgtoolError, OutputError: as of `run_units`.
    """
    indexes = [index for index in plan.boxes if index is not None]
    states = [None if index is None else index.__getstate__() for index in plan.boxes]
    return run_units(
        functools.partial(_packing, task, plan.layout, plan.options, states),
        Cluster.of(plan.options, 0, cpus_each=1),
        jobs,
        name="pack",
        files=[index.file for index in indexes],
        loaded=lambda job: _Loaded(job, plan.spool.carried(job.numbers)),
        advance=advance,
        needs=plan.needs,
        work=plan.work,
    )


def _packing(
    task: Task[J, R], layout: Layout, options: PackOptions, states: Sequence[dict[str, Any] | None], *copies: Path
) -> Callable[[_Loaded], R]:
    """On a node."""
    rest = iter(copies)
    boxes = tuple(None if state is None else BoxIndex.of_copy(state, next(rest)) for state in states)
    packer = Packer(layout, options, boxes)

    def do(loaded: _Loaded) -> R:
        result = task(loaded.job, packer, loaded.items)
        ray_nodes.done_here(len(loaded.job.numbers))
        return result

    return do
