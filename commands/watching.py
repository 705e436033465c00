"""How a run goes on: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mgtool.commands.summaries import MOST_NODES
from mgtool.records import Failure
from mgtool.runs.progress import Progress
from mgtool.runs.ray_nodes import NodeWork

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_LINE_EVERY_S = 30.0
BYTES = "bytes"
"""What is counted in units of a thousand."""


class Watcher(Progress):
    """What all ways to show have in common: failures are counted, the first of each reason is told at once.

    Args:
        what: the noun that is counted.
        total: how many there will be, when known.
        say: writes a line.
    """

    def __init__(self, what: str, total: int | None, say: Callable[[str], None]) -> None:
        self.what, self.total, self.say = what, total, say
        self.done = self.tokens = self.failures = self.before = 0
        self.work: NodeWork | None = None
        self.began = time.monotonic()
        self._told: set[str] = set()

    def __call__(self, done: int) -> None:
        """So many more items are done."""
        self.done += done
        self.show()

    def started(self, total: int) -> None:
        """There will be so many, beside those that were told before."""
        if not self.total:
            self.began = time.monotonic()
        self.total = (self.total or 0) + total
        self.show()

    def known(self, count: int) -> None:
        """So many are done that an earlier run did; they took no time."""
        self.before += count
        self(count)

    def working(self, work: NodeWork) -> None:
        """What the nodes of a cluster do is told there."""
        self.work = work

    def waits(self, why: str) -> None:
        """Nothing can be done yet, perhaps for long."""
        self.say(why)

    def failed(self, failure: Failure) -> None:
        """One could not be used."""
        self.failures += 1
        if failure.reason not in self._told:
            self._told.add(failure.reason)
            self.say(f"failed: {failure.id}: {failure.reason}: {failure.detail}")

    def made(self, tokens: int) -> None:
        """So many more tokens were made."""
        self.tokens += tokens

    def show(self) -> None:
        """Bring what is seen up to date."""

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return max(time.monotonic() - self.began, 1e-9)

    def number(self, count: float) -> str:
        """A count of what is counted."""
        if self.what != BYTES:
            return f"{count:,.0f}"
        from rich.filesize import decimal

        return decimal(int(count))

    @property
    def rate(self) -> float:
        """Items a second, of those that this run does."""
        return (self.done - self.before) / self.seconds

    def extras(self, *, by_node: bool) -> str:
        """Tokens a second, what the nodes of a cluster do, and failures, where there are any."""
        parts = [f"{self.tokens / self.seconds:,.0f} tokens/s"] if self.tokens else []
        parts += [told] if self.work is not None and (told := told_of(self.work, by_node=by_node)) else []
        return ", ".join([*parts, *([f"{self.failures:,} failed"] if self.failures else [])])


class Lines(Watcher):
    """A plain line every 30 s."""

    last = 0.0

    def show(self) -> None:
        """Write a line where it is time for one."""
        now = time.monotonic()
        if now - (self.last or self.began) >= PLAIN_LINE_EVERY_S and self.done:
            self.last = now
            self.say(f"{time.strftime('%H:%M:%S')} {self.line}")

    @property
    def line(self) -> str:
        """Where the run is."""
        of = f" of {self.number(self.total)}" if self.total else ""
        rate, extras = self.rate, self.extras(by_node=True)
        parts = [f"{self.number(self.done)}{of} {self.what}", f"{self.number(rate) if rate >= 10 else f'{rate:.1f}'}/s"]
        if self.total and self.total > self.done and rate:
            parts.append(f"{_time((self.total - self.done) / rate)} left")
        return ", ".join([*parts, *([extras] if extras else [])])


@contextlib.contextmanager
def shown(
    what: str, total: int | None, console: Console, say: Callable[[str], None], *, is_alone: bool = True
) -> Iterator[Watcher]:
    """Show how a run goes on until the block is left; a bar wants a terminal that no other program writes to."""
    if not (is_alone and console.is_interactive):
        yield Lines(what, total, say)
        return
    from mgtool.commands.bars import Bar

    bar = Bar(what, total, say, console)
    with bar.bar:
        try:
            yield bar
        except BaseException:
            bar.bar.live.transient = True  # what was not done is no bar to keep
            raise
        bar.end()


def told_of(work: NodeWork, *, by_node: bool) -> str:
    """Items a second of a cluster, and of each of its nodes where these are few.

    >>> work = NodeWork("pictures")
    >>> told_of(work, by_node=True)
    ''
    """
    rates = work.rates
    if not rates:
        return ""
    whole = f"{_rate(sum(rates.values()))} {work.noun}/s"
    if not by_node or len(rates) == 1:
        return whole
    if len(rates) > MOST_NODES:
        return f"{whole} ({len(rates)} nodes, {_rate(min(rates.values()))} to {_rate(max(rates.values()))} each)"
    return f"{whole} ({', '.join(f'{node} {_rate(rate)}' for node, rate in rates.items())})"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{rest} s"
