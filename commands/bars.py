"""A bar on a terminal: how many of how many, how fast, how long still, and what failed; one line in 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from mgtool.commands.watching import BYTES, Watcher

_ROOM = len("^C") + 1
_WIDE = 110
"""Columns from which on there is room for what each node does."""


class Bar(Watcher):
    """A bar of Rich."""

    def __init__(self, what: str, total: int | None, say: Callable[[str], None], console: Console) -> None:
        super().__init__(what, total, say)
        columns = (_Counts(self), _Rate(self), TimeRemainingColumn(elapsed_when_finished=True))
        self.bar = _Drawn(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(None),
            *columns,
            _Extras(self, console),
            console=console,
        )
        self.task = self.bar.add_task(what, total=total)

    def show(self) -> None:
        """Move the bar; what went beyond the total, as where a file grew, has no end that is known."""
        total = self.total if self.total is None or self.total >= self.done else None
        self.bar.update(self.task, completed=self.done, total=total)

    def doing(self, step: str) -> None:
        """What is done now stands before the bar."""
        self.bar.update(self.task, description=step, refresh=True)

    def end(self) -> None:
        """All is done: no question mark stays."""
        self.bar.update(self.task, total=self.total or max(self.done, 1), completed=self.done or 1)


class _Drawn(Progress):
    def get_renderables(self) -> Iterable[RenderableType]:
        """With room behind them."""
        return [_WithRoom(whole) for whole in super().get_renderables()]


class _WithRoom(NamedTuple):
    """For ``^C``, which would begin a second line, and that is none that is erased."""

    whole: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.whole, options.update(max_width=max(options.max_width - _ROOM, 1)))


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
    def __init__(self, watcher: Watcher, console: Console) -> None:
        super().__init__(Column(no_wrap=True))
        self._watcher, self._console = watcher, console

    def render(self, task: Task) -> Text:
        told = self._watcher.extras(by_node=self._console.width >= _WIDE)
        return Text(told, style="red" if self._watcher.failures else "dim")
