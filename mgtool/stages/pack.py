"""Pictures, boxes and conversations -> WebDataset tars with the same bytes whatever the number of workers.

A plan says which sample goes into which shard, so shards can be made in any order, and a second run makes only
those that are not complete. Keys count up over all shards of all splits.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import islice
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import msgspec

from mgtool import packshards, records
from mgtool.boxes.index import BoxIndex
from mgtool.errors import ItemError, ResumeError
from mgtool.files import atomic
from mgtool.media import reading
from mgtool.packing import Layout, Packer, Recipe, Skipped
from mgtool.packplan import Base, Job, Plan, Size
from mgtool.packsurvey import Look, Spool, look, pack_hashes
from mgtool.records import Failure, canonical, convert, dumps, media_of
from mgtool.runs import run_file
from mgtool.runs import workers as processes
from mgtool.tars import card
from mgtool.tars.index import Entry
from mgtool.tars.writer import TarWriter

STAGE = "pack"

_KEY_DIGITS = 9
_AHEAD = 16
"""Samples whose pictures the system reads while another is packed."""

_LOOKS = 256
"""Samples that a worker looks into at a time."""

_RENEWED = ("input", "images", "boxes")
"""What of a run's identity is new where it adds to a finished one."""

T = TypeVar("T")
R = TypeVar("R")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """How samples are dealt to shards; a part of a run's identity.

    Attributes:
        shard_size: samples of a shard, or bytes.
        shuffle: seed of the order; None for the input's.
        split: share of each split by name; empty for one set.
        dedupe: whether samples with the same pictures and conversation as one before are left out.
    """

    shard_size: Size = Size(1000)
    shuffle: int | None = None
    split: dict[str, float] = {}
    dedupe: bool = False

    @property
    def names(self) -> list[str]:
        """Names of the splits; one empty name without."""
        return list(self.split) or [""]


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


class Output(NamedTuple):
    """Where a run writes.

    Attributes:
        folder: the tars'.
        about: what the record of the run says beside its identity.
        append: whether a finished run may be added to.
        overwrite: whether an earlier run does not count.
        dry: whether nothing is to be written.
    """

    folder: Path
    about: Mapping[str, Any]
    append: bool = False
    overwrite: bool = False
    dry: bool = False


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
        identity = _identity(plan, inputs, recipe, order)
        run, layout, base = _begin(output, identity, layout)
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


def _identity(plan: Plan, inputs: Sequence[Source], recipe: Recipe, order: Order) -> dict[str, Any]:
    return {
        **msgspec.to_builtins(recipe),
        **msgspec.to_builtins(order),
        "images": [source.images for source in inputs],
        "boxes": [source.boxes.sha256 if source.boxes is not None else None for source in inputs],
        "input": plan.input_sha256,
    }


def _begin(output: Output, identity: Mapping[str, Any], layout: Layout) -> tuple[run_file.Run, Layout, Base]:
    """The record of the run, with the layout and the beginning that earlier runs in the folder leave to this one."""
    run = run_file.Run(output.folder / run_file.RUN_FILE, command="pack", identity=identity, about=output.about)
    before = {} if output.overwrite else run.before()
    base, new = convert(before.get("base", {}), Base, where=str(run.path)), layout
    if before:
        layout = convert(before.get("layout", new), Layout, where=str(run.path))
        old = before.get("identity", {})
        different = {key for key in {*old, *identity} if canonical(old.get(key)) != canonical(identity.get(key))}
        can_append = bool(before.get("finished") and different and different <= {*_RENEWED})
        if can_append and not output.append:
            what = " and ".join(sorted(different))
            raise ResumeError(
                f"{output.folder} holds a run with other {what}: add --append to pack what is new in it as well, "
                "choose another --out or add --overwrite"
            )
        if can_append:
            base = packshards.after(output.folder)
            if new.boxes and not layout.boxes:
                raise ResumeError(f"{output.folder} holds samples without boxes: pack those with boxes elsewhere")
            if new.pictures and layout.boxes and not new.boxes:
                raise ResumeError(f"{output.folder} holds samples with boxes: give --boxes for the new ones, too")
    run.record |= {"base": msgspec.to_builtins(base), "layout": msgspec.to_builtins(layout)}
    _begin_or_check(run, output)
    return run, layout, base


def _begin_or_check(run: run_file.Run, output: Output) -> None:
    renewed = _RENEWED if output.append else ()
    if not output.dry:
        if output.overwrite:
            packshards.clear(output.folder)
        run.begin(overwrite=output.overwrite, renewed=renewed)
    elif not output.overwrite:
        run.check(renewed=renewed)


_packer: Packer | None = None
_spool: Spool | None = None


def _begin_worker(packer: Packer, spool: Spool) -> None:
    _equip(packer, spool)
    processes.begin()


def _equip(packer: Packer, spool: Spool) -> None:
    global _packer, _spool
    _packer, _spool = packer, spool


def ready_workers() -> BaseContext:
    """Have a process load what workers need, while this one goes on; they are then forked off it, and begin at once."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])
    forkserver.ensure_running()
    return context


def _in_order(
    task: Callable[[T], R],
    jobs: Iterable[T],
    packer: Packer,
    spool: Spool,
    workers: int,
    *,
    done: Callable[[T], R | None] = lambda job: None,
) -> Iterator[R]:
    """Results of all jobs, in order; what `done` has a result for is not worked on again."""
    if workers == 1:
        _equip(packer, spool)
        for job in jobs:
            yield done(job) or task(job)
        return
    context = ready_workers()
    waiting: deque[Future[R] | R] = deque()
    with processes.pool(workers, context, "packs", initializer=_begin_worker, initargs=(packer, spool)) as pool:
        for job in jobs:
            waiting.append(done(job) or pool.submit(task, job))
            if len(waiting) > 2 * workers:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())


def _result(waiting: Future[R] | R) -> R:
    return waiting.result() if isinstance(waiting, Future) else waiting


def _looks(plan: Plan, packer: Packer, workers: int) -> Iterator[Look]:
    numbers = plan.numbers()
    batches = iter(lambda: list(islice(numbers, _LOOKS)), [])
    for looks in _in_order(_look, batches, packer, plan.spool, workers):
        yield from looks


def _look(numbers: list[int]) -> list[Look]:
    assert _packer is not None
    assert _spool is not None
    return [look(number, item, _packer, source) for number, source, item in _spool.read(numbers)]


def _whole(folder_job: tuple[Path, Job]) -> packshards.ShardReport | None:
    """The report of a shard that is complete; `prepare` has seen that it holds the job's items."""
    folder, job = folder_job
    return packshards.whole((folder / job.tar).with_suffix(".json"))


class _Filled(msgspec.Struct):
    """What became of a shard's items so far."""

    skipped: int = 0
    failures: list[Failure] = []
    pictures: list[bytes] = []
    rows: list[Entry] = []


def _write(folder_job: tuple[Path, Job]) -> packshards.ShardReport:
    """Write a shard, then the JSON that marks it complete; no tar where nothing is left of its items."""
    assert _packer is not None
    assert _spool is not None
    folder, job = folder_job
    began, path, filled = time.time_ns(), folder / job.tar, _Filled()
    with atomic.atomic_file(path) as file:
        writer = TarWriter(file)
        _fill(writer, job, _packer, _spool, filled)
        writer.finish()
    if not filled.rows:
        path.unlink()
    report = packshards.ShardReport(
        split=job.split,
        shard=job.shard,
        key=job.key,
        items=len(job.numbers),
        samples=len(filled.rows),
        skipped=filled.skipped,
        bytes=writer.bytes if filled.rows else 0,
        sha256=writer.sha256 if filled.rows else "",
        md5=writer.md5 if filled.rows else "",
        failures=tuple(filled.failures),
        inputs=packshards.Inputs(job.digests, job.contents, tuple(filled.pictures)),
        rows=tuple(filled.rows),
    )
    with atomic.atomic_file(path.with_suffix(".json")) as file:
        file.write(dumps(report) + b"\n")
        file.flush()
        os.utime(file.fileno(), ns=(began, began))  # what is touched from here on may have changed
    return report


def _announced(rows: Iterable[tuple[int, int, records.Item]]) -> Iterator[tuple[int, int, records.Item]]:
    """The same rows, while the system reads the pictures of those to come: a worker does not wait for the disk."""
    waiting: deque[tuple[int, int, records.Item]] = deque()
    for row in rows:
        if not isinstance(row[2], Failure):
            for media in media_of(row[2]):
                reading.announce(media)
        waiting.append(row)
        if len(waiting) > _AHEAD:
            yield waiting.popleft()
    yield from waiting


def _fill(writer: TarWriter, job: Job, packer: Packer, spool: Spool, filled: _Filled) -> None:
    """Add the items that can be used."""
    for key, (number, source, item) in enumerate(_announced(spool.read(job.numbers)), job.key):
        hashes = b""
        try:
            if isinstance(item, Failure):
                filled.failures.append(item)
                continue
            if number in job.refused:
                raise job.refused[number]
            began, name = writer.bytes, f"{key:0{_KEY_DIGITS}d}"
            packed = packer.pack(item, source)
            writer.add(name, packed.parts)
            size = writer.bytes - began
            filled.rows.append(Entry(str(item.id), name, job.tar, began, size, *packed.size, packed.boxes))
            hashes = pack_hashes(packed.hashes)
        except ItemError as error:
            filled.failures.append(Failure.of(item.id, STAGE, error))
        except Skipped:
            filled.skipped += 1
        finally:
            filled.pictures.append(hashes)
