"""Pictures, boxes and conversations -> WebDataset tars with the same bytes whatever the number of workers.

A plan says which sample goes into which shard, so shards can be made in any order, and a second run makes only
those that are not complete. Keys count up over all shards of all splits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from mgtool import records
from mgtool.boxes.index import BoxIndex
from mgtool.files import atomic
from mgtool.packing import output as packshards
from mgtool.packing.layout import Base, Job
from mgtool.packing.options import Order, Recipe
from mgtool.packing.output import Output, _begin
from mgtool.packing.packer import Packer
from mgtool.packing.pipeline import _fill, _Filled, _in_order, _looks, _whole, _write
from mgtool.packing.plan import Plan
from mgtool.records import Failure
from mgtool.runs import run_file
from mgtool.tars import card
from mgtool.tars.writer import TarWriter


class Source(NamedTuple):
    """One input: its items, where its boxes are looked up, and the folder that its pictures' names begin in."""

    items: Iterator[records.Item]
    boxes: BoxIndex | None = None
    images: str | None = None


class Prepared(NamedTuple):
    """A plan that is ready to be carried out.

    Attributes:
        run: the record in the output folder; None where nothing is kept.
        base: where this run begins.
    """

    plan: Plan
    packer: Packer
    order: Order
    run: run_file.Run | None
    base: Base

    @property
    def jobs(self) -> Generator[Job]:
        """The shards that are to be made."""
        return self.plan.jobs(self.order.shard_size, self.base, self.order.names)


def prepare(
    plan: Plan, inputs: Sequence[Source], recipe: Recipe, order: Order, *, output: Output | None, workers: int
) -> Prepared:
    """Read the inputs and decide what goes where; writes nothing but the record of the run.

    Args:
        plan: an empty plan.
        inputs: what to pack.
        recipe: what becomes of a sample.
        order: how samples are dealt to shards.
        output: None for a stream.
        workers: processes that look into samples, where that is needed.

    Raises:
        ResumeError: an output that another run began, or whose complete shards hold other samples than the plan says.
    """
    if output is not None and not output.overwrite:
        plan.remember(packshards.done(report, path) for report, path in packshards.completed(output.folder))
    boxes = tuple(source.boxes for source in inputs)
    plan.gather([source.items for source in inputs], boxes=any(index is not None for index in boxes))
    layout, run, base = plan.layout, None, Base()
    if recipe.encoding is not None:
        layout = msgspec.structs.replace(layout, format=recipe.encoding[0])
    if output is not None:
        options = {**msgspec.to_builtins(recipe), **msgspec.to_builtins(order)}
        run, layout, base = _begin(output, options, _identified(plan, inputs), layout)
    plan.add_to(base)
    packer = Packer(layout, recipe, boxes)
    if recipe.selects or order.split or order.dedupe:
        plan.note(_looks(plan, packer, workers))
    plan.arrange(dedupe=order.dedupe, split=order.split, shuffle=order.shuffle)
    ready = Prepared(plan, packer, order, run, base)
    if output is not None and not output.overwrite:
        packshards.refuse_other_plan(output.folder, base, ready.jobs)
    return ready


def pack(ready: Prepared, folder: Path, *, workers: int, advance: Callable[[int], None]) -> dict[str, Any]:
    """Write the shards that are not there yet, then what describes them and ``failures.jsonl``; gives the counts.

    Args:
        ready: what `prepare` gave.
        folder: the output.
        workers: processes; they change nothing but the time.
        advance: told the number of items done.
    """
    atomic.sweep(folder)
    with contextlib.closing(ready.jobs) as planned:
        jobs = ((folder, job) for job in planned)
        for report in _in_order(_write, jobs, ready.packer, ready.plan.spool, workers, done=_whole):
            advance(report.items)
    atomic.sweep(folder)  # again: workers of a killed run may have outlived the first time
    counts = packshards.publish(folder, ready.order.names, ready.plan.skipped)
    card.describe(folder, packshards.tars(folder), packshards.entries(folder))
    return counts


def pack_stream(
    ready: Prepared, out: IO[bytes], *, advance: Callable[[int], None]
) -> tuple[dict[str, Any], list[Failure]]:
    """Write one tar to a stream; gives the counts and the failures."""
    writer, filled = TarWriter(out), _Filled()
    for job in ready.jobs:
        _fill(writer, job, ready.packer, ready.plan.spool, filled)
        advance(len(job.numbers))
    writer.finish()
    counts = {
        "samples": len(filled.rows),
        "skipped": filled.skipped + ready.plan.skipped,
        "failures": len(filled.failures),
    }
    return counts, filled.failures


def _identified(plan: Plan, inputs: Sequence[Source]) -> dict[str, Any]:
    return {
        "images": [source.images for source in inputs],
        "boxes": [source.boxes.sha256 if source.boxes is not None else None for source in inputs],
        "inputs": plan.input_sha256,
    }
