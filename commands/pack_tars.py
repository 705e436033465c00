"""What `mgtool pack` does with tars that are there: check them, unpack them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from mgtool.commands import console
from mgtool.commands.options import exit_code
from mgtool.errors import MissingExtraError, UsageError
from mgtool.runs.workers import default_workers

if TYPE_CHECKING:
    from mgtool.records import Failure, Sample


class Options(NamedTuple):
    """What both have in common; `tars` as `mgtool.open_tars` takes them."""

    tars: list[str]
    workers: int
    quiet: bool
    as_json: bool
    overwrite: bool
    allow_failures: str


def handles(options: Options, *, verify: bool, unpack: Path | None, out: str) -> bool:
    """Check or unpack tars where that is asked for.

    Raises:
        UsageError: not exactly one of the three things that `mgtool pack` does is asked for.
    """
    modes = [option for option, given in (("--verify", verify), ("--unpack", unpack), ("--out", out)) if given]
    if len(modes) != 1:
        wrong = f"{' and '.join(modes)} do not go together" if modes else "Missing option '--out'"
        raise UsageError("", f"{wrong}: give `out` to pack, `verify` to check tars, or `unpack` DIR")
    if verify:
        _verify(options)
    if unpack is not None:
        _unpack(options, unpack)
    return modes != ["--out"]


def _verify(options: Options) -> None:
    """Say on stdout what is wrong with which sample; ends with 3 where something is."""
    from mgtool.tars import verify as verifying
    from mgtool.tars.paths import find

    if "-" in options.tars:
        raise UsageError("verify", "reads tars more than once: give files or a folder")
    urls, workers = find(options.tars), options.workers or default_workers()
    with console.progress("tars", total=len(urls), quiet=options.quiet) as advance:
        samples, findings, readers = verifying.verify(urls, workers=workers, advance=advance)
    bad = len({(finding.tar, finding.key) for finding in findings})
    summary = {"tars": len(urls), "samples": samples, "findings": len(findings), "readers": readers}
    if options.as_json:
        summary |= {"findings": findings}
    else:
        for finding in findings:
            where = ": ".join(part for part in (finding.tar, finding.key, finding.check) if part)
            sys.stdout.buffer.write(f"{where}: {finding.detail}\n".encode("utf-8", "backslashreplace"))
        sys.stdout.flush()
    console.summarize(summary, title="mgtool pack --verify", as_json=options.as_json, quiet=options.quiet)
    raise typer.Exit(exit_code(bad, max(samples, bad), options.allow_failures))


def _unpack(options: Options, folder: Path) -> None:
    """Write what `mgtool pack` takes: pictures, a conversation file and box shards."""
    from mgtool.inputs.fingerprints import fingerprint
    from mgtool.packing import unpack as unpacking
    from mgtool.tars import paths

    if options.overwrite and folder.is_dir():
        if not (folder / unpacking.CONVERSATIONS_FILE).is_file() and any(folder.iterdir()):
            raise UsageError("unpack", f"{folder}: `overwrite` replaces only what `unpack` wrote")
        shutil.rmtree(folder)
    with console.progress("samples", quiet=options.quiet) as advance:
        identified = [fingerprint(given, paths.below) for given in options.tars]
        counts = unpacking.unpack(_items(options.tars), folder, advance, inputs=identified)
    summary = {"out": str(folder), **counts}
    console.summarize(summary, title="mgtool pack --unpack", as_json=options.as_json, quiet=options.quiet)
    console.show_failures(counts["failures"], folder, quiet=options.quiet)
    total = counts["samples"] + counts["failures"]
    raise typer.Exit(exit_code(counts["failures"], total, options.allow_failures))


def need_energon(wanted: bool) -> None:
    """Refuse `--energon` before hours of packing where its tool is missing."""
    from mgtool.tars.other_readers import READERS

    if wanted and not READERS["energon"].installed:
        raise MissingExtraError("`energon`", "energon")


def _items(tars: list[str]) -> Iterator[Sample | Failure]:
    """Samples, and failures in their places."""
    from mgtool.tars.paths import find
    from mgtool.tars.samples import read_samples, read_stream

    for url in find(tars):
        yield from read_stream(sys.stdin.buffer, "-") if url == "-" else read_samples([url])
