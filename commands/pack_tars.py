"""What `mgtool pack` does with tars that are there: check them, unpack them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mgtool.commands import console
from mgtool.commands.options import default_workers, exit_code
from mgtool.errors import UsageError
from mgtool.records import dumps

if TYPE_CHECKING:
    from mgtool.records import Failure, Sample


def verify(tars: list[str], *, workers: int, quiet: bool, as_json: bool, allow_failures: str) -> None:
    """Say on stdout what is wrong with which sample of some tars; ends with 3 where something is."""
    from mgtool import verifying
    from mgtool.tarstream import find

    if "-" in tars:
        raise UsageError("--verify reads tars more than once: give files or a folder")
    urls = find(tars)
    with console.progress("tars", total=len(urls), quiet=quiet) as advance:
        samples, findings, readers = verifying.verify(urls, workers=workers or default_workers(), advance=advance)
    bad = len({(finding.tar, finding.key) for finding in findings})
    summary = {"tars": len(urls), "samples": samples, "findings": len(findings), "readers": readers}
    if as_json:
        sys.stdout.buffer.write(dumps({**summary, "findings": findings}) + b"\n")
    else:
        for finding in findings:
            where = ": ".join(part for part in (finding.tar, finding.key, finding.check) if part)
            sys.stdout.write(f"{where}: {finding.detail}\n".encode("utf-8", "replace").decode())
        console.summarize(summary, title="mgtool pack --verify", as_json=False, quiet=quiet)
    sys.stdout.flush()
    raise typer.Exit(exit_code(bad, max(samples, bad), allow_failures))


def unpack(tars: list[str], folder: Path, *, quiet: bool, as_json: bool, overwrite: bool, allow_failures: str) -> None:
    """Write what `mgtool pack` takes: pictures, a conversation file and box shards."""
    from mgtool import unpacking

    if overwrite and folder.is_dir():
        if not (folder / unpacking.CONVERSATIONS_FILE).is_file() and any(folder.iterdir()):
            raise UsageError(
                f"--unpack {folder}: --overwrite replaces only what --unpack wrote; this is another folder"
            )
        shutil.rmtree(folder)
    with console.progress("samples", quiet=quiet) as advance:
        counts = unpacking.unpack(_items(tars), folder, advance)
    console.summarize({"out": str(folder), **counts}, title="mgtool pack --unpack", as_json=as_json, quiet=quiet)
    total = counts["samples"] + counts["failures"]
    raise typer.Exit(exit_code(counts["failures"], total, allow_failures))


def _items(tars: list[str]) -> Iterator[Sample | Failure]:
    """Samples, and failures in their places."""
    from mgtool.tars import read_samples, read_stream
    from mgtool.tarstream import find

    for url in find(tars):
        yield from read_stream(sys.stdin.buffer, "-") if url == "-" else read_samples([url])
