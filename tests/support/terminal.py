"""Commands on a pseudo terminal, where a person would watch them."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import forked
from rich.cells import cell_len

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BAR = "━"
SIZES = ((80, 24), (120, 40))
_OF_A_SHELL = re.compile("[|<>&;$*?~`]")
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


def run_in_turn(
    lines: Sequence[str], *, size: tuple[int, int], cwd: Path, env: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """As `run`, of lines that need no shell, in a process that is forked off one that has loaded the libraries."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, size[::-1])
    name = os.ttyname(theirs)
    process = forked.in_turn(lines, cwd, env or environment(), stdin=name, out=name)

    def end() -> None:
        process.join()
        os.close(theirs)

    ending = threading.Thread(target=end)
    ending.start()
    try:
        screen = _all_of(ours)
    except BaseException:
        process.kill()
        raise
    finally:
        ending.join()
        os.close(ours)
    return process.exitcode or 0, screen


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


def check_typed(command: str, *, size: tuple[int, int], cwd: Path, is_fresh: bool = True) -> None:
    """`check` what somebody types: with programs of its own, or in a process that has loaded the libraries."""
    if is_fresh or _OF_A_SHELL.search(command) or not command.startswith("mgtool "):
        code, screen = run(["bash", "-o", "pipefail", "-c", command], size=size, cwd=cwd)
    else:
        code, screen = run_in_turn([command], size=size, cwd=cwd)
    # The processes of a pipe draw on the same line.
    check(command, code, screen, columns=None if "|" in command else size[0])
