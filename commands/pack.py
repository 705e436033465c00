"""`mgtool pack`: pictures, boxes and conversations -> WebDataset tars; tars that are there are checked and unpacked."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from mgtool.commands import console, pack_modes, summaries
from mgtool.commands import pack_options as options
from mgtool.commands.exit_codes import allowed_failures
from mgtool.commands.options import (
    AllowAbsolute,
    AllowFailures,
    AllowRemote,
    BoxFormat,
    Config,
    CpusPerActor,
    DryRun,
    EngineOption,
    Json,
    NumActors,
    Overwrite,
    Quiet,
    RayAddress,
    RayRuntimeEnv,
    Strict,
    Tmp,
    Wait,
    asked,
)
from mgtool.errors import UsageError
from mgtool.packing.options import PackOptions, Source


def pack(
    context: typer.Context,
    inputs: options.Inputs,
    out: options.Out = "",
    images: options.Images = None,
    boxes: options.Boxes = None,
    add: options.Add = None,
    allow_absolute: AllowAbsolute = PackOptions.allow_absolute,
    allow_remote: AllowRemote = PackOptions.allow_remote,
    box_format: BoxFormat = PackOptions.box_format,
    missing_boxes: options.MissingBoxes = PackOptions.missing_boxes,
    shard_size: options.ShardSize = PackOptions.shard_size,
    shuffle: options.Shuffle = PackOptions.shuffle,
    split: options.Split = PackOptions.split,
    append: options.Append = PackOptions.append,
    check: options.Check = PackOptions.check,
    max_pixels: options.MaxPixels = PackOptions.max_pixels,
    resize: options.Resize = PackOptions.resize,
    exif: options.Exif = PackOptions.exif,
    reencode: options.Reencode = PackOptions.reencode,
    dedupe: options.Dedupe = PackOptions.dedupe,
    min_boxes: options.MinBoxes = PackOptions.min_boxes,
    where: options.Where = PackOptions.where,
    energon: options.Energon = PackOptions.energon,
    explain: options.Explain = False,
    verify: options.Verify = False,
    readers: options.Readers = "sample",
    unpack: options.Unpack = None,
    workers: options.Workers = PackOptions.workers,
    engine: EngineOption = PackOptions.engine,
    ray_address: RayAddress = PackOptions.ray_address,
    num_actors: NumActors = PackOptions.num_actors,
    cpus_per_actor: CpusPerActor = PackOptions.cpus_per_actor,
    ray_runtime_env: RayRuntimeEnv = PackOptions.ray_runtime_env,
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
    """Pack samples into WebDataset tars that every reader opens; a second run goes on where the first stopped."""
    _refuse_two_modes({"--explain": explain, "--verify": verify, "--unpack": unpack, "--out": out})
    allowed_failures(allow_failures, 0)
    screen = pack_modes.Screen(quiet, as_json, allow_failures, strict)
    if verify:
        raise typer.Exit(pack_modes.verify(inputs, check, readers, workers, screen))
    if unpack is not None:
        raise typer.Exit(pack_modes.unpack(inputs, unpack, screen, overwrite=overwrite, wait=wait))
    chosen = asked(PackOptions, context)
    sources = [Source(inputs, images, boxes), *(add or [])]
    if explain:
        raise typer.Exit(pack_modes.explain(sources, chosen, screen))
    if dry_run:
        raise typer.Exit(pack_modes.plan(sources, out, chosen, overwrite, screen))
    raise typer.Exit(_pack(sources, out, chosen, screen, overwrite=overwrite, wait=wait))


def _refuse_two_modes(modes: Mapping[str, Any]) -> None:
    """Raise a `UsageError` unless exactly one of the things that the command does is asked for."""
    given = [option for option, value in modes.items() if value]
    if len(given) != 1:
        wrong = f"{' and '.join(given)} do not go together" if given else "Missing option '--out'"
        wanted = "give `out` to pack, `explain` to look at inputs, `verify` to check tars, or `unpack` DIR"
        raise UsageError("", f"{wrong}: {wanted}")


def _ready_workers(chosen: PackOptions) -> None:
    """Have a process load what workers need, while this one loads the same."""
    from mgtool.runs import workers

    if (chosen.workers or workers.default_workers()) > 1:
        workers.loaded("mgtool.packing.pipeline")


def _pack(
    sources: Sequence[Source], out: str, chosen: PackOptions, screen: pack_modes.Screen, *, overwrite: bool, wait: bool
) -> int:
    is_stream = out == "-"
    if not is_stream:
        _ready_workers(chosen)
    from mgtool.stages import pack as stage

    pack_modes.refuse_unfit_stdout(is_stream, screen)
    with screen.progress("samples", streams=is_stream) as (started, advance):
        target = sys.stdout.buffer if is_stream else out
        doing = {"overwrite": overwrite, "wait": wait}
        packed = stage.pack(sources, target, chosen, **doing, started=started, advance=advance)
    for failure in packed.failed:
        console.say(f"{failure.id}: {failure.reason}: {failure.detail}")
    then = () if is_stream else ("mgtool", "pack", "--verify", out)
    nodes = summaries.by_node(packed.nodes, as_json=screen.as_json)
    screen.summarize({"out": out, **packed.counts, **nodes}, "mgtool pack", done=packed.items, then=then)
    if packed.turned_by_exif and not screen.quiet:
        console.say(
            f"warning: {packed.turned_by_exif:,} pictures are to be shown turned by their EXIF, and Hugging Face "
            "datasets turns them; boxes are of the stored pixels: `exif` apply turns both"
        )
    if not is_stream:
        summaries.show_failures(packed.failures, Path(out), quiet=screen.quiet)
    return screen.exit_code(packed.failures, packed.items, packed.left_out)
