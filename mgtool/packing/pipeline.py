"""From samples to tars, over a pool of processes."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import TypeVar

import msgspec

from mgtool import records
from mgtool.errors import ItemError
from mgtool.files import atomic
from mgtool.media import reading
from mgtool.packing import output as packshards
from mgtool.packing.layout import Job, Look
from mgtool.packing.packer import Packer, Skipped
from mgtool.packing.plan import Plan
from mgtool.packing.spool import Spool
from mgtool.packing.survey import HASH_BYTES, pack_hashes
from mgtool.records import Failure, dumps, media_of
from mgtool.runs import workers as processes
from mgtool.tars.index import Entry
from mgtool.tars.writer import TarWriter


def look(number: int, item: records.Item, packer: Packer, source: int) -> Look:
    """Look into one sample: is it wanted, and what is it of?"""
    if isinstance(item, Failure):
        return Look(number, True)
    try:
        wanted, hashes = packer.examine(item, source)
    except ItemError as error:
        return Look(number, True, failure=error)
    except Skipped:
        return Look(number, False)
    pictures = pack_hashes(hashes)
    return Look(number, wanted, pictures, hashlib.sha256(pictures + dumps(item.turns)).digest()[:HASH_BYTES])


_KEY_DIGITS = 9


_AHEAD = 16
"""Samples whose pictures the system reads while another is packed."""


_LOOKS = 256
"""Samples that a worker looks into at a time."""


T = TypeVar("T")


R = TypeVar("R")


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
            filled.failures.append(Failure.of(item.id, "pack", error))
        except Skipped:
            filled.skipped += 1
        finally:
            filled.pictures.append(hashes)
