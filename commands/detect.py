"""`mgtool detect`: pictures -> box records, each distinct picture once."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import typer

from mgtool.commands import console, detect_screen
from mgtool.commands import detect_options as options
from mgtool.commands.exit_codes import allowed_failures, allows_missing, exit_code
from mgtool.commands.options import (
    AllowAbsolute,
    AllowFailures,
    AllowRemote,
    BoxFormat,
    Config,
    CpusPerActor,
    DryRun,
    EngineOption,
    GpusPerActor,
    Json,
    MaxPixels,
    NumActors,
    Overwrite,
    Quiet,
    Rank,
    RayAddress,
    RayRuntimeEnv,
    Strict,
    Tmp,
    Wait,
    WorldSize,
)
from mgtool.detection.options import DetectOptions
from mgtool.errors import UsageError

if TYPE_CHECKING:
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
    num_actors: NumActors = DetectOptions.num_actors,
    gpus_per_actor: GpusPerActor = DetectOptions.gpus_per_actor,
    cpus_per_actor: CpusPerActor = DetectOptions.cpus_per_actor,
    ray_runtime_env: RayRuntimeEnv = DetectOptions.ray_runtime_env,
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
        detect_screen.describe(inputs, _settings(context, ""), report, as_json=as_json, quiet=quiet)
        return
    if out is None:
        raise UsageError("out", "is missing: give the folder to write, or - for box lines on stdout")
    settings = _settings(context, out)
    if dry_run:
        left_out = detect_screen.say_what_would_be_done(inputs, out, settings, as_json)
        raise typer.Exit(exit_code(0, 0, allow_failures, unused=left_out if strict else None))
    if settings.trust_config and settings.detector.startswith("mmdet:") and not quiet:
        console.say(f"runs the Python of {settings.detector.split(':')[1]} and of the files that it names")
    if out != "-":
        detected = _write(inputs, out, settings, overwrite=overwrite, wait=wait, report=report, quiet=quiet)
        detect_screen.tell(detected, inputs, settings, report, as_json=as_json, quiet=quiet)
        statistics = detected.statistics
    elif as_json or settings.format != DetectOptions.format or settings.visualize or report:
        raise UsageError("out", "- is for box lines alone: leave `as_json`, `format`, `visualize` and `report` out")
    else:
        statistics = detect_screen.stream(inputs, settings, quiet)
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
    with console.progress("shares" if settings.engine == "ray" else "pictures", quiet=quiet) as advance:
        from mgtool.stages.detect import detect as stage

        return stage(inputs, out, settings, overwrite=overwrite, wait=wait, report=report, advance=advance)
