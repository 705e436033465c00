"""What a person sees on stderr: progress and one-line texts. Data never goes through here."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

import typer

from mgtool.errors import without_secrets, without_steering

if TYPE_CHECKING:
    from rich.console import Console

Advance = Callable[[int], None]
_MOST_SHOWN = 30
_ERASE_LINE = b"\r\x1b[2K"


def __getattr__(name: str) -> Any:
    if name != "err":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault("err", _screen_of_stderr())


def _screen_of_stderr() -> Console:
    """What stands on stderr; a reader of it that went away ends no run. Rich is imported here, as help needs none."""
    from rich.console import Console
    from rich.control import Control
    from rich.segment import ControlType

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            _to_nowhere(sys.stderr)

        def print(self, *what: Any, **how: Any) -> None:
            with self:  # what is written in one go is not torn apart
                if self.is_interactive and has_reader():
                    self.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))
                super().print(*what, **how)

    is_drawn_on = None if sys.stderr.isatty() else False
    return Screen(stderr=True, highlight=False, soft_wrap=True, emoji=False, force_interactive=is_drawn_on)


def screen() -> Console:
    """Where all of it is drawn."""
    drawn_on: Console = sys.modules[__name__].err
    return drawn_on


FLAGS: dict[str, str] = {}
"""How the command line spells the fields of the options; filled by the commands."""


def flagged(text: str) -> str:
    """A text of the library, where fields stand in backticks, with the command line's flags."""
    return re.sub(r"`(\w+)`", lambda match: FLAGS.get(match[1], match[0]), text)


def printable(text: str, keeps: str = "\t\n") -> str:
    """A text that does nothing to a terminal and holds no credentials: what steers it, and what is no text, as escapes.

    >>> print(printable("a" + chr(27) + "[2J" + chr(0xDCFF)))
    a\\x1b[2J\\udcff
    """
    return without_steering(without_secrets(text), keeps=keeps)


def short(text: str) -> str:
    """A value as a line has room for it; what is no text as escapes.

    >>> short("9" * 5000), len(short(chr(0xDCFF)))
    ('999999999999999999999999999999...', 6)
    """
    text = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
    return text.encode("utf-8", "backslashreplace").decode()


def say(text: str) -> None:
    """One plain line on stderr."""
    screen().print(printable(flagged(text), keeps=""), markup=False)


def fail(text: str) -> None:
    """One line that says what is wrong."""
    from rich.markup import escape

    screen().print(f"[bold red]error:[/] {escape(printable(flagged(text)))}")


def has_reader() -> bool:
    """Whether stdout leads to another program, which may draw on the same terminal."""
    try:
        mode = os.fstat(1).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def put(line: bytes) -> None:
    """A line of data on stdout, at once; on a terminal where a bar stands, which is drawn anew below it."""
    has_bar = screen().is_interactive and sys.stdout.isatty()
    sys.stdout.buffer.write((_ERASE_LINE if has_bar else b"") + line + b"\n")
    sys.stdout.buffer.flush()


@contextlib.contextmanager
def progress(what: str, *, total: int | None = None, quiet: bool = False, streams: bool = False) -> Iterator[Advance]:
    """Count items done: a bar on a terminal, a plain line every 30 s elsewhere, nothing when quiet.

    Args:
        what: the noun that is counted, for instance ``"pictures"``.
        total: how many there will be, when known.
        quiet: show nothing.
        streams: data go to stdout meanwhile; what a program that reads them shows leaves no room for a bar.
    """
    if quiet:
        yield lambda n: None
        return
    from mgtool.commands import watching

    with watching.shown(what, total, screen(), say, is_alone=not (streams and has_reader())) as watcher:
        yield watcher


@contextlib.contextmanager
def read_enough() -> Iterator[None]:
    """A text on stdout that nobody reads to its end, as of help, is no failure."""
    try:
        yield
    except (BrokenPipeError, SystemExit):  # the latter is how Rich ends a process then
        close_stdout()
        raise typer.Exit from None


def close_stdout() -> None:
    """Point stdout at nothing after its reader went away, so that the interpreter ends without noise."""
    _to_nowhere(sys.stdout)


def _to_nowhere(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
