"""Commands in processes of their own, forked off one that has loaded what commands load."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import resource
import shlex
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

_LOADED = [
    "forked", "mgtool.commands.main", "mgtool.inference.transformers_model", "mgtool.importing.published",
    "mgtool.training.trainer", "peft",
]  # fmt: skip
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
    said = folder / "said"
    said.touch()
    process = _begun(_command, [str(word) for word in words], said, gib, before)
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        return Ended(HANGS, said.read_text())
    return Ended(process.exitcode or 0, said.read_text())


def in_turn(lines: Sequence[str], folder: Path, env: Mapping[str, str], *, stdin: str, out: str) -> BaseProcess:
    """Begin commands in one process, which ends at the first that fails.

    Args:
        lines: what is typed.
        folder: where.
        env: all variables.
        stdin, out: paths of a terminal or of files, for stdin and for stdout and stderr.
    """
    return _begun(_in_turn, lines, folder, dict(env), stdin, out)


def _begun(target: Callable[..., object], *args: object) -> BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED)
    process = context.Process(target=target, args=args)
    process.start()
    return process


def _in_turn(lines: Sequence[str], folder: Path, env: dict[str, str], stdin: str, out: str) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    os.dup2(os.open(stdin, os.O_RDWR), 0)
    for stream in (1, 2):
        os.dup2(os.open(out, os.O_WRONLY | os.O_APPEND), stream)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    for name in [name for name in sys.modules if name.startswith("mgtool.commands")]:
        del sys.modules[name]  # it looks where it writes to when it is imported
    from mgtool.commands.main import main

    for line in lines:
        sys.argv = shlex.split(line)
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise


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
