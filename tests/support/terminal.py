"""Commands on a pseudo terminal, where a person would watch them."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.cells import cell_len

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BAR = "━"
DECIDES_WHAT_IS_DRAWN = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


def environment(**more: str) -> dict[str, str]:
    """This process's variables with its Python's folder first, and nothing that says how to draw but `more`."""
    kept = {name: value for name, value in os.environ.items() if name not in DECIDES_WHAT_IS_DRAWN}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "PATH": path, "TERM": "xterm-256color", **more}


def run(
    command: Sequence[str], *, size: tuple[int, int], cwd: Path, env: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Exit code and screen of a command whose three streams are a terminal of (columns, lines)."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, size[::-1])
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    try:
        process = subprocess.Popen(command, **streams, cwd=cwd, env=env or environment(), start_new_session=True)
    finally:
        os.close(theirs)
    with process:
        try:
            screen = _all_of(ours)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            os.close(ours)
    return process.returncode, screen


def _all_of(terminal: int) -> str:
    """What is written until the last process closes its end, which Linux tells as an error."""
    written = []
    try:
        while chunk := os.read(terminal, 65536):
            written.append(chunk)
    except OSError:
        pass
    return b"".join(written).decode(errors="replace")


def pieces(screen: str) -> list[str]:
    """What is drawn from the left edge on, one by one, without control sequences."""
    return [piece for piece in re.split(r"[\r\n]+", CONTROL.sub("", screen)) if piece.strip()]


def lines(screen: str) -> list[str]:
    """What is left to see when all is written: lines as the last that was drawn there."""
    seen, erased = [], re.compile(r"(?:\r?\x1b\[2K|\r(?!\n))")
    for line in screen.split("\n"):
        if seen and line.startswith("\r\x1b[1A"):
            seen.pop()
        seen.append(CONTROL.sub("", erased.split(line.removesuffix("\r"))[-1]).rstrip())
    return [line for line in seen if line]


def check(command: str, code: int, screen: str, *, columns: int | None = None) -> None:
    """Assert that a command ended well, and that no bar is wider than the terminal."""
    assert code == 0, f"{command}\n{screen}"
    assert "Traceback" not in screen, f"{command}\n{screen}"
    assert "a defect of mgtool" not in screen, f"{command}\n{screen}"
    bars = [piece for piece in pieces(screen) if BAR in piece]
    assert columns is None or all(cell_len(bar.rstrip()) <= columns for bar in bars), command
