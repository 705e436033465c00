"""A run's last words: what it did, how long it took, where the results lie and what comes next."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgtool.commands import console

if TYPE_CHECKING:
    from rich.table import Table

    from mgtool.runs.shares import Share

_clock = {"began": time.monotonic()}


def begin() -> None:
    """A command begins now."""
    _clock["began"] = time.monotonic()


def took(done: int) -> dict[str, float]:
    """How long the command has taken, and for how many items a second."""
    seconds = time.monotonic() - _clock["began"]
    rate = done / max(seconds, 1e-9)
    return {"seconds": round(seconds, 2), "per_second": round(rate, 2) if rate >= 1 else float(f"{rate:.3g}")}


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
        console.screen().print(_table(summary, title))
        if then:
            console.say(f"next: {then}")


def tell(facts: Mapping[str, Any], *, as_json: bool) -> None:
    """Facts as data on stdout: names and values, those with parts over several lines; or one JSON object."""
    if as_json:
        summarize(facts, title="", as_json=True, quiet=True)
        return
    wide = max(map(len, facts))
    for name, value in facts.items():
        parts = [f"{key} {entry}" for key, entry in value.items()] if isinstance(value, Mapping) else [_shown(value)]
        for number, part in enumerate(parts or ["none"]):
            sys.stdout.write(f"{'' if number else name.replace('_', ' '):{wide}}  {console.printable(part)}\n")


def show_failures(count: int, where: Path | str, *, quiet: bool) -> None:
    """Say where the items are listed that a run could not use: in a file, or in a folder's list of them."""
    if count and not quiet:
        from mgtool.runs.run_file import FAILURES_FILE

        console.say(f"failed: {count:,}, see {Path(where, FAILURES_FILE) if Path(where).is_dir() else where}")


MOST_NODES = 8
"""Of a cluster that are named one by one."""


def by_node(nodes: Mapping[str, Mapping[str, float]], *, as_json: bool) -> dict[str, Any]:
    """What each node of a cluster did, as an entry of a summary; of many, between which rates.

    >>> by_node({"a": {"items": 2400, "per_second": 20.64}}, as_json=False)
    {'nodes': {'a': '2,400 at 20.6/s'}}
    >>> by_node({}, as_json=True)
    {}
    """
    if not nodes or as_json:
        return {"nodes": nodes} if nodes else {}
    if len(nodes) > MOST_NODES:
        rates = [node["per_second"] for node in nodes.values()]
        return {"nodes": f"{len(nodes)}, each {min(rates):,.1f} to {max(rates):,.1f}/s"}
    return {"nodes": {name: f"{node['items']:,} at {node['per_second']:,.1f}/s" for name, node in nodes.items()}}


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
        table.add_row(key.replace("_", " "), escape(console.printable(console.flagged(_shown(value)))))
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


def show_nothing_left(where: Path | str, had_finished: bool, *, quiet: bool) -> None:
    """Say that an earlier run had done everything."""
    if had_finished and not quiet:
        console.say(f"{where} was complete; nothing was left to do")


def show_missing(shares: Sequence[Share], *, quiet: bool) -> None:
    """Name the shares of a run that are not there yet."""
    from mgtool.runs.claims import told

    if shares and not quiet:
        console.say(f"waiting for {told(shares)}; the rank that ends last joins all of them")
