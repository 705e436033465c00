"""`mgtool pack`: pictures, boxes and conversations -> WebDataset tars."""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgtool.commands import console
from mgtool.commands.options import (
    AllowFailures,
    Config,
    DryRun,
    Json,
    Overwrite,
    Quiet,
    default_workers,
    exit_code,
)
from mgtool.errors import UsageError

if TYPE_CHECKING:
    from mgtool.boxfiles import BoxIndex
    from mgtool.packing import Packer
    from mgtool.records import Failure
    from mgtool.sources import Item

_MISSING = ("fail", "empty", "skip")


def pack(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="What to pack; `-` is stdin.")],
    out: Annotated[str, typer.Option("--out", metavar="DIR|-", help="Folder of tars, or one tar on stdout.")],
    images: Annotated[
        str | None, typer.Option("--images", metavar="DIR", help="Where relative picture names start.")
    ] = None,
    boxes: Annotated[
        str | None, typer.Option("--boxes", metavar="PATH", help="Boxes in any form that detect writes.")
    ] = None,
    missing_boxes: Annotated[
        str, typer.Option("--missing-boxes", help="A picture that --boxes does not know: fail, empty or skip.")
    ] = "fail",
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, help="Samples of one tar.")] = 1000,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes; 0: one a core.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
    config: Config = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    allow_failures: AllowFailures = "0",
) -> None:
    """Pack samples into WebDataset tars that every reader opens; a second run goes on where the first stopped."""
    if missing_boxes not in _MISSING:
        raise UsageError(f"--missing-boxes {missing_boxes}: choose one of {', '.join(_MISSING)}")
    if as_json and out == "-":
        raise UsageError("--json and --out - both want stdout: give --out a folder")
    exit_code(0, 0, allow_failures)
    if "-" in inputs and boxes == "-":
        raise UsageError("INPUT and --boxes cannot both be stdin")
    with _opened(inputs, images) as items, _index(boxes) as index:
        from mgtool import packing

        layout = packing.survey(items, boxes=index is not None)
        packer = packing.Packer(layout, index, missing_boxes)  # type: ignore[arg-type]
        if dry_run:
            console.summarize(_plan(packer, out, shard_size), title="pack would write", as_json=as_json, quiet=False)
            return
        about = {"mgtool": importlib.metadata.version("mgtool"), "inputs": inputs, "images": images, "boxes": boxes}
        with console.progress("samples", total=layout.samples + layout.failures, quiet=quiet) as advance:
            if out == "-":
                counts = _to_stdout(items, packer)
            else:
                counts = _to_folder(
                    items, packer, Path(out), shard_size, workers or default_workers(), about, overwrite, advance
                )
    console.summarize({"out": out, **counts}, title="mgtool pack", as_json=as_json, quiet=quiet)
    raise typer.Exit(exit_code(counts["failures"], layout.samples + layout.failures, allow_failures))


def _to_stdout(items: Callable[[], Iterator[Item]], packer: Packer) -> dict[str, Any]:
    from mgtool.stages import pack as stage

    counts, failures = stage.pack_stream(items, sys.stdout.buffer, packer)
    sys.stdout.buffer.flush()
    _say(failures)
    return counts


def _say(failures: list[Failure]) -> None:
    for failure in failures:
        console.say(f"{failure.id}: {failure.reason}: {failure.detail}")


def _to_folder(
    items: Callable[[], Iterator[Item]],
    packer: Packer,
    folder: Path,
    shard_size: int,
    workers: int,
    about: dict[str, Any],
    overwrite: bool,
    advance: Callable[[int], None],
) -> dict[str, Any]:
    from mgtool import shards
    from mgtool.stages import pack as stage

    identity = {
        "shard_size": shard_size,
        "missing_boxes": packer.missing_boxes,
        "boxes": packer.boxes.sha256 if packer.boxes is not None else None,
        "input": packer.layout.input_sha256,
    }
    run = shards.Run(folder / shards.RUN_FILE, command="pack", identity=identity, about=about)
    if overwrite:
        stage.clear(folder)
    run.begin(overwrite=overwrite)
    counts = stage.pack(items, folder, packer, shard_size=shard_size, workers=workers, advance=advance)
    run.finish(counts=counts)
    return counts


def _plan(packer: Packer, out: str, shard_size: int) -> dict[str, Any]:
    layout = packer.layout
    return {
        "out": out,
        "samples": layout.samples,
        "unreadable": layout.failures,
        "shards": layout.shard_count(shard_size) if out != "-" else 1,
        "pictures_a_sample": layout.pictures,
        "format": layout.format,
        "boxes": layout.boxes,
    }


@contextlib.contextmanager
def _opened(inputs: list[str], images: str | None) -> Iterator[Callable[[], Iterator[Item]]]:
    """The input, to be read as often as needed: stdin is kept in a file meanwhile."""
    from mgtool import sources

    if "-" not in inputs:
        yield lambda: sources.read_samples(inputs, images=images)
        return
    with tempfile.NamedTemporaryFile(prefix="mgtool-stdin-") as kept:
        shutil.copyfileobj(sys.stdin.buffer, kept)
        kept.flush()

        def read() -> Iterator[Item]:
            with Path(kept.name).open("rb") as stream:
                yield from sources.read_samples(inputs, images=images, stdin=stream)

        yield read


@contextlib.contextmanager
def _index(boxes: str | None) -> Iterator[BoxIndex | None]:
    from mgtool.boxfiles import BoxIndex

    if boxes is None:
        yield None
        return
    with BoxIndex(boxes) as index:
        yield index
