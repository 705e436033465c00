"""`mgtool pack`: pictures, boxes and conversations -> WebDataset tars; tars that are there are checked and unpacked."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer

from mgtool.commands import console
from mgtool.commands import pack_options as options
from mgtool.commands.options import (
    AllowAbsolute,
    AllowFailures,
    AllowRemote,
    BoxFormat,
    Config,
    DryRun,
    Json,
    Overwrite,
    Quiet,
    Strict,
    Tmp,
    Wait,
    allowed_failures,
    asked,
    exit_code,
)
from mgtool.errors import UsageError
from mgtool.packing.options import Check, PackOptions, Source
from mgtool.tars.verify_options import Readers


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
    screen = _Screen(quiet, as_json, allow_failures, strict)
    if verify:
        raise typer.Exit(_verify(inputs, check, readers, workers, screen))
    if unpack is not None:
        raise typer.Exit(_unpack(inputs, unpack, screen, overwrite=overwrite, wait=wait))
    chosen = asked(PackOptions, context)
    sources = [Source(inputs, images, boxes), *(add or [])]
    if explain:
        raise typer.Exit(_explain(sources, chosen, screen))
    if dry_run:
        raise typer.Exit(_plan(sources, out, chosen, overwrite, screen))
    raise typer.Exit(_pack(sources, out, chosen, screen, overwrite=overwrite, wait=wait))


class _Screen(NamedTuple):
    """What the person at the command line wants to see, and what they put up with."""

    quiet: bool
    as_json: bool
    allow_failures: str
    strict: bool = False

    @contextlib.contextmanager
    def progress(self, what: str) -> Iterator[tuple[Callable[[int], None], console.Advance]]:
        """To be told the total once it is known, and what is done after that."""
        from mgtool.runs import progress

        with console.progress(what, quiet=self.quiet) as advance:
            yield functools.partial(progress.started, advance), advance

    def summarize(
        self, summary: Mapping[str, Any], title: str, *, done: int | None = None, then: Sequence[object] = ()
    ) -> None:
        shown = {"as_json": self.as_json, "quiet": self.quiet}
        console.summarize(summary, title=title, **shown, done=done, then=console.command(*then))

    def exit_code(self, failures: int, total: int, left_out: Mapping[str, Any] | None = None) -> int:
        return exit_code(failures, total, self.allow_failures, unused=left_out if self.strict else None)


def _refuse_two_modes(modes: Mapping[str, Any]) -> None:
    """Raise a `UsageError` unless exactly one of the things that the command does is asked for."""
    given = [option for option, value in modes.items() if value]
    if len(given) != 1:
        wrong = f"{' and '.join(given)} do not go together" if given else "Missing option '--out'"
        wanted = "give `out` to pack, `explain` to look at inputs, `verify` to check tars, or `unpack` DIR"
        raise UsageError("", f"{wrong}: {wanted}")


def _pack(
    sources: Sequence[Source], out: str, chosen: PackOptions, screen: _Screen, *, overwrite: bool, wait: bool
) -> int:
    from mgtool.stages import pack as stage

    is_stream = out == "-"
    _refuse_both_on_stdout(is_stream, screen)
    with screen.progress("samples") as (started, advance):
        target = sys.stdout.buffer if is_stream else out
        doing = {"overwrite": overwrite, "wait": wait}
        packed = stage.pack(sources, target, chosen, **doing, started=started, advance=advance)
    for failure in packed.failed:
        console.say(f"{failure.id}: {failure.reason}: {failure.detail}")
    then = () if is_stream else ("mgtool", "pack", "--verify", out)
    screen.summarize({"out": out, **packed.counts}, "mgtool pack", done=packed.items, then=then)
    if packed.turned_by_exif and not screen.quiet:
        console.say(
            f"warning: {packed.turned_by_exif:,} pictures are to be shown turned by their EXIF, and Hugging Face "
            "datasets turns them; boxes are of the stored pixels: `exif` apply turns both"
        )
    if not is_stream:
        console.show_failures(packed.failures, Path(out), quiet=screen.quiet)
    return screen.exit_code(packed.failures, packed.items, packed.left_out)


def _plan(sources: Sequence[Source], out: str, chosen: PackOptions, overwrite: bool, screen: _Screen) -> int:
    from mgtool.stages import pack as stage

    _refuse_both_on_stdout(out == "-", screen)
    planned = stage.plan(sources, None if out == "-" else out, chosen, overwrite=overwrite)
    summary = {"out": out, **dataclasses.asdict(planned)}
    console.summarize(summary, title="pack would write", as_json=screen.as_json, quiet=False)
    return screen.exit_code(0, 0, planned.left_out)


def _explain(sources: Sequence[Source], chosen: PackOptions, screen: _Screen) -> int:
    """Say on stdout what each input is taken for, and why."""
    from mgtool.commands.pack_explanation import lines
    from mgtool.stages import pack as stage

    explained = list(stage.explain(sources, chosen))
    if screen.as_json:
        screen.summarize({"inputs": explained}, "mgtool pack --explain")
    else:
        text = "".join(_on_a_terminal(line) + "\n" for one in explained for line in lines(one))
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
        sys.stdout.flush()
    failed, left_out = (any(getattr(one, name) for one in explained) for name in ("failures", "left_out"))
    return screen.exit_code(int(failed), 1, {"inputs": left_out} if left_out else {})


def _refuse_both_on_stdout(is_stream: bool, screen: _Screen) -> None:
    if screen.as_json and is_stream:
        raise UsageError("as_json", "and `out` - both want stdout: give `out` a folder")


def _verify(tars: Sequence[str], check: Check, readers: Readers, workers: int, screen: _Screen) -> int:
    """Say on stdout what is wrong with which sample."""
    from mgtool.stages import verify as stage

    with screen.progress("tars") as (started, advance):
        verified = stage.verify(tars, check=check, readers=readers, workers=workers, started=started, advance=advance)
    findings = verified.findings
    counts = {"tars": verified.tars, "samples": verified.samples, "findings": len(findings)}
    summary: dict[str, Any] = {**counts, "readers": verified.readers, "readers_read": verified.readers_read}
    if screen.as_json:
        summary |= {"findings": findings}
    else:
        for finding in findings:
            where = ": ".join(part for part in (finding.tar, finding.key, finding.check) if part)
            line = _on_a_terminal(f"{where}: {finding.detail}") + "\n"
            sys.stdout.buffer.write(line.encode("utf-8", "backslashreplace"))
        sys.stdout.flush()
    screen.summarize(summary, "mgtool pack --verify", done=verified.samples)
    return screen.exit_code(verified.bad, max(verified.samples, verified.bad))


def _on_a_terminal(text: str) -> str:
    """A line with what a terminal would obey, as names of members may hold, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _unpack(tars: Sequence[str], folder: Path, screen: _Screen, *, overwrite: bool, wait: bool) -> int:
    """Write what `mgtool pack` takes: pictures, a conversation file and box shards."""
    from mgtool.stages import unpack as stage

    with console.progress("samples", quiet=screen.quiet) as advance:
        unpacked = stage.unpack(tars, folder, overwrite=overwrite, wait=wait, advance=advance)
    boxes = ("--boxes", folder / "boxes") if (folder / "boxes").exists() else ()
    again = ("--images", folder / "images", *boxes, "--out", f"{folder}-tars")
    then = ("mgtool", "pack", folder / "conversations.json", *again)
    summary = {"out": str(folder), **dataclasses.asdict(unpacked)}
    screen.summarize(summary, "mgtool pack --unpack", done=unpacked.samples, then=then)
    console.show_failures(unpacked.failures, folder, quiet=screen.quiet)
    return screen.exit_code(unpacked.failures, unpacked.samples + unpacked.failures, unpacked.left_out)
