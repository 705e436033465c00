"""From samples to tars, over a pool of processes.

A plan says which sample goes into which shard, so shards can be made in any order, and a second run makes only
those that are not complete. Keys count up over all shards of all splits.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import chain, islice
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import msgspec

from mgtool import records
from mgtool.boxes.index import BoxIndex
from mgtool.errors import UNREACHABLE, ItemError
from mgtool.files import atomic
from mgtool.packing import replicas
from mgtool.packing.layout import Base, CompleteShard, Examined, Layout, ShardJob
from mgtool.packing.options import PackOptions
from mgtool.packing.output import ShardInputs, ShardReport, whole
from mgtool.packing.packer import Packer, Skipped
from mgtool.packing.plan import ShardPlan
from mgtool.packing.spool import Items, Spool
from mgtool.packing.survey import HASH_BYTES, pack_hashes
from mgtool.records import Advance, Failure, dumps
from mgtool.runs import progress
from mgtool.runs import workers as processes
from mgtool.runs.ray_nodes import Needs
from mgtool.runs.remote_output import filling, place_of, refresh
from mgtool.tars.index import SampleEntry
from mgtool.tars.writer import TarWriter

_KEY_DIGITS = 9

_AHEAD = 16
"""Samples whose pictures the system reads while another is packed."""

_EXAMINED_AT_A_TIME = 256
"""Samples that a worker looks into before it answers."""

J = TypeVar("J", "ShardToWrite", "SamplesToExamine")
R = TypeVar("R")


class OpenSource(NamedTuple):
    """One input: its items, and where its boxes are looked up; None for those that the items carry."""

    items: Iterator[records.Item]
    boxes: BoxIndex | None = None


class FilledShard(msgspec.Struct):
    """What became of a shard's items so far."""

    skipped: int = 0
    turned: int = 0
    failures: list[Failure] = []
    pictures: list[bytes] = []
    rows: list[SampleEntry] = []


def _from_the_start(plan: ShardPlan) -> tuple[Layout, Base]:
    return plan.layout, Base()


@contextlib.contextmanager
def planned(
    folder: Path,
    inputs: Sequence[OpenSource],
    options: PackOptions,
    *,
    earlier: Iterable[CompleteShard] = (),
    begin: Callable[[ShardPlan], tuple[Layout, Base]] = _from_the_start,
    needs: Needs | None = None,
) -> Iterator[ShardPlan]:
    """Read the inputs and decide what goes where; the plan's files are there until the block is left.

    Args:
        folder: an empty folder for the plan's files.
        inputs: what to pack.
        options: what becomes of a sample, and how samples are dealt to shards.
        earlier: the shards that are complete.
        begin: gives the layout and the beginning that earlier runs leave to this one; asked once the plan has read
            the inputs.
        needs: what nodes of a cluster have to see.

    Raises:
        InputError: no sample at all.
        ResumeError: a picture that changed after it was packed, or what `begin` raises.
    """
    with ShardPlan(folder, options, tuple(source.boxes for source in inputs)) as plan:
        plan.needs = needs
        plan.remember(earlier)
        plan.gather([source.items for source in inputs])
        plan.add_to(*begin(plan))
        if options.examines:
            plan.note(_examined(plan))
        plan.arrange()
        yield plan


def write_shards(plan: ShardPlan, folder: Path, advance: Advance) -> None:
    """Write the shards that are not there yet, each with its JSON.

    Args:
        plan: what goes where; complete shards hold what it says.
        folder: the output.
        advance: told the number of items done.
    """
    atomic.sweep(folder)
    place, done = place_of(folder), functools.partial(_whole, folder)
    if plan.options.on_cluster:
        refresh(folder)  # what was cleared here is cleared there, before others put files
    with contextlib.closing(plan.jobs()) as jobs:
        shards = (ShardToWrite(place if plan.options.on_cluster else folder, job) for job in jobs)
        with contextlib.closing(_results(_write, shards, plan, done=done, advance=advance)) as reports:
            for report in reports:
                for failure in report.failures:
                    progress.failed(advance, failure)
                advance(report.items)
    if plan.options.on_cluster:
        refresh(folder)
    atomic.sweep(folder)  # again: workers of a killed run may have outlived the first time


def write_stream(plan: ShardPlan, out: IO[bytes], advance: Advance) -> FilledShard:
    """Write one tar to a stream."""
    writer, filled = TarWriter(out, is_hashed=False), FilledShard()
    packer = _packer_of(plan)
    for job in plan.jobs():
        _fill(writer, job, packer, plan.spool, filled)
        advance(len(job.numbers))
    writer.finish()
    return filled


def ready_workers() -> BaseContext:
    """Have a process load what workers need, while this one goes on."""
    return processes.loaded(__name__)


class ShardToWrite(NamedTuple):
    """A shard, and where it belongs: a folder, or the URL of one in a store."""

    place: str | Path
    job: ShardJob

    @property
    def name(self) -> str:
        """Of its tar."""
        return self.job.tar

    @property
    def numbers(self) -> Sequence[int]:
        """Of its items."""
        return self.job.numbers


class SamplesToExamine(NamedTuple):
    """Items of the plan that are looked into together."""

    numbers: Sequence[int]

    @property
    def name(self) -> str:
        """For a cluster to show."""
        return f"samples from {self.numbers[0]} on"


_packer: Packer | None = None
_spool: Spool | None = None


def _begin_worker(packer: Packer, spool: Spool) -> None:
    _equip(packer, spool)
    processes.begin()


def _equip(packer: Packer, spool: Spool) -> None:
    global _packer, _spool
    _packer, _spool = packer, spool


def _packer_of(plan: ShardPlan) -> Packer:
    return Packer(plan.layout, plan.options, plan.boxes)


def workers_of(options: PackOptions) -> int:
    """How many processes pack."""
    return options.workers or processes.default_workers()


def _results(
    task: replicas.Task[J, R],
    jobs: Iterable[J],
    plan: ShardPlan,
    *,
    done: Callable[[J], R | None] = lambda job: None,
    advance: Advance = lambda count: None,
) -> Generator[R]:
    """Results of all jobs, on a cluster as they come; what `done` has a result for is not worked on again."""
    if not plan.options.on_cluster:
        yield from _in_order(task, jobs, plan, done)
        return
    finished = deque[R]()
    left = (job for job in jobs if not _is_done(job, done, finished))
    if (first := next(left, None)) is not None:
        for result in replicas.each(task, chain([first], left), plan, advance):
            yield from _drained(finished)
            yield result
    yield from _drained(finished)


def _is_done(job: J, done: Callable[[J], R | None], finished: deque[R]) -> bool:
    result = done(job)
    if result is not None:
        finished.append(result)
    return result is not None


def _drained(finished: deque[R]) -> Iterator[R]:
    while finished:
        yield finished.popleft()


def _in_order(
    task: replicas.Task[J, R], jobs: Iterable[J], plan: ShardPlan, done: Callable[[J], R | None]
) -> Iterator[R]:
    """By processes of this machine, in order."""
    workers, equipment = workers_of(plan.options), (_packer_of(plan), plan.spool)
    if workers == 1:
        for job in jobs:
            yield done(job) or task(job, *equipment)
        return
    waiting: deque[Future[R] | R] = deque()
    with processes.pool(workers, ready_workers(), "packs", initializer=_begin_worker, initargs=equipment) as pool:
        for job in jobs:
            waiting.append(done(job) or pool.submit(_do, task, job))
            if len(waiting) > 2 * workers:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())


def _do(task: replicas.Task[J, R], job: J) -> R:
    """In a worker."""
    assert _packer is not None
    assert _spool is not None
    return task(job, _packer, _spool)


def _result(waiting: Future[R] | R) -> R:
    return waiting.result() if isinstance(waiting, Future) else waiting


def _examined(plan: ShardPlan) -> Iterator[Examined]:
    """What is in the samples of a plan."""
    numbers = plan.numbers()
    batches = iter(lambda: SamplesToExamine(tuple(islice(numbers, _EXAMINED_AT_A_TIME))), SamplesToExamine(()))
    for examined in _results(_examine, batches, plan):
        yield from examined


def _examine(batch: SamplesToExamine, packer: Packer, items: Items) -> list[Examined]:
    return [_examine_one(number, item, packer, source) for number, source, item in items.read(batch.numbers)]


def _examine_one(number: int, item: records.Item, packer: Packer, source: int) -> Examined:
    if isinstance(item, Failure):
        return Examined(number, True)
    try:
        wanted, hashes = packer.examine(item, source)
    except ItemError as error:
        return Examined(number, True, failure=error)
    except Skipped:
        return Examined(number, False)
    pictures = pack_hashes(hashes)
    return Examined(number, wanted, pictures, hashlib.sha256(pictures + dumps(item.turns)).digest()[:HASH_BYTES])


def _whole(folder: Path, shard: ShardToWrite) -> ShardReport | None:
    """The report of a shard that is complete; it was looked at before that it holds the job's items.

    One that lacks what could not be reached is written again.
    """
    report = whole((folder / shard.job.tar).with_suffix(".json"))
    if report is None or any(failure.reason == UNREACHABLE for failure in report.failures):
        return None
    return report


def _write(shard: ShardToWrite, packer: Packer, items: Items) -> ShardReport:
    """Write a shard, then the JSON that marks it complete; no tar where nothing is left of its items."""
    began, job, filled = time.time_ns(), shard.job, FilledShard()
    sidecar = str(Path(job.tar).with_suffix(".json"))
    with filling(shard.place, job.tar, sidecar) as folder:
        path = folder / job.tar
        with atomic.atomic_file(path) as file:
            writer = TarWriter(file)
            _fill(writer, job, packer, items, filled)
            writer.finish()
        if not filled.rows:
            path.unlink()
        report = _report(job, writer, filled)
        with atomic.atomic_file(folder / sidecar) as file:
            file.write(dumps(report) + b"\n")
            file.flush()
            os.utime(file.fileno(), ns=(began, began))  # what is touched from here on may have changed
    return report


def _report(job: ShardJob, writer: TarWriter, filled: FilledShard) -> ShardReport:
    return ShardReport(
        split=job.split,
        shard=job.shard,
        key=job.key,
        items=len(job.numbers),
        samples=len(filled.rows),
        skipped=filled.skipped,
        turned=filled.turned,
        bytes=writer.bytes if filled.rows else 0,
        sha256=writer.sha256 if filled.rows else "",
        md5=writer.md5 if filled.rows else "",
        failures=tuple(filled.failures),
        inputs=ShardInputs(job.digests, job.contents, tuple(filled.pictures)),
        rows=tuple(filled.rows),
    )


def _announced(
    rows: Iterable[tuple[int, int, records.Item]], packer: Packer
) -> Iterator[tuple[int, int, records.Item]]:
    """The same rows, while the system reads the pictures of those to come: a worker does not wait for the disk."""
    waiting: deque[tuple[int, int, records.Item]] = deque()
    try:
        for row in rows:
            if not isinstance(row[2], Failure):
                packer.announce(row[2])
            waiting.append(row)
            if len(waiting) > _AHEAD:
                yield waiting.popleft()
        yield from waiting
    finally:
        packer.close()


def _fill(writer: TarWriter, job: ShardJob, packer: Packer, items: Items, filled: FilledShard) -> None:
    """Add the items that can be used."""
    for key, (number, source, item) in enumerate(_announced(items.read(job.numbers), packer), job.key):
        hashes = b""
        try:
            if isinstance(item, Failure):
                filled.failures.append(item)
                continue
            if number in job.refused:
                raise job.refused[number]
            began, name = writer.bytes, f"{key:0{_KEY_DIGITS}d}"
            members = packer.pack(item, source)
            writer.add(name, members.parts)
            size = writer.bytes - began
            filled.rows.append(SampleEntry(str(item.id), name, job.tar, began, size, *members.size, members.boxes))
            hashes = pack_hashes(members.hashes)
            filled.turned += members.turned
        except ItemError as error:
            filled.failures.append(Failure.of(item.id, "pack", error))
        except Skipped:
            filled.skipped += 1
        finally:
            filled.pictures.append(hashes)
