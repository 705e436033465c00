"""What a run tells of itself while it goes on, to callables that want to know more than how many items are done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mgtool.records import Advance, Failure
from mgtool.runs.ray_nodes import DoneHere, NodeWork

_MOST_BYTES = 1 << 26
_LISTS = {".json", ".jsonl", ".txt", ".tsv", ".csv"}
_DATA = {".tar", ".gz", ".tgz", ".parquet", ".arrow", *_LISTS}


class Progress:
    """An `Advance` that is also told of totals, failures and tokens; this one does nothing with them."""

    def __call__(self, done: int) -> None:
        """So many more items are done."""

    def started(self, total: int) -> None:
        """There will be so many, beside those that were told before."""

    def failed(self, failure: Failure) -> None:
        """One of those that are done could not be used."""

    def made(self, tokens: int) -> None:
        """So many more tokens were made."""

    def doing(self, step: str) -> None:
        """What is done now."""

    def known(self, count: int) -> None:
        """So many are done that an earlier run did."""
        self(count)

    def working(self, work: NodeWork) -> None:
        """What the nodes of a cluster do is told there."""

    def waits(self, why: str) -> None:
        """Nothing can be done yet, perhaps for long."""


def started(advance: Advance, total: int | None) -> None:
    """Tell a total, where it is known and wanted."""
    if total is not None and isinstance(advance, Progress):
        advance.started(total)


def failed(advance: Advance, failure: Failure | None) -> None:
    """Tell a failure, where there is one and it is wanted."""
    if failure is not None and isinstance(advance, Progress):
        advance.failed(failure)


def made(advance: Advance, tokens: int) -> None:
    """Tell of new tokens, where they are wanted."""
    if tokens and isinstance(advance, Progress):
        advance.made(tokens)


def doing(advance: Advance, step: str) -> None:
    """Tell what is done now, where that is wanted."""
    if isinstance(advance, Progress):
        advance.doing(step)


def known(advance: Advance, count: int) -> None:
    """Tell what an earlier run did; to what knows no difference, as done."""
    (advance.known if isinstance(advance, Progress | DoneHere) else advance)(count)


def working(advance: Advance, work: NodeWork) -> None:
    """Tell where it is told what nodes do, where that is wanted."""
    if isinstance(advance, Progress):
        advance.working(work)


def waits(advance: Advance, why: str) -> None:
    """Tell why nothing can be done yet, where that is wanted."""
    if isinstance(advance, Progress):
        advance.waits(why)


def is_counted_soon(inputs: Sequence[str], advance: Advance) -> bool:
    """Whether somebody wants a total, and going through the inputs without opening a picture costs next to nothing."""
    return isinstance(advance, Progress) and all(map(_is_small, inputs))


def counted(advance: Advance, inputs: Sequence[str], items: Callable[[], Iterable[object]]) -> None:
    """Tell the number of items, where `is_counted_soon`."""
    if is_counted_soon(inputs, advance):
        started(advance, sum(1 for _ in items()))


def _is_small(given: str) -> bool:
    if given == "-" or "://" in given:
        return False
    path = Path(given)
    try:
        if path.is_dir():
            with os.scandir(path) as entries:
                return not any(Path(entry.name).suffix.lower() in _DATA for entry in entries)
        return path.suffix.lower() not in _DATA - _LISTS and path.is_file() and path.stat().st_size <= _MOST_BYTES
    except OSError:
        return False


class ProgressBar(Progress):
    """A bar of tqdm, on a terminal or in a notebook; as `advance` of one run.

    Args:
        desc: what stands before the bar.
        options: as `tqdm.tqdm` takes them.
    """

    def __init__(self, desc: str | None = None, **options: Any) -> None:
        from tqdm.auto import tqdm

        self.bar = tqdm(desc=desc, **options)
        self._failures = self._tokens = 0

    def __call__(self, done: int) -> None:
        """So many more items are done."""
        self.bar.update(done)
        if self.bar.total is not None and self.bar.n >= self.bar.total:
            self.close()

    def started(self, total: int) -> None:
        """There will be so many, beside those that were told before."""
        self.bar.total = (self.bar.total or 0) + total
        self.bar.refresh()

    def failed(self, failure: Failure) -> None:
        """One could not be used; the bar says why the last one was not."""
        self._failures += 1
        self._note(last=failure.reason)

    def made(self, tokens: int) -> None:
        """So many more tokens were made."""
        self._tokens += tokens
        self._note()

    def doing(self, step: str) -> None:
        """What is done now."""
        self.bar.set_description_str(step)

    def close(self) -> None:
        """Leave the bar as it is."""
        self.bar.close()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _note(self, **more: str) -> None:
        counts = {"failed": self._failures, "tokens": self._tokens}
        self.bar.set_postfix({**{name: count for name, count in counts.items() if count}, **more}, refresh=False)


def progress_bar(desc: str | None = None, **options: Any) -> ProgressBar:
    """A bar for `advance` of any function of mgtool, drawn by ``tqdm.auto``; without one nothing is printed."""
    return ProgressBar(desc, **options)
