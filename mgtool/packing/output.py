"""What `mgtool pack` leaves in its folder: tars, a JSON beside each, an index for wids, a list of failures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mgtool.errors import ResumeError
from mgtool.files import atomic, shard_names
from mgtool.packing.layout import Base, Done, Job, Layout
from mgtool.records import Failure, convert, dumps, parse
from mgtool.runs import run_file
from mgtool.tars.index import INDEX_FILE as SAMPLES_FILE
from mgtool.tars.index import Entry

INDEX_FILE = "index.json"

_CLOCK_NS = 20_000_000
"""How far the clock of files may lag behind the system's."""


class Inputs(msgspec.Struct, frozen=True):
    """What a shard was made of, as in `layout.Done`: a later run knows by it what is packed and unchanged."""

    digests: bytes
    contents: bytes
    pictures: tuple[bytes, ...]


class ShardReport(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON beside a shard; it marks the shard complete.

    Attributes:
        split, shard: name the shard; the split is empty without splits.
        key: of the first item; items that were not packed leave gaps.
        items, samples, skipped: numbers of the input's items, of those packed, and of those left out.
        bytes, sha256, md5: of the tar; there is none without samples.
        failures: items that could not be packed.
        inputs: what it was made of.
        rows: its samples, in order.
    """

    split: str
    shard: int
    key: int
    items: int
    samples: int
    skipped: int
    bytes: int
    sha256: str
    md5: str
    failures: tuple[Failure, ...]
    inputs: Inputs
    rows: tuple[Entry, ...]


def completed(folder: Path) -> Iterator[tuple[ShardReport, Path]]:
    """The shards of a folder that are whole, in order: their reports, and where these lie."""
    for name in _names(folder):
        for path in shard_names.list_shards(folder, name or shard_names.UNSPLIT, ".json"):
            report = whole(path)
            if report is not None:
                yield report, path


def refuse_other_plan(folder: Path, base: Base, jobs: Iterable[Job]) -> None:
    """Complete shards that a run would deal otherwise are not touched.

    Args:
        folder: the output's.
        base: where the run begins; shards before it are an earlier one's.
        jobs: all of the run's shards.

    Raises:
        ResumeError: a shard holds other samples than its job.
    """
    planned = {(job.split, job.shard): (job.key, job.digests) for job in jobs}
    for report, path in completed(folder):
        is_ours = report.shard >= base.shards.get(report.split, 0)
        if is_ours and planned.get((report.split, report.shard)) != (report.key, report.inputs.digests):
            raise ResumeError(
                f"{path.with_suffix('.tar')} would hold other samples now, as pictures were changed or removed: "
                "choose another `out` or add `overwrite`"
            )


def clear(folder: Path) -> None:
    """Remove the files of an earlier run, and nothing else."""
    for name in _names(folder):
        for suffix in (".json", ".tar"):
            for path in shard_names.list_shards(folder, name or shard_names.UNSPLIT, suffix):
                path.unlink()
    for file in (INDEX_FILE, SAMPLES_FILE, run_file.FAILURES_FILE, run_file.RUN_FILE):
        (folder / file).unlink(missing_ok=True)


def _names(folder: Path) -> list[str]:
    """Names of the splits of the run that is in a folder."""
    run = folder / run_file.RUN_FILE
    if not run.exists():
        return []
    options = parse(run.read_bytes(), dict[str, Any], where=str(run)).get("options", {})
    return list(options.get("split") or {"": 1})


def done(report: ShardReport, path: Path) -> Done:
    """A complete shard, as a plan remembers it."""
    since = path.stat().st_mtime_ns - _CLOCK_NS
    return Done(report.split, report.shard, since, *msgspec.structs.astuple(report.inputs))


def after(folder: Path) -> Base:
    """Where a run begins that adds to what is in a folder."""
    key, first = 0, dict[str, int]()
    for report, _ in completed(folder):
        key = max(key, report.key + report.items)
        first[report.split] = max(first.get(report.split, 0), report.shard + 1)
    return Base(key, first)


def tars(folder: Path) -> list[str]:
    """The complete tars of a folder by their names."""
    return sorted(path.with_suffix(".tar").as_posix() for report, path in completed(folder) if report.samples)


def whole(sidecar: Path) -> ShardReport | None:
    """The report of a shard that is complete."""
    if not sidecar.exists():
        return None
    report = parse(sidecar.read_bytes(), ShardReport, where=str(sidecar))
    tar = sidecar.with_suffix(".tar")
    size = tar.stat().st_size if tar.exists() else 0
    return report if size == report.bytes else None


def publish(folder: Path, names: Sequence[str], skipped: int) -> dict[str, Any]:
    """The index and the list of failures of all shards; gives the counts."""
    failures = (failure for report, _ in completed(folder) for failure in report.failures)
    failed = atomic.write_lines(folder / run_file.FAILURES_FILE, failures)
    entries: list[dict[str, Any]] = []
    counts = dict.fromkeys(names, 0)
    for report, path in completed(folder):
        skipped += report.skipped
        counts[report.split] += report.samples
        if report.samples:
            entries.append(_entry(report, path))
    atomic.write_bytes(folder / INDEX_FILE, _index(entries))
    splits = {"splits": counts} if any(names) else {}
    return {
        "samples": sum(counts.values()),
        "skipped": skipped,
        "failures": failed,
        "shards": len(entries),
        "bytes": sum(entry["filesize"] for entry in entries),
        **splits,
    }


def _entry(report: ShardReport, path: Path) -> dict[str, Any]:
    return {
        "url": path.with_suffix(".tar").name,
        "md5sum": report.md5,
        "nsamples": report.samples,
        "filesize": report.bytes,
    }


def _index(entries: Sequence[Mapping[str, Any]]) -> bytes:
    """The wids index of shards."""
    return dumps({"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": entries}) + b"\n"


def entries(folder: Path) -> Iterator[Entry]:
    """The samples of all shards of a folder, for their index."""
    for report, _ in completed(folder):
        yield from report.rows


_RENEWED = ("inputs", "images", "boxes")
"""What is new of a run that adds to a finished one."""


class Output(NamedTuple):
    """Where a run writes.

    Attributes:
        folder: the tars'.
        append: whether a finished run may be added to.
        overwrite: whether an earlier run does not count.
        dry: whether nothing is to be written.
    """

    folder: Path
    append: bool = False
    overwrite: bool = False
    dry: bool = False


def _begin(
    output: Output, options: Mapping[str, Any], inputs: Mapping[str, Any], layout: Layout
) -> tuple[run_file.Run, Layout, Base]:
    """The record of the run, with the layout and the beginning that earlier runs in the folder leave to this one."""
    run = run_file.Run(
        output.folder / run_file.RUN_FILE,
        command="pack",
        options=options,
        inputs=inputs,
        noted={"base": None, "layout": None},
        computes=("pillow", "numpy", "pyarrow"),
    )
    before = {} if output.overwrite else run.before.get("inputs", {})
    base, new = convert(before.get("base", {}), Base, where=str(run.path)), layout
    if before:
        layout = convert(before.get("layout", new), Layout, where=str(run.path))
        different = {key for key, _, _ in run.differences()}
        can_append = bool(run.finished and different and different <= {*_RENEWED})
        if can_append and not output.append:
            what = " and ".join(sorted(different))
            raise ResumeError(
                f"{output.folder} holds a run with other {what}: add `append` to pack what is new in it as well, "
                "choose another `out` or add `overwrite`"
            )
        if can_append:
            base = after(output.folder)
            if new.boxes and not layout.boxes:
                raise ResumeError(f"{output.folder} holds samples without boxes: pack those with boxes elsewhere")
            if new.pictures and layout.boxes and not new.boxes:
                raise ResumeError(f"{output.folder} holds samples with boxes: give `boxes` for the new ones, too")
    run.record["inputs"] |= {"base": msgspec.to_builtins(base), "layout": msgspec.to_builtins(layout)}
    _begin_or_check(run, output)
    return run, layout, base


def _begin_or_check(run: run_file.Run, output: Output) -> None:
    renewed = _RENEWED if output.append else ()
    if not output.dry:
        if output.overwrite:
            clear(output.folder)
        run.begin(overwrite=output.overwrite, renewed=renewed)
    elif not output.overwrite:
        run.check(renewed=renewed)
