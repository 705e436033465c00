"""What a person sees on stderr: progress, summaries, one-line errors. Data never goes through here."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from mgtool.errors import without_secrets

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mgtool.runs.shares import Share

Advance = Callable[[int], None]


def __getattr__(name: str) -> Any:
    if name != "err":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault("err", _screen_of_stderr())


def _screen_of_stderr() -> Console:
    """What stands on stderr; a reader of it that went away ends no run. Rich is imported here, as help needs none."""
    from rich.console import Console

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            _to_nowhere(sys.stderr)

    return Screen(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def _screen() -> Console:
    screen: Console = sys.modules[__name__].err
    return screen


FLAGS: dict[str, str] = {}
"""How the command line spells the fields of the options; filled by the commands."""


def flagged(text: str) -> str:
    """A text of the library, where fields stand in backticks, with the command line's flags."""
    return re.sub(r"`(\w+)`", lambda match: FLAGS.get(match[1], match[0]), text)


_STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """A text that does nothing to a terminal and holds no credentials: what steers it, and what is no text, as escapes.

    >>> print(printable("a" + chr(27) + "[2J" + chr(0xDCFF)))
    a\\x1b[2J\\udcff
    """
    return _STEERS.sub(lambda match: match[0].encode("unicode_escape").decode(), without_secrets(text))


def say(text: str) -> None:
    """One plain line on stderr."""
    _screen().print(printable(flagged(text)), markup=False)


def fail(text: str) -> None:
    """One line that says what is wrong."""
    from rich.markup import escape

    _screen().print(f"[bold red]error:[/] {escape(printable(flagged(text)))}")


@contextlib.contextmanager
def progress(what: str, *, total: int | None = None, quiet: bool = False) -> Iterator[Advance]:
    """Count items done: a bar on a terminal, a plain line every 30 s elsewhere, nothing when quiet.

    Args:
        what: the noun that is counted, for instance ``"pictures"``.
        total: how many there will be, when known.
        quiet: show nothing.
    """
    from mgtool.commands import watching

    if quiet:
        yield lambda n: None
    else:
        with watching.shown(what, total, _screen(), say) as watcher:
            yield watcher


_clock = {"began": time.monotonic()}


def begin() -> None:
    """A command begins now."""
    _clock["began"] = time.monotonic()


def took(done: int) -> dict[str, float]:
    """How long the command has taken, and for how many items a second."""
    seconds = time.monotonic() - _clock["began"]
    return {"seconds": round(seconds, 2), "per_second": round(done / max(seconds, 1e-9), 2)}


def command(*words: object) -> str:
    """A command line that a shell takes as it stands."""
    return shlex.join(map(str, words))


def summarize(
    summary: Mapping[str, Any], *, title: str, as_json: bool, quiet: bool, done: int | None = None, then: str = ""
) -> None:
    """Show what a run did: a small table on stderr, or one JSON object on stdout.

    Args:
        summary: names and values.
        title: of the table.
        as_json: print an object.
        quiet: print no table.
        done: items that the run went through; None where its time tells nothing.
        then: the next command.
    """
    summary = {**summary, **({} if done is None else took(done)), **({"next": then} if as_json and then else {})}
    if as_json:
        from mgtool.records import dumps

        sys.stdout.buffer.write(dumps(summary) + b"\n")
        sys.stdout.buffer.flush()
    elif not quiet:
        _screen().print(_table(summary, title))
        if then:
            say(f"next: {then}")


def tell(facts: Mapping[str, Any], *, as_json: bool) -> None:
    """Facts as data on stdout: names and values, those with parts over several lines; or one JSON object."""
    if as_json:
        summarize(facts, title="", as_json=True, quiet=True)
        return
    wide = max(map(len, facts))
    for name, value in facts.items():
        parts = [f"{key} {entry}" for key, entry in value.items()] if isinstance(value, Mapping) else [_shown(value)]
        for number, part in enumerate(parts or ["none"]):
            sys.stdout.write(f"{'' if number else name.replace('_', ' '):{wide}}  {printable(part)}\n")


def show_failures(count: int, where: Path | str, *, quiet: bool) -> None:
    """Say where the items are listed that a run could not use: in a file, or in a folder's list of them."""
    if count and not quiet:
        from mgtool.runs.run_file import FAILURES_FILE

        say(f"failed: {count:,}, see {Path(where, FAILURES_FILE) if Path(where).is_dir() else where}")


_ONLY_WHERE_THERE_ARE = {"videos", "frames", "duplicates", "skipped", "failures_by_reason", "left_out"}
"""What a table says nothing of where there is none."""


def _table(summary: Mapping[str, Any], title: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, show_header=False, title_justify="left", title_style="bold", box=None, padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for key, value in summary.items():
        if not value and key in _ONLY_WHERE_THERE_ARE:
            continue
        table.add_row(key.replace("_", " "), escape(printable(flagged(_shown(value)))))
    return table


def _shown(value: Any) -> str:
    if isinstance(value, Mapping) and value.keys() == {"count", "examples"}:
        more = ", ..." if value["count"] > len(value["examples"]) else ""
        return f"{value['count']:,} ({', '.join(value['examples'])}{more})"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_shown(entry)}" for key, entry in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.4g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


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


def show_missing(shares: Sequence[Share], *, quiet: bool) -> None:
    """Name the shares of a run that are not there yet."""
    from mgtool.runs.claims import told

    if shares and not quiet:
        say(f"waiting for {told(shares)}; the rank that ends last joins all of them")
