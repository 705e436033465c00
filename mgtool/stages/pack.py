"""Pictures, boxes and conversations -> WebDataset tars with the same bytes whatever the number of workers."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from mgtool.boxes import coordinates
from mgtool.boxes.formats import is_read_of
from mgtool.boxes.index import BoxIndex
from mgtool.errors import UsageError
from mgtool.files import atomic
from mgtool.files.local import refuse_url
from mgtool.files.space import check_space, size_on_disk
from mgtool.files.store import is_store
from mgtool.files.temporary import temporary_folder
from mgtool.inputs import explain as explaining
from mgtool.inputs.explain import Explained
from mgtool.inputs.first_items import refuse_without_pictures
from mgtool.inputs.sources import read_samples
from mgtool.packing import pipeline
from mgtool.packing.layout import Base, Layout
from mgtool.packing.options import PackOptions, Source
from mgtool.packing.output import PackFolder
from mgtool.packing.pipeline import OpenSource
from mgtool.packing.plan import ShardPlan
from mgtool.records import Advance, Failure, Item, LeftOut
from mgtool.report.html import summary_table
from mgtool.runs.ray_nodes import Needs
from mgtool.runs.remote_output import is_copy, writing
from mgtool.tars import other_readers

__all__ = ["PackOptions", "Packed", "PlannedTars", "Source", "explain", "pack", "plan"]

_FOLDER_ONLY = ("split", "append", "energon", "on_cluster")


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What came of packing.

    Attributes:
        items: number of the input's samples, usable or not.
        samples, skipped, failures: numbers of those packed, of those left out, and of those that could not be packed.
        shards, bytes: number of tars, and their size; None for a stream.
        splits: samples of each split; None without splits.
        turned_by_exif: pictures that some readers turn, so that their boxes do not fit; None without any.
        left_out: what else the inputs and box files hold: count and examples by reason; None where all is used.
        failed: what could not be packed, for a stream; a folder has it in ``failures.jsonl``.
        nodes: samples, and samples a second, that this run packed on each node of a cluster.
    """

    items: int
    samples: int
    skipped: int
    failures: int
    shards: int | None = None
    bytes: int | None = None
    splits: Mapping[str, int] | None = None
    turned_by_exif: int | None = None
    left_out: Mapping[str, Any] | None = None
    failed: tuple[Failure, ...] = ()
    nodes: Mapping[str, Mapping[str, float]] = field(default_factory=dict, compare=False)

    @property
    def counts(self) -> dict[str, Any]:
        """What ``run.json`` counts."""
        names = ("samples", "skipped", "failures", "shards", "bytes", "splits", "turned_by_exif", "left_out")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def _repr_html_(self) -> str:
        return summary_table(self.counts)


@dataclass(frozen=True, kw_only=True)
class PlannedTars:
    """What a run would write.

    Attributes:
        samples, unreadable: numbers of the input's samples, and of what could not be read.
        skipped: samples that are not asked for, come twice or are packed already.
        shards: number of tars.
        pictures_a_sample: most pictures that one sample has.
        format: Pillow's name of the pictures' format.
        boxes: whether samples carry boxes.
        left_out: as of `Packed`.
    """

    samples: int
    unreadable: int
    skipped: int
    shards: int
    pictures_a_sample: int
    format: str
    boxes: bool
    left_out: Mapping[str, Any] = field(default_factory=dict)


def pack(
    sources: Sequence[Source],
    out: str | Path | IO[bytes],
    options: PackOptions = PackOptions(),  # noqa: B008 - frozen
    *,
    overwrite: bool = False,
    wait: bool = False,
    started: Callable[[int], None] = lambda total: None,
    advance: Advance = lambda count: None,
) -> Packed:
    """Pack samples into the tars of a folder, going on where an earlier run stopped; or into one tar, on a stream.

    Args:
        sources: what to pack, each with its own pictures and boxes.
        out: a folder, or a binary stream.
        options: what becomes of a sample, and how samples are dealt to shards.
        overwrite: an earlier run in the folder does not count.
        wait: for another run that writes to `out` to end, instead of refusing.
        started: told the number of items, once it is known.
        advance: told of items that are done.

    Raises:
        UsageError: options that do not go together.
        InputError: an input that cannot be used as a whole, or one without a sample.
        ResumeError: a folder that another run began, or whose complete tars hold other samples than they would now.
        OutputError: what cannot be written, or another run writes.
    """
    if not isinstance(out, str | Path):
        return _pack_stream(sources, out, options, started, advance)
    _refuse_unfit(out, options)
    with writing(out, wait=wait) as path:
        return _pack_folder(sources, PackFolder(path, options, overwrite=overwrite), started, advance)


def _pack_folder(
    sources: Sequence[Source], folder: PackFolder, started: Callable[[int], None], advance: Advance
) -> Packed:
    options, left_out = folder.options, LeftOut()
    with _planned(sources, options, folder, left_out) as planned:
        _check_space(folder, planned)
        started(len(planned))
        with _loading("pyarrow.parquet"):
            pipeline.write_shards(planned, folder.path, advance)
        counts = folder.publish(planned.skipped) | _unused(left_out, planned)
        if options.energon:
            other_readers.prepare_energon(folder.path)
        nodes = planned.work.summary()
        folder.finish(counts, nodes)
        return Packed(items=planned.samples + planned.failures, nodes=nodes, **counts)


@contextlib.contextmanager
def _loading(module: str) -> Iterator[None]:
    """Import what is needed behind the block, while this process waits for others in it."""
    thread = threading.Thread(target=importlib.import_module, args=(module,))
    thread.start()
    yield
    thread.join()


def _refuse_file(out: str | Path) -> None:
    """Refuse the name of one tar, which nobody means a folder by."""
    if str(out).lower().endswith(".tar") and not Path(out).is_dir():
        raise UsageError("out", f"{out}: is to be a folder, for tars of its own; `out` - writes one tar to stdout")


def _refuse_unfit(out: str | Path, options: PackOptions) -> None:
    refuse_url("out", out, allows_stores=True)
    _refuse_file(out)
    if options.energon:
        if is_store(out):
            raise UsageError("energon", "reads the tars again, which are in a store: pack into a folder")
        other_readers.require_energon()


def plan(
    sources: Sequence[Source],
    out: str | Path | None,
    options: PackOptions = PackOptions(),  # noqa: B008 - frozen
    *,
    overwrite: bool = False,
) -> PlannedTars:
    """What `pack` would write; writes nothing. `out` is None for a stream, errors are those of `pack`."""
    if out is None:
        _refuse_for_stream(options)
    refuse_url("out", out or "", allows_stores=True)
    _refuse_file(out or "")
    folder = None if out is None else PackFolder(Path(out), options, overwrite=overwrite, dry=True)
    left_out = LeftOut()
    with _planned(sources, options, folder, left_out) as planned:
        return PlannedTars(
            samples=planned.samples,
            unreadable=planned.failures,
            skipped=planned.skipped,
            shards=1 if out is None else sum(1 for _ in planned.jobs()),
            pictures_a_sample=planned.layout.pictures,
            format=planned.layout.format,
            boxes=planned.layout.boxes,
            **_unused(left_out, planned),
        )


def explain(sources: Sequence[Source], options: PackOptions = PackOptions()) -> Iterator[Explained]:  # noqa: B008 - frozen
    """What `pack` takes each of the inputs for, and why; writes nothing. Errors as of `pack`."""
    for source in sources:
        for given in source.inputs:
            yield explaining.explain(
                given,
                images=None if source.images is None else str(source.images),
                allow_absolute=options.allow_absolute,
                allow_remote=options.allow_remote,
            )


def _pack_stream(
    sources: Sequence[Source],
    out: IO[bytes],
    options: PackOptions,
    started: Callable[[int], None],
    advance: Advance,
) -> Packed:
    _refuse_for_stream(options)
    left_out = LeftOut()
    with _planned(sources, options, None, left_out) as planned:
        started(len(planned))
        filled = pipeline.write_stream(planned, out, advance)
        out.flush()
        return Packed(
            items=planned.samples + planned.failures,
            samples=len(filled.rows),
            skipped=filled.skipped + planned.skipped,
            failures=len(filled.failures),
            turned_by_exif=filled.turned or None,
            failed=tuple(filled.failures),
            **_unused(left_out, planned),
        )


def _unused(left_out: LeftOut, planned: ShardPlan) -> dict[str, Any]:
    """What the inputs and the box files hold that was not used, where there is any."""
    found = left_out.summary()
    for index in planned.boxes:
        found |= index.left_out.summary() if index is not None else {}
    return {"left_out": found} if found else {}


def _refuse_for_stream(options: PackOptions) -> None:
    for name in _FOLDER_ONLY:
        if getattr(options, name):
            raise UsageError(name.replace("on_cluster", "engine"), "needs a folder: `out` - is one tar")


@contextlib.contextmanager
def _planned(
    sources: Sequence[Source], options: PackOptions, folder: PackFolder | None, left_out: LeftOut
) -> Iterator[ShardPlan]:
    """What goes where, while the plan's files are there; nothing else is written but the record of the run."""
    if sum(name == "-" for source in sources for name in (*source.inputs, source.boxes)) > 1:
        raise UsageError("", "only one of INPUT, `boxes` and `add` can be stdin")
    if folder is not None and pipeline.workers_of(options) > 1 and not options.on_cluster:
        pipeline.ready_workers()
    with _scratch(folder) as place, _opened(sources, options, left_out) as opened:
        if folder is None:
            with pipeline.planned(place, opened, options) as planned:
                yield planned
            return

        def begin(planned: ShardPlan) -> tuple[Layout, Base]:
            return folder.begin(_identified(sources, planned), planned.layout)

        needs = _needs(sources).with_output(folder.path) if options.on_cluster else None
        with pipeline.planned(place, opened, options, earlier=folder.earlier(), begin=begin, needs=needs) as planned:
            folder.refuse_other_plan(planned.base, planned.jobs())
            yield planned


def _needs(sources: Sequence[Source]) -> Needs:
    """What nodes of a cluster have to see: pictures; what lies in tars is sent to them."""
    folders = (one for source in sources if source.images is None for one in source.inputs if Path(one).is_dir())
    pictures = (folder for folder in folders if not any(Path(folder).glob("*.tar")))
    return Needs.of(*(source.images for source in sources), *pictures)


def _check_space(folder: PackFolder, planned: ShardPlan) -> None:
    """Refuse a disk without room for the pictures, where all are packed as they are."""
    options = planned.options
    if is_copy(folder.path) or options.resize or options.encoding is not None or options.examines or options.dedupe:
        return
    written = size_on_disk(folder.path.glob("*.tar"))
    check_space(folder.path, planned.bytes - written, "choose another `out`")


def _identified(sources: Sequence[Source], planned: ShardPlan) -> dict[str, Any]:
    return {
        "images": [None if source.images is None else str(source.images) for source in sources],
        "boxes": [None if index is None else index.sha256 for index in planned.boxes],
        "inputs": planned.input_sha256,
    }


@contextlib.contextmanager
def _scratch(folder: PackFolder | None) -> Iterator[Path]:
    """A folder for the plan, on the disk that has room for the tars."""
    if folder is not None and not folder.dry:
        with atomic.scratch_folder(folder.path) as scratch:
            yield scratch
        return
    with temporary_folder("pack") as scratch:
        yield scratch


@contextlib.contextmanager
def _opened(sources: Sequence[Source], options: PackOptions, left_out: LeftOut) -> Iterator[list[OpenSource]]:
    box_format = coordinates.named(options.box_format)
    with contextlib.ExitStack() as stack:
        yield [
            OpenSource(
                _samples(source, options, left_out),
                None if source.boxes is None else stack.enter_context(BoxIndex(str(source.boxes), box_format)),
            )
            for source in sources
        ]


class _BesideBoxes(LeftOut):
    """What an input holds and is not used, but for the files that its boxes are read of."""

    def __init__(self, all: LeftOut, boxes: str) -> None:
        self._found = all._found
        self._is_read = is_read_of(boxes)

    def add(self, reason: str, example: str) -> None:
        if not self._is_read(example):
            super().add(reason, example)


def _samples(source: Source, options: PackOptions, left_out: LeftOut) -> Iterator[Item]:
    images = None if source.images is None else str(source.images)
    if source.boxes is not None:
        left_out = _BesideBoxes(left_out, str(source.boxes))
    samples = read_samples(
        source.inputs,
        images=images,
        allow_absolute=options.allow_absolute,
        allow_remote=options.allow_remote,
        left_out=left_out,
        wants_boxes=source.boxes is None,
    )
    return samples if options.allow_missing else refuse_without_pictures(samples, images)
