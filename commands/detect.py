"""`mgtool detect`: pictures -> box records, each distinct picture once."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mgtool.commands import console, detect_job, detect_report
from mgtool.commands import detect_options as options
from mgtool.commands.detect_job import Job
from mgtool.commands.options import (
    AllowFailures,
    Config,
    DryRun,
    EngineOption,
    Json,
    Overwrite,
    Quiet,
    Rank,
    RayAddress,
    WorldSize,
    allowed_failures,
    exit_code,
)
from mgtool.errors import UsageError
from mgtool.runs.shares import check_share, share_of
from mgtool.runs.workers import default_workers

if TYPE_CHECKING:
    from mgtool.detection.finder import Finder
    from mgtool.detection.output import Output
    from mgtool.runs.run_file import Run


def detect(
    context: typer.Context,
    inputs: options.Inputs,
    out: options.Out = None,
    images: options.Images = None,
    detector: options.DetectorSpec = "nanodet",
    tagger: options.TaggerSpec = "",
    tag_list: options.TagList = None,
    tag_thresholds: options.TagThresholds = None,
    vocabulary: options.Vocabulary = "",
    preset: options.Preset = "",
    boxes: options.Boxes = None,
    threshold: options.Threshold = None,
    keep: options.Keep = "",
    drop: options.Drop = "",
    min_size: options.MinSize = 0,
    nms: options.Nms = None,
    max_boxes: options.MaxBoxes = None,
    round: options.Round = False,
    frames: options.Frames = 8,
    batch_size: options.BatchSize = "auto",
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    workers: options.Workers = None,
    rank: Rank = "0",
    world_size: WorldSize = 1,
    engine: EngineOption = "local",
    ray_address: RayAddress = None,
    format: options.Format = "jsonl",
    shard_size: options.ShardSize = 1000,
    visualize: options.Visualize = 0,
    report: options.Report = None,
    stats: options.Stats = False,
    trust_checkpoint: options.TrustCheckpoint = False,
    quiet: Quiet = False,
    as_json: Json = False,
    config: Config = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    allow_failures: AllowFailures = "0",
) -> None:
    """Find the objects of every distinct picture and write them as box records."""
    given = dict(locals())
    allowed_failures(allow_failures, 0)
    if stats:
        detect_report.describe(tuple(inputs), images=images, report=report, as_json=as_json, quiet=quiet)
        return
    if out is None:
        raise UsageError("out", "is missing: give the folder to write, or - for box lines on stdout")
    job = _job(given)
    if dry_run:
        _say_what_would_be_done(job, out, as_json)
        return
    if out == "-":
        summary = _stream(job, quiet)
    else:
        summary = _write_and_tell(job, Path(out), report, overwrite=overwrite, as_json=as_json, quiet=quiet)
    raise typer.Exit(exit_code(*_numbers(summary), allow_failures))


def _job(given: dict[str, Any]) -> Job:
    """The job, from options of the same names, the preset's values in place of those that are not given."""
    workers = default_workers() if given["workers"] is None else given["workers"]
    share = share_of(given["rank"], given["world_size"])
    check_share(share, given["out"], given["inputs"])
    batch_size = detect_job.batch_size(given["batch_size"])
    parsed = {"inputs": tuple(given["inputs"]), "batch_size": batch_size, "share": share}
    same = {field.name: given[field.name] for field in fields(Job) if field.name in given}
    preset = detect_job.preset(given["preset"], given["context"], given["out"])
    job = Job(**{**same, **parsed, "workers": workers, **preset})
    job.check()
    if given["out"] == "-" and (given["as_json"] or job.format != "jsonl" or given["visualize"] or given["report"]):
        raise UsageError("out", "- is for box lines alone: leave `as_json`, `format`, `visualize` and `report` out")
    return job


def _write_and_tell(
    job: Job, folder: Path, report: str | None, *, overwrite: bool, as_json: bool, quiet: bool
) -> dict[str, Any]:
    """Fill the folder and say what it holds; gives the summary."""
    summary, is_whole = _write(job, folder, overwrite=overwrite, quiet=quiet)
    if is_whole and report is not None:
        items = None if "-" in job.inputs else job.all_items()
        by_id = job.format == "mg-llava"
        detect_report.report_run(report, folder, items, summary, images=job.images, by_id=by_id)
    about = {"out": str(folder)} if is_whole else {"out": str(folder), "share": job.share.name}
    _tell({**about, **summary}, folder, as_json=as_json, quiet=quiet)
    return summary


def _tell(summary: dict[str, Any], folder: Path, *, as_json: bool, quiet: bool) -> None:
    """Say what was found, and where the failures of all pictures are."""
    console.summarize(summary, title="mgtool detect", as_json=as_json, quiet=quiet)
    if "share" not in summary:
        console.show_failures(_numbers(summary)[0], folder, quiet=quiet)


def _write(job: Job, folder: Path, *, overwrite: bool, quiet: bool) -> tuple[dict[str, Any], bool]:
    """Fill the folder; gives the summary, and whether it is of all pictures or of this run's share alone."""
    from mgtool.detection import shared_output
    from mgtool.detection.output import Output
    from mgtool.runs.run_file import RUN_FILE

    finder = job.finder()
    run = job.run(folder, finder)
    output = Output(folder, format=job.format, shard_size=job.shard_size, visualize=job.visualize)
    has_begun = output.begun or (folder / shared_output.SHARES).is_dir()
    # a run that stopped before its first picture, at a wrong input, is no reason to refuse another
    is_idle = run.before.get("command") == "detect" and not run.finished and not has_begun
    run.begin(overwrite=is_idle or overwrite)
    if run.finished and not output.is_whole(_records(run.counts)):
        run.begin(overwrite=True)  # a file was deleted since
    if run.finished and job.visualize and not quiet:
        _say_how_to_draw(folder)
    if job.share.is_all:
        if overwrite:
            output.clear()
            shared_output.clear(folder)
            run.begin()
        return _fill(job, finder, output, run, quiet), True
    part = shared_output.SharedOutput(folder, job.share, visualize=job.visualize)
    part_run = run.share(part.folder / RUN_FILE, job.share.name)
    if overwrite:
        part.clear()
    elif run.finished:
        return run.counts, True
    part_run.begin(overwrite=overwrite)
    summary = _fill(job, finder, part, part_run, quiet)
    joined = shared_output.join(folder, output, run, job.share.world_size)
    return (summary, False) if joined is None else (joined, True)


def _say_how_to_draw(folder: Path) -> None:
    from mgtool.runs.run_file import DRAWN_FOLDER

    if not (folder / DRAWN_FOLDER).is_dir():
        console.say(f"{folder} is complete and nothing was drawn; to draw it: --detector boxes:{folder} --out OTHER")


def _fill(job: Job, finder: Finder, output: Output, run: Run, quiet: bool) -> dict[str, Any]:
    """Detect what is left, and end the run."""
    from mgtool.inputs.fingerprints import HashedStdin
    from mgtool.stages import detect as stage

    stdin = HashedStdin(job.inputs)
    if run.finished:
        run.refuse_other(stdin.noted())
        summary = run.counts
    else:
        with console.progress("pictures", quiet=quiet) as advance:
            items = job.items(stdin.file)
            found = stage.run(
                items, finder, output, batch=job.batch(), workers=job.workers, frames=job.frames, advance=advance
            )
        summary = found.summary()
        run.finish(summary, noted=stdin.noted())
    output.close(done=True)
    return summary


def _stream(job: Job, quiet: bool) -> dict[str, Any]:
    """Box lines on stdout as they come; failures as lines on stderr."""
    from contextlib import closing

    from mgtool.boxes.statistics import Statistics
    from mgtool.detection import ledger, pipeline
    from mgtool.detection.output import count
    from mgtool.records import dumps

    statistics = Statistics()
    items, finder = job.items(), job.finder()
    found = pipeline.detect(
        items, finder, ledger=ledger.Ledger(), batch=job.batch(), workers=job.workers, frames=job.frames
    )
    with console.progress("pictures", quiet=quiet) as advance, closing(found) as entries:
        for entry, _ in entries:
            count(statistics, entry)
            advance(1)
            if entry.box is not None:
                sys.stdout.buffer.write(dumps(entry.box) + b"\n")
                sys.stdout.buffer.flush()
            elif entry.failure is not None and not quiet:
                console.say(f"failed: {entry.failure.id}: {entry.failure.reason}: {entry.failure.detail}")
    summary = statistics.summary()
    console.summarize(summary, title="mgtool detect", as_json=False, quiet=quiet)
    return summary


def _records(summary: dict[str, Any]) -> int:
    """Distinct pictures and videos."""
    return int(summary["pictures"] + summary["videos"])


def _numbers(summary: dict[str, Any]) -> tuple[int, int]:
    """Failures, and all pictures."""
    failed = sum(summary["failures"].values())
    return failed, _records(summary) + summary["duplicates"] + failed


def _say_what_would_be_done(job: Job, out: str, as_json: bool) -> None:
    from mgtool.records import Failure

    failures = total = 0
    for item in job.items():
        total += 1
        failures += isinstance(item, Failure)
    most = -(-(total - failures) // job.shard_size)
    plan = {"out": out, "detector": job.detector, "pictures": total - failures, "unreadable_records": failures}
    console.summarize(
        {**plan, "shards_at_most": most, "batch_size": job.batch_size or "auto", "workers": job.workers},
        title="mgtool detect would look at",
        as_json=as_json,
        quiet=False,
    )
