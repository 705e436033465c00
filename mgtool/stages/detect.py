"""Pictures -> box records: each distinct picture once, in input order, whatever the workers and the batch size."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mgtool.boxes import statistics as box_statistics
from mgtool.boxes.statistics import BoxStatistics
from mgtool.detection import loading, pipeline, shared_output
from mgtool.detection.asking_again import ask_again
from mgtool.detection.finder import Finder
from mgtool.detection.known_entries import KnownEntries
from mgtool.detection.ledger import Ledger
from mgtool.detection.options import DetectOptions
from mgtool.detection.output import DetectionEntry, DetectionOutput
from mgtool.detection.picture_loader import Named
from mgtool.detection.run_record import begin, counted, run_record
from mgtool.errors import UNREACHABLE, UsageError
from mgtool.files.local import refuse_url
from mgtool.files.lock import one_share
from mgtool.inputs import line_index, sources
from mgtool.inputs.fingerprints import HashedStdin, changed
from mgtool.inputs.line_index import LineIndex
from mgtool.records import Advance, Failure, Inputs, LeftOut, Media, input_names
from mgtool.runs import progress, ray_cluster, run_file
from mgtool.runs.claims import do_shares
from mgtool.runs.ray_nodes import NodeWork, done_here
from mgtool.runs.remote_output import place_of, refresh, taking_part, writing
from mgtool.runs.run_file import DRAWN_FOLDER, RUN_FILE, Run
from mgtool.runs.shares import ALL, Share

_PREVIEWED = 4
"""Drawn pictures of a notebook's preview."""


@dataclass(frozen=True)
class Detected:
    """What a run found.

    Attributes:
        folder: its output, or the URL of that.
        statistics: counts; of labels the commonest.
        share: the name of the run's share where the counts are of this alone; empty where they are of all the input.
        had_finished: whether the folder was complete before.
        missing: shares that are not there yet; the rank that ends last joins all of them.
        nodes: pictures, and pictures a second, that this run did on each node of a cluster.
    """

    folder: Path | str
    statistics: BoxStatistics
    share: str = ""
    had_finished: bool = False
    missing: tuple[Share, ...] = ()
    nodes: Mapping[str, Mapping[str, float]] = field(default_factory=dict, compare=False)

    @property
    def failures(self) -> int:
        """Items that could not be used."""
        return self.statistics.failures.total()

    @property
    def is_drawn(self) -> bool:
        """Whether there are pictures with their boxes drawn."""
        return Path(self.folder, DRAWN_FOLDER).is_dir()

    def _repr_html_(self) -> str:
        from mgtool.report import boxes_page

        drawn = sorted(Path(self.folder, DRAWN_FOLDER).glob("*.png"))[:_PREVIEWED]
        return boxes_page.preview({"out": self.folder, **self.statistics.summary()}, drawn)


def detect(
    inputs: Inputs,
    out: str | Path,
    options: DetectOptions = DetectOptions(),  # noqa: B008 - frozen
    *,
    overwrite: bool = False,
    wait: bool = False,
    report: str | Path | None = None,
    advance: Advance = lambda n: None,
) -> Detected:
    """Find the objects of every distinct picture and write them as box records; a run that stopped goes on.

    Args:
        inputs: pictures, videos, folders, lists, LLaVA files, TSVs, COCO JSON, tars; ``-`` is stdin.
        out: folder to write, or a URL of one in a store.
        options: what is found, how, and in which form it is written.
        overwrite: start afresh instead of going on.
        wait: for another run that writes to `out` to end, instead of refusing.
        report: HTML page of pictures with their boxes, to write once all of the input is done; None for none.
        advance: told of pictures that are done; with `options.engine` ``ray`` of shares.

    Raises:
        UsageError: options that are wrong or do not go together.
        InputError: an input that cannot be read as a whole.
        CheckpointError: weights that are not there or do not fit.
        MissingExtraError: the detector's packages are not installed.
        ResumeError: the folder holds another run.
        OutputError: the folder cannot be written, another run writes to it, or a share was lost.
    """
    if str(out) == "-":
        raise UsageError("out", "-: give a folder; `found` gives box records one by one")
    refuse_url("report", report or "")
    given = input_names(inputs)
    options.check(given, str(out))
    on_ray = options.engine == "ray"
    with writing(out, share="" if on_ray or options.share.is_all else options.share.name, wait=wait) as folder:
        detected = (_on_cluster if on_ray else _run)(given, folder, options, overwrite, advance)
        if report is not None and not detected.share:
            _write_page(Path(report), given, options, detected)
    return detected if folder == Path(out) else replace(detected, folder=str(out))


def found(
    inputs: Inputs,
    options: DetectOptions = DetectOptions(),  # noqa: B008 - frozen
    *,
    left_out: LeftOut | None = None,
) -> Generator[DetectionEntry]:
    """What becomes of each picture and video, in input order, as soon as it is known; errors as `detect`.

    An entry has a box record or a failure; it has neither for a picture that came before. `left_out` is told of what
    the inputs and the file of known boxes hold that is not used.
    """
    given = input_names(inputs)
    options.check(given, "-")
    items, finder = loading.named_share(given, options, left_out=left_out), loading.load_finder(options)
    if left_out is not None:
        left_out.take(finder.left_out)
    return _entries(items, finder, options)


def _entries(items: Iterator[Named], finder: Finder, options: DetectOptions) -> Generator[DetectionEntry]:
    batch, workers = loading.first_batch(options), loading.decoding_workers(options)
    entries = pipeline.detect(
        items,
        finder,
        ledger=Ledger(),
        batch=batch,
        workers=workers,
        frames=options.frames,
        max_pixels=options.max_pixels,
    )
    with closing(entries):
        for entry, _ in entries:
            yield entry


class DetectPlan(NamedTuple):
    """What a run would do.

    Attributes:
        pictures: and videos; repeated ones count each time.
        unreadable_records: items of the input that name none.
        shards_at_most: fewer where pictures repeat or fail.
        workers: decoding processes.
        left_out: what else the inputs hold: count and examples by reason.
    """

    pictures: int
    unreadable_records: int
    shards_at_most: int
    workers: int
    left_out: Mapping[str, Any]


def plan(inputs: Inputs, out: str | Path, options: DetectOptions) -> DetectPlan:
    """Count what `detect` with the same arguments would go through; no picture is opened, no weights are loaded."""
    given = input_names(inputs)
    options.check(given, str(out))
    failures, pictures, left_out = 0, 0, LeftOut()
    for item in loading.named_share(given, options, left_out=left_out):
        failures += isinstance(item, Failure)
        pictures += not isinstance(item, Failure)
    shards, workers = -(-pictures // options.shard_size), loading.decoding_workers(options)
    return DetectPlan(pictures, failures, shards, workers, left_out.summary())


def _on_cluster(
    inputs: tuple[str, ...], folder: Path, options: DetectOptions, overwrite: bool, advance: Advance
) -> Detected:
    """Every share as a task of a Ray cluster; gives what the one found that ended last and joined them."""
    cluster = ray_cluster.Cluster.of(options, 0 if options.device == "cpu" else 1)
    make, work = functools.partial(_detecting, inputs, place_of(folder), options, overwrite), NodeWork("pictures")
    needs = loading.needs(inputs, options).with_output(folder)
    how: dict[str, Any] = {"world_size": options.world_size, "advance": advance, "needs": needs, "work": work}
    shares = ray_cluster.run_shares(make, cluster, name="detect", **how)
    refresh(folder)
    run_file.add_times(folder / RUN_FILE, nodes=work.summary())
    found = next((detected for detected in shares if not detected.share), shares[-1])
    return replace(found, folder=folder, nodes=work.summary())


def _detecting(
    inputs: tuple[str, ...], place: str | Path, options: DetectOptions, overwrite: bool
) -> Callable[[Share], Detected]:
    """On a node: what does shares of the output that the driver holds; of a lost node's, once that is surely gone."""
    local = replace(options, **ray_cluster.LOCAL, world_size=1)
    local.check(inputs, str(place))
    folder = taking_part(place)
    work = _Work(inputs, local, loading.load_finder(local), done_here)
    run = run_record(work.inputs, work.options, work.finder.identity, folder)

    def detect(share: Share) -> Detected:
        own = replace(local, rank=str(share.rank), world_size=share.world_size)
        with one_share(folder, share.name, wait=True):
            return _into_folder(replace(work, options=own), run, folder, overwrite)

    return detect


@dataclass(frozen=True)
class _Work:
    """What a folder is filled with."""

    inputs: tuple[str, ...]
    options: DetectOptions
    finder: Finder
    advance: Advance
    index: LineIndex | None = None


def _run(inputs: tuple[str, ...], folder: Path, options: DetectOptions, overwrite: bool, advance: Advance) -> Detected:
    """All of the input, or this run's share of it."""
    work = _Work(inputs, options, loading.load_finder(options), advance)
    return _into_folder(work, run_record(work.inputs, work.options, work.finder.identity, folder), folder, overwrite)


def _into_folder(work: _Work, run: Run, folder: Path, overwrite: bool) -> Detected:
    options = work.options
    output = DetectionOutput(folder, format=options.format, shard_size=options.shard_size, visualize=options.visualize)
    begin(run, output, overwrite)
    return (_detect_all if options.share.is_all else _detect_shares)(work, output, run, overwrite)


def _detect_all(work: _Work, output: DetectionOutput, run: Run, overwrite: bool) -> Detected:
    if overwrite:
        output.clear()
        shared_output.clear(output.folder)
        run.begin()
    had_finished = run.finished
    if had_finished and "-" not in work.inputs and output.begun and counted(run).failures[UNREACHABLE]:
        _ask_again(work, output)
        run.begin(overwrite=True)
    found = _fill(work, output, run, KnownEntries() if had_finished else _known(work, run, ALL, output.folder))
    shared_output.clear(output.folder)
    return Detected(output.folder, found, had_finished=had_finished)


def _ask_again(work: _Work, output: DetectionOutput) -> None:
    """What could not be reached."""
    options = work.options
    detect = functools.partial(
        pipeline.detect,
        finder=work.finder,
        ledger=Ledger(),
        batch=loading.first_batch(options),
        workers=loading.decoding_workers(options),
        frames=options.frames,
        max_pixels=options.max_pixels,
    )
    ask_again(loading.named_share(work.inputs, options), output, detect)


def _detect_shares(work: _Work, output: DetectionOutput, run: Run, overwrite: bool) -> Detected:
    """This run's share, and those of ranks that died; joined with the others where all are there."""
    own, folder, done = work.options.share, output.folder, list[BoxStatistics]()
    if run.finished:
        shared_output.join(folder, output, run, own.world_size)
        return Detected(folder, counted(run), had_finished=True)
    if overwrite and own.is_any:
        raise UsageError("overwrite", "and `rank` any do not go together, as others may be at work: remove the output")

    indexed = replace(work, index=_index(work, run, folder))

    def detect(share: Share) -> None:
        done.append(_detect_part(indexed, run, share, folder, overwrite=overwrite and share == own))

    hold, state = functools.partial(shared_output.hold, folder), functools.partial(shared_output.state, run, folder)
    missing = do_shares(own, hold=hold, state=state, work=detect, refresh=functools.partial(refresh, folder))
    output.statistics.left_out = done[0].left_out if done else {}
    joined = None if missing else shared_output.join(folder, output, run, own.world_size)
    if joined is None:
        return Detected(folder, sum(done, BoxStatistics()), own.name, missing=tuple(missing))
    return Detected(folder, BoxStatistics.of_summary(joined))


def _index(work: _Work, run: Run, folder: Path) -> LineIndex | None:
    """Of the input, where shares of it are better read alone; the first rank makes it."""
    if not line_index.is_worth(work.inputs):
        return None
    with one_share(folder, "index", wait=True):
        file = shared_output.index_file(folder)
        return loading.indexed(file, work.inputs, work.options, run.record["inputs"]["inputs"])


def _detect_part(work: _Work, run: Run, share: Share, folder: Path, *, overwrite: bool) -> BoxStatistics:
    options = replace(work.options, rank=str(share.rank), world_size=share.world_size)
    part = shared_output.SharedOutput(folder, share, visualize=options.visualize)
    part_run = shared_output.run_of(run, folder, share)
    if overwrite:
        part.clear()
    part_run.begin(overwrite=overwrite)
    return _fill(replace(work, options=options), part, part_run, _known(work, run, share, folder))


def _known(work: _Work, run: Run, share: Share, folder: Path) -> KnownEntries:
    """What ranks of another number found, or one process did."""
    if "-" in work.inputs or not shared_output.others(folder, share.world_size):
        return KnownEntries()
    if work.index is not None:
        return shared_output.known(folder, run, share, work.index.total)
    total = sum(1 for _ in loading.named_media(work.inputs, work.options))
    return shared_output.known(folder, run, share, total)


def _fill(work: _Work, output: DetectionOutput, run: Run, known: KnownEntries) -> BoxStatistics:
    """Detect what is left, and end the run; gives the statistics as its record has them."""
    options, stdin, left_out = work.options, HashedStdin(work.inputs), LeftOut()
    if run.finished:
        run.refuse_other(stdin.noted())
    else:
        with run.binding_none(lambda: output.begun):
            progress.counted(work.advance, work.inputs, lambda: loading.named_share(work.inputs, options))
            detected = pipeline.fill(
                loading.named_share(work.inputs, options, stdin.file, left_out, work.index),
                work.finder,
                output,
                batch=loading.first_batch(options),
                workers=loading.decoding_workers(options),
                frames=options.frames,
                max_pixels=options.max_pixels,
                advance=work.advance,
                known=known,
            )
        detected.left_out = _left_out(work, run, left_out)
        run.finish(detected.summary(), noted=stdin.noted())
    output.close(done=True)
    return counted(run)


def _left_out(work: _Work, run: Run, left_out: LeftOut) -> dict[str, Any]:
    """What is not used, and folders in which something came or went after the run had looked at them."""
    for given in changed(work.inputs, run.record["inputs"]["inputs"], sources.files):
        left_out.add("folders that changed while they were read", given)
    return left_out.summary() | work.finder.left_out


def _write_page(report: Path, inputs: tuple[str, ...], options: DetectOptions, detected: Detected) -> None:
    """The page of a finished run, its pictures from the run's own input, or by name where that was stdin."""
    from mgtool.report import boxes_page

    boxes = (str(detected.folder),)
    statistics = box_statistics.of_files(boxes)
    statistics.duplicates = detected.statistics.duplicates
    if "-" in inputs:
        boxes_page.write(report, boxes, statistics, boxes_page.media_below(loading.place(options)))
    else:
        boxes_page.write(report, boxes, statistics, lambda records: _media(inputs, options))


def _media(inputs: tuple[str, ...], options: DetectOptions) -> Iterator[Media]:
    """The input's pictures and videos, by the names of their records."""
    by_id = options.format == "mg-llava"
    for item in loading.named_media(inputs, options):
        if isinstance(item, tuple):
            sample, media = item
            yield msgspec.structs.replace(media, name=str(sample.id)) if by_id else media
