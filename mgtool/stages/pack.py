"""Pictures, boxes and conversations -> WebDataset tars with the same bytes whatever the number of workers.

Item `i` of the input has the key `i` and belongs to shard `i // shard_size`, so shards can be made in any order
and a second run makes only those that are not complete.
"""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import tarfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import IO, Any

import msgspec

from mgtool import shards, sources
from mgtool.errors import ItemError
from mgtool.packing import Items, Packer, Skipped
from mgtool.records import Failure, dumps, parse
from mgtool.workers import begin as begin_worker

STAGE = "pack"
PREFIX = "shard"
INDEX_FILE = "index.json"

_KEY_DIGITS = 9


class ShardReport(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON beside a shard; it marks the shard complete."""

    items: int
    samples: int
    skipped: int
    bytes: int
    sha256: str
    md5: str
    failures: tuple[Failure, ...]


def pack(
    items: Items, folder: Path, packer: Packer, *, shard_size: int, workers: int, advance: Callable[[int], None]
) -> dict[str, Any]:
    """Write the shards that are not there yet, then the indexes and ``failures.jsonl``; gives the counts.

    Args:
        items: opens the input anew.
        folder: the output.
        packer: makes the parts.
        shard_size: input items of one shard.
        workers: processes; they change nothing but the time.
        advance: told the number of items done.
    """
    shards.sweep(folder)
    reports = []
    for report in _reports(items, folder, packer, shard_size, workers):
        reports.append(report)
        advance(report.items)
    shards.sweep(folder)  # again: workers of a killed run may have outlived the first time
    return _publish(folder, reports)


def pack_stream(items: Items, out: IO[bytes], packer: Packer) -> tuple[dict[str, Any], list[Failure]]:
    """Write one tar to a stream; gives the counts and the failures."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        samples, skipped, failures = _fill(tar, items(), 0, packer)
    return {"samples": samples, "skipped": skipped, "failures": len(failures)}, failures


def clear(folder: Path) -> None:
    """Remove the files of an earlier run, and nothing else."""
    for suffix in (".json", ".tar"):
        for path in shards.list_shards(folder, PREFIX, suffix):
            path.unlink()
    for name in (INDEX_FILE, shards.FAILURES_FILE, shards.RUN_FILE):
        (folder / name).unlink(missing_ok=True)


def _reports(items: Items, folder: Path, packer: Packer, shard_size: int, workers: int) -> Iterator[ShardReport]:
    """One report a shard, in order; complete shards are only read over."""
    jobs = _jobs(items(), folder, shard_size)
    if workers == 1:
        for index, job in jobs:
            yield job if isinstance(job, ShardReport) else _write(folder, index, shard_size, job, packer)
        return
    context = multiprocessing.get_context("spawn")
    waiting: deque[Future[ShardReport] | ShardReport] = deque()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker, initargs=(packer,)) as pool:
        for index, job in jobs:
            done = isinstance(job, ShardReport)
            waiting.append(job if done else pool.submit(_work, folder, index, shard_size, job))  # type: ignore[arg-type]
            if len(waiting) > workers + 1:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())


def _result(waiting: Future[ShardReport] | ShardReport) -> ShardReport:
    return waiting if isinstance(waiting, ShardReport) else waiting.result()


def _jobs(
    items: Iterator[sources.Item], folder: Path, shard_size: int
) -> Iterator[tuple[int, list[sources.Item] | ShardReport]]:
    index = 0
    while batch := list(islice(items, shard_size)):
        yield index, _complete(folder, index) or batch
        index += 1


def _complete(folder: Path, index: int) -> ShardReport | None:
    """The report of a shard that is whole."""
    sidecar = folder / shards.shard_name(PREFIX, index, ".json")
    tar = sidecar.with_suffix(".tar")
    if not sidecar.exists():
        return None
    report = parse(sidecar.read_bytes(), ShardReport, where=str(sidecar))
    size = tar.stat().st_size if tar.exists() else 0
    return report if size == report.bytes else None


_packer: Packer | None = None


def _begin_worker(packer: Packer) -> None:
    global _packer  # noqa: PLW0603 - what a pool's initializer leaves for its tasks
    _packer = packer
    begin_worker()


def _work(folder: Path, index: int, shard_size: int, items: list[sources.Item]) -> ShardReport:
    assert _packer is not None
    return _write(folder, index, shard_size, items, _packer)


def _write(folder: Path, index: int, shard_size: int, items: list[sources.Item], packer: Packer) -> ShardReport:
    """Write a shard, then the JSON that marks it complete; no tar where nothing is left of its items."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        samples, skipped, failures = _fill(tar, iter(items), index * shard_size, packer)
    data = buffer.getvalue() if samples else b""
    path = folder / shards.shard_name(PREFIX, index, ".tar")
    if samples:
        shards.write_bytes(path, data)
    report = ShardReport(
        items=len(items),
        samples=samples,
        skipped=skipped,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
        failures=tuple(failures),
    )
    shards.write_bytes(path.with_suffix(".json"), dumps(report) + b"\n")
    return report


def _fill(
    tar: tarfile.TarFile, items: Iterator[sources.Item], first: int, packer: Packer
) -> tuple[int, int, list[Failure]]:
    """Add the items that can be used; gives the numbers of samples and skipped ones, and the failures."""
    samples = skipped = 0
    failures = []
    for number, item in enumerate(items, first):
        if isinstance(item, Failure):
            failures.append(item)
            continue
        try:
            parts = packer.parts(item)
        except ItemError as error:
            failures.append(Failure.of(item.id, STAGE, error))
        except Skipped:
            skipped += 1
        else:
            _add(tar, f"{number:0{_KEY_DIGITS}d}", parts)
            samples += 1
    return samples, skipped, failures


def _add(tar: tarfile.TarFile, key: str, parts: Mapping[str, bytes]) -> None:
    for part in sorted(parts):
        member = tarfile.TarInfo(f"{key}.{part}")
        member.size, member.mode = len(parts[part]), 0o644
        tar.addfile(member, io.BytesIO(parts[part]))


def _publish(folder: Path, reports: list[ShardReport]) -> dict[str, Any]:
    failures = [failure for report in reports for failure in report.failures]
    shards.write_lines(folder / shards.FAILURES_FILE, failures)
    written = [(index, report) for index, report in enumerate(reports) if report.samples]
    entries = [
        {
            "url": shards.shard_name(PREFIX, index, ".tar"),
            "md5sum": report.md5,
            "nsamples": report.samples,
            "filesize": report.bytes,
        }
        for index, report in written
    ]
    whole = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": entries}
    shards.write_bytes(folder / INDEX_FILE, dumps(whole) + b"\n")
    return {
        "samples": sum(report.samples for report in reports),
        "skipped": sum(report.skipped for report in reports),
        "failures": len(failures),
        "shards": len(written),
        "bytes": sum(report.bytes for report in reports),
    }
