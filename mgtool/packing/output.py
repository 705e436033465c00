"""What `mgtool pack` leaves in its folder: tars, a JSON beside each, an index for wids, a list of failures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mgtool.errors import RecordError, ResumeError
from mgtool.files import atomic, shard_names
from mgtool.files.regular import read_regular
from mgtool.packing.layout import Base, CompleteShard, Layout, ShardJob
from mgtool.packing.options import PackOptions
from mgtool.records import Failure, convert, dumps, parse
from mgtool.runs import run_file
from mgtool.tars import card
from mgtool.tars.index import WIDS_INDEX_FILE, SampleEntry
from mgtool.tars.index_file import INDEX_FILE

_CLOCK_NS = 20_000_000
"""How far the clock of files may lag behind the system's."""

_RENEWED = ("inputs", "images", "boxes")
"""What is new of a run that adds to a finished one."""


class ShardInputs(msgspec.Struct, frozen=True):
    """What a shard was made of, as in `CompleteShard`: a later run knows by it what is packed and unchanged."""

    digests: bytes
    contents: bytes
    pictures: tuple[bytes, ...]


class ShardReport(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON beside a shard; it marks the shard complete.

    Attributes:
        split, shard: name the shard; the split is empty without splits.
        key: of the first item; items that were not packed leave gaps.
        items, samples, skipped: numbers of the input's items, of those packed, and of those left out.
        turned: pictures whose EXIF says that they are to be shown turned.
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
    inputs: ShardInputs
    rows: tuple[SampleEntry, ...]
    turned: int = 0


def whole(sidecar: Path) -> ShardReport | None:
    """The report of a shard that is complete."""
    if not sidecar.exists():
        return None
    try:
        report = parse(read_regular(sidecar), ShardReport, where=str(sidecar))
    except (OSError, RecordError, RecursionError) as error:
        raise ResumeError(f"{sidecar}: is not what `pack` wrote: choose another `out` or add `overwrite`") from error
    tar = sidecar.with_suffix(".tar")
    size = tar.stat().st_size if tar.exists() else 0
    return report if size == report.bytes else None


class PackFolder:
    """The folder that a run fills, and what earlier runs left in it.

    Args:
        path: where it is.
        options: what is asked for.
        overwrite: an earlier run does not count.
        dry: nothing is to be written.
    """

    def __init__(self, path: Path, options: PackOptions, *, overwrite: bool = False, dry: bool = False) -> None:
        self.path, self.options, self.overwrite, self.dry = path, options, overwrite, dry
        self._run: run_file.Run | None = None

    def earlier(self) -> Iterator[CompleteShard]:
        """The shards that are complete, as a plan remembers them."""
        if self.overwrite:
            return
        for report, path in self.completed():
            since = path.stat().st_mtime_ns - _CLOCK_NS
            yield CompleteShard(report.split, report.shard, since, *msgspec.structs.astuple(report.inputs))

    def begin(self, inputs: Mapping[str, Any], new: Layout) -> tuple[Layout, Base]:
        """Write the record of the run; gives the layout and the beginning that earlier runs leave to this one.

        Args:
            inputs: what identifies the inputs.
            new: what their samples have in common.

        Raises:
            ResumeError: another run, which this one does not add to, began the folder.
        """
        run = self._run = self._recorded(inputs)
        layout, base = self._left(run, new)
        run.record["inputs"] |= {"base": msgspec.to_builtins(base), "layout": msgspec.to_builtins(layout)}
        renewed = _RENEWED if self.options.append else ()
        if self.dry and not self.overwrite:
            run.check(renewed=renewed)
        elif not self.dry:
            if self.overwrite:
                self.clear()
            run.begin(overwrite=self.overwrite, renewed=renewed)
        return layout, base

    def _recorded(self, inputs: Mapping[str, Any]) -> run_file.Run:
        return run_file.Run(
            self.path / run_file.RUN_FILE,
            command="pack",
            options=self.options.identity,
            inputs=inputs,
            noted={"base": None, "layout": None},
            computes=("pillow", "numpy", "pyarrow"),
        )

    def _left(self, run: run_file.Run, new: Layout) -> tuple[Layout, Base]:
        if self.overwrite and not self.dry:
            run.forget_odd()
        before = {} if self.overwrite else run.before.get("inputs", {})
        if not before:
            return new, Base()
        with run.trusting():
            return self._left_by(run, before, new)

    def _left_by(self, run: run_file.Run, before: Mapping[str, Any], new: Layout) -> tuple[Layout, Base]:
        layout = convert(before.get("layout", new), Layout, where=str(run.path))
        different = {key for key, _, _ in run.differences()}
        if not run.finished or not different or not different <= {*_RENEWED}:
            return layout, convert(before.get("base", {}), Base, where=str(run.path))
        if not self.options.append:
            what = " and ".join(sorted(different))
            raise ResumeError(
                f"{self.path} holds a run with other {what}: add `append` to pack what is new in it as well, "
                "choose another `out` or add `overwrite`"
            )
        if new.boxes and not layout.boxes:
            raise ResumeError(f"{self.path} holds samples without boxes: pack those with boxes elsewhere")
        if new.pictures and layout.boxes and not new.boxes:
            raise ResumeError(f"{self.path} holds samples with boxes: give `boxes` for the new ones, too")
        return layout, self._after()

    def _after(self) -> Base:
        """Where a run begins that adds to what is there."""
        key, first = 0, dict[str, int]()
        for report, _ in self.completed():
            key = max(key, report.key + report.items)
            first[report.split] = max(first.get(report.split, 0), report.shard + 1)
        return Base(key, first)

    def refuse_other_plan(self, base: Base, jobs: Iterable[ShardJob]) -> None:
        """Complete shards that this run would deal otherwise are not touched.

        Args:
            base: where the run begins; shards before it are an earlier one's.
            jobs: all of the run's shards.

        Raises:
            ResumeError: a shard holds other samples than its job.
        """
        if self.overwrite:
            return
        planned = {(job.split, job.shard): (job.key, job.digests) for job in jobs}
        for report, path in self.completed():
            is_ours = report.shard >= base.shards.get(report.split, 0)
            if is_ours and planned.get((report.split, report.shard)) != (report.key, report.inputs.digests):
                raise ResumeError(
                    f"{path.with_suffix('.tar')} would hold other samples now, as pictures were changed or removed: "
                    "choose another `out` or add `overwrite`"
                )

    def publish(self, skipped: int) -> dict[str, Any]:
        """Write the indexes, the data card and the list of failures of all shards; gives the counts.

        Args:
            skipped: samples that the plan left out.
        """
        failures = (failure for report, _ in self.completed() for failure in report.failures)
        failed = atomic.write_lines(self.path / run_file.FAILURES_FILE, failures)
        shards: list[dict[str, Any]] = []
        splits, turned = dict.fromkeys(self.options.split_names, 0), 0
        for report, path in self.completed():
            skipped, turned = skipped + report.skipped, turned + report.turned
            splits[report.split] += report.samples
            if report.samples:
                shards.append(_wids_entry(report, path))
        atomic.write_bytes(self.path / WIDS_INDEX_FILE, _wids_index(shards))
        self._describe()
        counts = {"samples": sum(splits.values()), "skipped": skipped, "failures": failed, "shards": len(shards)}
        counts["bytes"] = sum(entry["filesize"] for entry in shards)
        counts |= {"turned_by_exif": turned} if turned else {}
        return {**counts, "splits": splits} if self.options.split else counts

    def _describe(self) -> None:
        tars = sorted(path.with_suffix(".tar").as_posix() for report, path in self.completed() if report.samples)
        card.describe(self.path, tars, (row for report, _ in self.completed() for row in report.rows))

    def finish(self, counts: Mapping[str, Any], nodes: Mapping[str, Any]) -> None:
        """Write the record of the run with its counts, and with what each node of a cluster did."""
        assert self._run is not None, "begin comes first"
        self._run.finish(counts, times={"nodes": nodes} if nodes else {})

    def completed(self) -> Iterator[tuple[ShardReport, Path]]:
        """The shards that are whole, in order: their reports, and where these lie."""
        for name in self._split_names():
            for path in shard_names.list_shards(self.path, name or shard_names.UNSPLIT, ".json"):
                report = whole(path)
                if report is not None:
                    yield report, path

    def clear(self) -> None:
        """Remove the files of an earlier run, and nothing else."""
        for name in self._split_names():
            for suffix in (".json", ".tar"):
                for path in shard_names.list_shards(self.path, name or shard_names.UNSPLIT, suffix):
                    atomic.remove(path)
        for file in (WIDS_INDEX_FILE, INDEX_FILE, run_file.FAILURES_FILE, run_file.RUN_FILE):
            atomic.remove(self.path / file)

    def _split_names(self) -> list[str]:
        """Names of the splits of the run that is on disk."""
        record = run_file.read(self.path / run_file.RUN_FILE)
        split = record.get("options", {}).get("split")
        return list(split if isinstance(split, dict) and split else {"": 1}) if record else []


def _wids_entry(report: ShardReport, path: Path) -> dict[str, Any]:
    return {
        "url": path.with_suffix(".tar").name,
        "md5sum": report.md5,
        "nsamples": report.samples,
        "filesize": report.bytes,
    }


def _wids_index(entries: Sequence[Mapping[str, Any]]) -> bytes:
    return dumps({"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": entries}) + b"\n"
