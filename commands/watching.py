"""How a run goes on: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from mgtool.records import Failure
from mgtool.runs.progress import Progress as Watched

PLAIN_LINE_EVERY_S = 30.0
BYTES = "bytes"
"""What is counted in units of a thousand."""


class Watcher(Watched):
    """What all ways to show have in common: failures are counted, the first of each reason is told at once.

    Args:
        what: the noun that is counted.
        total: how many there will be, when known.
        say: writes a line.
    """

    def __init__(self, what: str, total: int | None, say: Callable[[str], None]) -> None:
        self.what, self.total, self.say = what, total, say
        self.done = self.tokens = self.failures = 0
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
        return decimal(int(count)) if self.what == BYTES else f"{count:,.0f}"

    @property
    def extras(self) -> str:
        """Tokens a second and failures, where there are any."""
        parts = [f"{self.tokens / self.seconds:,.0f} tokens/s"] if self.tokens else []
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
        rate = self.done / self.seconds
        parts = [f"{self.number(self.done)}{of} {self.what}", f"{self.number(rate) if rate >= 10 else f'{rate:.1f}'}/s"]
        if self.total and self.total > self.done:
            parts.append(f"{_time((self.total - self.done) / rate)} left")
        return ", ".join([*parts, *([self.extras] if self.extras else [])])


class Bar(Watcher):
    """A bar of Rich."""

    def __init__(self, what: str, total: int | None, say: Callable[[str], None], console: Console) -> None:
        super().__init__(what, total, say)
        columns = (_Counts(self), _Rate(self), TimeRemainingColumn(elapsed_when_finished=True))
        self.bar = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(None), *columns, _Extras(self), console=console
        )
        self.task = self.bar.add_task(what, total=total)

    def show(self) -> None:
        """Move the bar; what went beyond the total, as where a file grew, has no end that is known."""
        total = self.total if self.total is None or self.total >= self.done else None
        self.bar.update(self.task, completed=self.done, total=total)

    def doing(self, step: str) -> None:
        """What is done now stands before the bar."""
        self.bar.update(self.task, description=step)

    def end(self) -> None:
        """All is done: no question mark stays."""
        self.bar.update(self.task, total=self.total or max(self.done, 1), completed=self.done or 1)


class _Counts(ProgressColumn):
    """``3/12``, or ``3`` where nobody knows of how many."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__(Column(no_wrap=True))
        self._watcher = watcher

    def render(self, task: Task) -> Text:
        watcher = self._watcher
        of = f"/{self._number(watcher.total)}" if watcher.total else ""
        return Text(f"{self._number(watcher.done)}{of}" if watcher.done or of else "", style="progress.download")

    def _number(self, count: int) -> str:
        return self._watcher.number(count) if self._watcher.what == BYTES else str(count)


class _Rate(ProgressColumn):
    """Items a second; of Rich's own columns one counts bytes, and one shows a rate only where no total is known."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__(Column(no_wrap=True))
        self._watcher = watcher

    def render(self, task: Task) -> Text:
        if not self._watcher.done:
            return Text("")
        speed = task.finished_speed or task.speed or self._watcher.done / self._watcher.seconds
        shown = self._watcher.number(speed) if self._watcher.what == BYTES else f"{speed:.1f}"
        return Text(f"{shown}/s", style="dim")


class _Extras(ProgressColumn):
    def __init__(self, watcher: Watcher) -> None:
        super().__init__(Column(no_wrap=True))
        self._watcher = watcher

    def render(self, task: Task) -> Text:
        return Text(self._watcher.extras, style="red" if self._watcher.failures else "dim")


@contextlib.contextmanager
def shown(what: str, total: int | None, console: Console, say: Callable[[str], None]) -> Iterator[Watcher]:
    """Show how a run goes on until the block is left."""
    if not console.is_terminal:
        yield Lines(what, total, say)
        return
    bar = Bar(what, total, say, console)
    with bar.bar:
        try:
            yield bar
        except BaseException:
            bar.bar.live.transient = True  # what was not done is no bar to keep
            raise
        bar.end()


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{rest} s"
