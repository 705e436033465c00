"""`mgtool pack`: pictures, boxes and conversations -> WebDataset tars."""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mgtool.commands import console, pack_tars
from mgtool.commands import pack_options as options
from mgtool.commands.options import AllowFailures, Config, DryRun, Json, Overwrite, Quiet, exit_code
from mgtool.errors import UsageError
from mgtool.runs.workers import default_workers

if TYPE_CHECKING:
    from mgtool.packing.options import Order, Recipe, Size
    from mgtool.packing.output import Output
    from mgtool.records import Failure
    from mgtool.stages.pack import Prepared, Source

_CHOICES = {"--missing-boxes": ("fail", "empty", "skip"), "--check": ("structure", "decode")}
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_SPLIT = re.compile(r"([A-Za-z][A-Za-z0-9]*)=(\d*\.?\d+)")


def pack(
    inputs: options.Inputs,
    out: options.Out = "",
    images: options.Images = None,
    boxes: options.Boxes = None,
    add: options.Add = None,
    missing_boxes: options.MissingBoxes = "fail",
    shard_size: options.ShardSize = "1000",
    shuffle: options.Shuffle = None,
    split: options.Split = None,
    append: options.Append = False,
    check: options.Check = "structure",
    max_pixels: options.MaxPixels = None,
    resize: options.Resize = 0,
    reencode: options.Reencode = "",
    dedupe: options.Dedupe = False,
    min_boxes: options.MinBoxes = 0,
    where: options.Where = "",
    energon: options.Energon = False,
    verify: options.Verify = False,
    unpack: options.Unpack = None,
    workers: options.Workers = 0,
    quiet: Quiet = False,
    as_json: Json = False,
    config: Config = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    allow_failures: AllowFailures = "0",
) -> None:
    """Pack samples into WebDataset tars that every reader opens; a second run goes on where the first stopped."""
    _choose({"--missing-boxes": missing_boxes, "--check": check})
    about_tars = pack_tars.Options(inputs, workers, quiet, as_json, overwrite, allow_failures)
    if pack_tars.handles(about_tars, verify=verify, unpack=unpack, out=out):
        return
    given = [(inputs, images, boxes), *(_added(text) for text in add or [])]
    folder_only = [("--split", split), ("--append", append), ("--energon", energon)]
    _refuse_streams(given, out, as_json=as_json, folder_only=folder_only)
    pack_tars.need_energon(energon)
    exit_code(0, 0, allow_failures)
    from mgtool.packing.options import Order, Recipe
    from mgtool.packing.output import Output

    chosen: dict[str, Any] = {"missing_boxes": missing_boxes, "check": check, "resize": resize, "reencode": reencode}
    chosen |= {"max_pixels": max_pixels} if max_pixels is not None else {}
    recipe = Recipe(**chosen, min_boxes=min_boxes, where=where)
    recipe.validate()
    order = Order(shard_size=_size(shard_size), shuffle=shuffle, split=_shares(split), dedupe=dedupe)
    output = None if out == "-" else Output(Path(out), append=append, overwrite=overwrite, dry=dry_run)
    many = workers or default_workers()
    with _prepared(given, recipe, order, output, many) as ready:
        if dry_run:
            console.summarize(_plan(ready, out), title="pack would write", as_json=as_json, quiet=False)
            return
        counts = _carry_out(ready, output, many, quiet=quiet, energon=energon)
        total = ready.plan.samples + ready.plan.failures
    console.summarize({"out": out, **counts}, title="mgtool pack", as_json=as_json, quiet=quiet)
    if output is not None:
        console.show_failures(counts["failures"], output.folder, quiet=quiet)
    raise typer.Exit(exit_code(counts["failures"], total, allow_failures))


@contextlib.contextmanager
def _prepared(
    given: list[Given], recipe: Recipe, order: Order, output: Output | None, workers: int
) -> Iterator[Prepared]:
    """The plan of what is to be packed, while its files are there."""
    from mgtool.packing import pipeline
    from mgtool.packing.plan import Plan
    from mgtool.stages import pack as stage

    if workers > 1 and output is not None:
        pipeline.ready_workers()
    with (
        _scratch(output) as place,
        _sources(given) as opened,
        Plan(place, sizes=bool(order.shard_size.bytes)) as plan,
    ):
        yield stage.prepare(plan, opened, recipe, order, output=output, workers=workers)


def _carry_out(ready: Prepared, output: Output | None, workers: int, *, quiet: bool, energon: bool) -> dict[str, Any]:
    from mgtool.stages import pack as stage
    from mgtool.tars import other_readers

    with console.progress("samples", total=len(ready.plan), quiet=quiet) as advance:
        if output is not None:
            counts = stage.pack(ready, output.folder, workers=workers, advance=advance)
            if energon:
                other_readers.prepare_energon(output.folder)
        else:
            counts, failures = stage.pack_stream(ready, sys.stdout.buffer, advance=advance)
            sys.stdout.buffer.flush()
            _say(failures)
    if ready.run is not None:
        ready.run.finish(counts)
    return counts


def _say(failures: list[Failure]) -> None:
    for failure in failures:
        console.say(f"{failure.id}: {failure.reason}: {failure.detail}")


def _plan(ready: Prepared, out: str) -> dict[str, Any]:
    layout = ready.packer.layout
    return {
        "out": out,
        "samples": ready.plan.samples,
        "unreadable": ready.plan.failures,
        "left_out": ready.plan.skipped,
        "shards": sum(1 for _ in ready.jobs) if out != "-" else 1,
        "pictures_a_sample": layout.pictures,
        "format": layout.format,
        "boxes": layout.boxes,
    }


def _choose(chosen: Mapping[str, str]) -> None:
    for option, value in chosen.items():
        if value not in _CHOICES[option]:
            raise UsageError("", f"{option} {value}: choose one of {', '.join(_CHOICES[option])}")


Given = tuple[list[str], str | None, str | None]


def _added(text: str) -> Given:
    """`--add` taken apart: an input, its pictures, its boxes."""
    name, *rest = text.split(",")
    fields = dict(one.partition("=")[::2] for one in rest)
    if not name or not set(fields) <= {"images", "boxes"} or not all(fields.values()):
        raise UsageError("add", f"{text}: give INPUT, then ,images=DIR and ,boxes=PATH where it has its own")
    return [name], fields.get("images"), fields.get("boxes")


def _refuse_streams(given: list[Given], out: str, *, as_json: bool, folder_only: list[tuple[str, Any]]) -> None:
    if as_json and out == "-":
        raise UsageError("as_json", "and `out` - both want stdout: give `out` a folder")
    wrong = [option for option, value in folder_only if value]
    if out == "-" and wrong:
        raise UsageError("", f"{wrong[0]} needs a folder: `out` - is one tar")
    streams = [name for inputs, _, boxes in given for name in (*inputs, boxes) if name == "-"]
    if len(streams) > 1:
        raise UsageError("", "only one of INPUT, `boxes` and `add` can be stdin")


def _size(text: str) -> Size:
    from mgtool.packing.options import Size

    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]I?)?(B)?", text.strip().upper())
    number = float(match[1]) * _UNITS[match[2] or ""] if match else 0
    if match is None or number < 1:
        raise UsageError("shard_size", f"{text}: give a number of samples (1000) or of bytes (500MB, 1GB)")
    return Size(bytes=int(number)) if match[2] or match[3] else Size(samples=int(number))


def _shares(text: str | None) -> dict[str, float]:
    if text is None:
        return {}
    matches = [_SPLIT.fullmatch(one.strip()) for one in text.split(",")]
    shares = {match[1]: float(match[2]) for match in matches if match is not None}
    if len(shares) != len(matches) or not 0.999 <= sum(shares.values()) <= 1.001:
        raise UsageError("split", f"{text}: give names and shares that add up to 1, for instance train=0.98,val=0.02")
    return shares


@contextlib.contextmanager
def _scratch(output: Output | None) -> Iterator[Path]:
    """A folder for the plan, on the disk that has room for the tars."""
    from mgtool.files import atomic

    if output is not None and not output.dry:
        with atomic.scratch_folder(output.folder) as folder:
            yield folder
        return
    with tempfile.TemporaryDirectory(prefix="mgtool-pack-") as name:
        yield Path(name)


@contextlib.contextmanager
def _sources(given: list[Given]) -> Iterator[list[Source]]:
    from mgtool.boxes.index import BoxIndex
    from mgtool.inputs import sources
    from mgtool.stages.pack import Source

    with contextlib.ExitStack() as stack:
        yield [
            Source(
                sources.read_samples(inputs, images=images),
                stack.enter_context(BoxIndex(boxes)) if boxes is not None else None,
                images,
            )
            for inputs, images, boxes in given
        ]
