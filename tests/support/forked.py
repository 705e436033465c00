"""Commands in processes of their own, forked off one that has loaded what commands load."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import resource
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

_LOADED = ["forked", "mgtool.commands.main", "mgtool.inference.transformers_model", "mgtool.importing.published"]
HANGS = -1


class Ended(NamedTuple):
    """How a command ended: its exit code, -1 where it had to be ended, and what it said on stderr."""

    code: int
    said: str


def run(
    words: Sequence[object],
    folder: Path,
    *,
    seconds: float = 60,
    gib: int = 6,
    before: Callable[[], object] | None = None,
) -> Ended:
    """Run a command line.

    Args:
        words: of the command line, without the program's name.
        folder: for what it says.
        seconds: after which it hangs.
        gib: of memory that it may ask for.
        before: called in its process; may be pickled.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED)
    said = folder / "said"
    said.touch()
    process = context.Process(target=_command, args=([str(word) for word in words], said, gib, before))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        return Ended(HANGS, said.read_text())
    return Ended(process.exitcode or 0, said.read_text())


def _command(words: list[str], said: Path, gib: int, before: Callable[[], object] | None) -> None:
    from mgtool.commands import console
    from mgtool.commands.main import main

    limit = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (gib << 30, limit))
    os.chdir(said.parent)
    if before is not None:
        before()
    with said.open("w", encoding="utf-8", errors="backslashreplace", buffering=1) as file:
        console.err.file, sys.argv = file, ["mgtool", *words]
        with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())), contextlib.redirect_stderr(file):
            main()


def write_once(pipe: Path) -> None:
    """Let somebody write one line into a pipe, whenever it is read."""
    threading.Thread(target=_written, args=(pipe,), daemon=True).start()


def _written(pipe: Path) -> None:
    with contextlib.suppress(OSError), pipe.open("wb") as file:
        file.write(b"x\n")
