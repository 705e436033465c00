"""`mgtool detect`: pictures -> box records, each distinct picture once."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mgtool.commands import console
from mgtool.commands import detect_options as options
from mgtool.commands.options import (
    AllowAbsolute,
    AllowFailures,
    AllowRemote,
    BoxFormat,
    Config,
    DryRun,
    EngineOption,
    Json,
    MaxPixels,
    Overwrite,
    Quiet,
    Rank,
    RayAddress,
    Strict,
    Tmp,
    Wait,
    WorldSize,
    allowed_failures,
    allows_missing,
    exit_code,
)
from mgtool.detection.options import DetectOptions
from mgtool.errors import UsageError

if TYPE_CHECKING:
    from mgtool.boxes.statistics import BoxStatistics
    from mgtool.stages.detect import Detected


def detect(
    context: typer.Context,
    inputs: options.Inputs,
    out: options.Out = None,
    images: options.Images = DetectOptions.images,
    allow_absolute: AllowAbsolute = DetectOptions.allow_absolute,
    allow_remote: AllowRemote = DetectOptions.allow_remote,
    detector: options.DetectorSpec = DetectOptions.detector,
    tagger: options.TaggerSpec = DetectOptions.tagger,
    tag_list: options.TagList = DetectOptions.tag_list,
    tag_thresholds: options.TagThresholds = DetectOptions.tag_thresholds,
    vocabulary: options.Vocabulary = DetectOptions.vocabulary,
    preset: options.Preset = DetectOptions.preset,
    boxes: options.Boxes = DetectOptions.boxes,
    box_format: BoxFormat = DetectOptions.box_format,
    threshold: options.Threshold = DetectOptions.threshold,
    iou: options.Iou = DetectOptions.iou,
    slice: options.Slice = DetectOptions.slice,
    overlap: options.Overlap = DetectOptions.overlap,
    scales: options.Scales = DetectOptions.scales,
    max_size: options.MaxSize = DetectOptions.max_size,
    merge: options.Merge = DetectOptions.merge,
    keep: options.Keep = DetectOptions.keep,
    drop: options.Drop = DetectOptions.drop,
    min_size: options.MinSize = DetectOptions.min_size,
    nms: options.Nms = DetectOptions.nms,
    class_agnostic: options.ClassAgnostic = DetectOptions.class_agnostic,
    max_boxes: options.MaxBoxes = DetectOptions.max_boxes,
    round: options.Round = DetectOptions.round,
    frames: options.Frames = DetectOptions.frames,
    batch_size: options.BatchSize = DetectOptions.batch_size,
    device: options.Device = DetectOptions.device,
    dtype: options.Dtype = DetectOptions.dtype,
    workers: options.Workers = DetectOptions.workers,
    max_pixels: MaxPixels = DetectOptions.max_pixels,
    rank: Rank = DetectOptions.rank,
    world_size: WorldSize = DetectOptions.world_size,
    engine: EngineOption = DetectOptions.engine,
    ray_address: RayAddress = DetectOptions.ray_address,
    format: options.Format = DetectOptions.format,
    shard_size: options.ShardSize = DetectOptions.shard_size,
    visualize: options.Visualize = DetectOptions.visualize,
    report: options.Report = None,
    stats: options.Stats = False,
    trust_checkpoint: options.TrustCheckpoint = DetectOptions.trust_checkpoint,
    trust_config: options.TrustConfig = DetectOptions.trust_config,
    quiet: Quiet = False,
    as_json: Json = False,
    config: Config = None,
    tmp: Tmp = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    wait: Wait = False,
    allow_failures: AllowFailures = "0",
    strict: Strict = False,
) -> None:
    """Find the objects of every distinct picture and write them as box records."""
    allowed_failures(allow_failures, 0)
    if stats:
        _describe(inputs, _settings(context, ""), report, as_json=as_json, quiet=quiet)
        return
    if out is None:
        raise UsageError("out", "is missing: give the folder to write, or - for box lines on stdout")
    settings = _settings(context, out)
    if dry_run:
        left_out = _say_what_would_be_done(inputs, out, settings, as_json)
        raise typer.Exit(exit_code(0, 0, allow_failures, unused=left_out if strict else None))
    if settings.trust_config and settings.detector.startswith("mmdet:") and not quiet:
        console.say(f"runs the Python of {settings.detector.split(':')[1]} and of the files that it names")
    if out != "-":
        detected = _write(inputs, out, settings, overwrite=overwrite, wait=wait, report=report, quiet=quiet)
        _tell(detected, inputs, settings, report, as_json=as_json, quiet=quiet)
        statistics = detected.statistics
    elif as_json or settings.format != DetectOptions.format or settings.visualize or report:
        raise UsageError("out", "- is for box lines alone: leave `as_json`, `format`, `visualize` and `report` out")
    else:
        statistics = _stream(inputs, settings, quiet)
    unused = statistics.left_out if strict else None
    raise typer.Exit(exit_code(statistics.failures.total(), statistics.items, allow_failures, unused=unused))


def _settings(context: typer.Context, out: str) -> DetectOptions:
    """The options, a preset's values in place of those that are given nowhere; stdout has a form of its own."""
    given: dict[str, Any] = {"allow_missing": allows_missing(context.params["allow_failures"])}
    for field in fields(DetectOptions):
        source = context.get_parameter_source(field.name)
        if source and source.name != "DEFAULT":
            given[field.name] = context.params[field.name]
    if out == "-":
        given.setdefault("format", DetectOptions.format)
    preset = given.pop("preset", "")
    return DetectOptions.of_preset(preset, **given) if preset else DetectOptions(**given)


def _write(
    inputs: list[str],
    out: str,
    settings: DetectOptions,
    *,
    overwrite: bool,
    wait: bool,
    report: str | None,
    quiet: bool,
) -> Detected:
    on_ray = settings.engine == "ray"
    total = settings.world_size if on_ray and settings.world_size > 1 else None
    with console.progress("shares" if on_ray else "pictures", total=total, quiet=quiet) as advance:
        from mgtool.stages.detect import detect as stage

        return stage(inputs, out, settings, overwrite=overwrite, wait=wait, report=report, advance=advance)


def _tell(
    detected: Detected, inputs: list[str], settings: DetectOptions, report: str | None, *, as_json: bool, quiet: bool
) -> None:
    """Say what was found, and where the failures of all pictures are."""
    from mgtool.runs.run_file import DRAWN_FOLDER

    folder = detected.folder
    if detected.had_finished and settings.visualize and not detected.is_drawn and not quiet:
        console.say(f"{folder} is complete and nothing was drawn; to draw it: --detector boxes:{folder} --out OTHER")
    about = {"out": str(folder), **({"share": detected.share} if detected.share else {})}
    reasons = detected.statistics.failures
    counted = {"failures": reasons.total(), "failures_by_reason": dict(sorted(reasons.items()))}
    drawn = {"drawn": str(folder / DRAWN_FOLDER)} if settings.visualize and detected.is_drawn else {}
    pages = {"report": report} if report and not detected.share else {}
    summary = {**about, **drawn, **pages, **detected.statistics.summary(), **counted}
    summary |= {"waiting_for": [share.rank for share in detected.missing]} if detected.missing else {}
    done, then = (None, "") if detected.had_finished else (detected.statistics.items, _next(inputs, folder, settings))
    console.summarize(summary, title="mgtool detect", as_json=as_json, quiet=quiet, done=done, then=then)
    if detected.had_finished and not quiet:
        console.say(f"{folder} was complete; nothing was left to do")
    console.show_missing(detected.missing, quiet=quiet)
    if not detected.share:
        console.show_failures(detected.failures, folder, quiet=quiet)


def _next(inputs: list[str], folder: Path, settings: DetectOptions) -> str:
    """How to look at what was found."""
    images = settings.images or next((one for one in inputs if Path(one).is_dir()), None)
    shown = ("--images", images) if images else ()
    return console.command("mgtool", "detect", "--stats", folder, *shown, "--report", folder / "boxes.html")


def _stream(inputs: list[str], settings: DetectOptions, quiet: bool) -> BoxStatistics:
    """Box lines on stdout as they come; failures as lines on stderr."""
    from mgtool.boxes.statistics import BoxStatistics
    from mgtool.detection.output import count
    from mgtool.records import LeftOut, dumps
    from mgtool.stages.detect import found

    statistics, left_out = BoxStatistics(), LeftOut()
    records = found(inputs, settings, left_out=left_out)
    with console.progress("pictures", quiet=quiet) as advance, closing(records) as entries:
        for entry in entries:
            count(statistics, entry)
            advance(1)
            if entry.box is not None:
                sys.stdout.buffer.write(dumps(entry.box) + b"\n")
                sys.stdout.buffer.flush()
            elif entry.failure is not None and not quiet:
                console.say(f"failed: {entry.failure.id}: {entry.failure.reason}: {entry.failure.detail}")
    statistics.left_out = left_out.summary()
    console.summarize(statistics.summary(), title="mgtool detect", as_json=False, quiet=quiet)
    return statistics


def _describe(paths: list[str], settings: DetectOptions, report: str | None, *, as_json: bool, quiet: bool) -> None:
    from mgtool.stages.describe_boxes import describe_boxes

    if "-" in paths:
        raise UsageError("stats", ": give folders or files of boxes; stdin cannot be read twice")
    statistics = describe_boxes(
        paths,
        images=settings.images,
        allow_absolute=settings.allow_absolute,
        allow_remote=settings.allow_remote,
        report=report,
    )
    summary = statistics.summary(labels=None) if as_json else statistics.summary()
    console.summarize(summary, title="mgtool detect --stats", as_json=as_json, quiet=quiet)


def _say_what_would_be_done(inputs: list[str], out: str, settings: DetectOptions, as_json: bool) -> Mapping[str, Any]:
    """Gives what the inputs hold that would not be used."""
    from mgtool.stages.detect import plan

    planned = plan(inputs, out, settings)
    summary = {
        "out": out,
        "detector": settings.detector,
        "pictures": planned.pictures,
        "unreadable_records": planned.unreadable_records,
        "shards_at_most": planned.shards_at_most,
        "batch_size": settings.batch_size or "auto",
        "workers": planned.workers,
        "left_out": planned.left_out,
    }
    console.summarize(summary, title="mgtool detect would look at", as_json=as_json, quiet=False)
    return planned.left_out
