"""Pictures -> box records: each distinct picture once, in input order, whatever the workers and the batch size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

from mgtool.boxes.statistics import Statistics
from mgtool.detection.batch_size import BatchSize
from mgtool.detection.finder import Finder
from mgtool.detection.ledger import Ledger
from mgtool.detection.output import Entry, Output
from mgtool.detection.picture_loader import Named
from mgtool.detection.pipeline import detect
from mgtool.errors import ResumeError
from mgtool.media.videos import FRAMES


def run(
    items: Iterator[Named],
    finder: Finder,
    output: Output,
    *,
    batch: BatchSize,
    workers: int,
    frames: int = FRAMES,
    advance: Callable[[int], None] = lambda n: None,
) -> Statistics:
    """Detect what is left of the input and write it; errors as the finder's, and `OutputError`.

    Raises:
        ResumeError: the input has other items than the output.
    """
    ledger = Ledger()
    for entry in output.resume():
        item = next(items, None)
        _refuse_other(entry, item, output)
        if isinstance(item, tuple):
            ledger.settle(item[1], entry)
    advance(output.statistics.items)
    try:
        found = detect(items, finder, ledger=ledger, batch=batch, workers=workers, frames=frames)
        with closing(found) as entries:
            for entry, content in entries:
                output.draw(entry, content, finder.draw)
                output.add(entry)
                advance(1)
        output.finish()
    finally:
        output.close()
    return output.statistics


def _refuse_other(entry: Entry, item: Named | None, output: Output) -> None:
    found = item[0].id if isinstance(item, tuple) else item and item.id
    if found != entry.id:
        now = "has ended" if item is None else f"has {found}"
        raise ResumeError(
            f"{output.folder} holds {entry.id} where the input {now}: choose another `out` or add `overwrite`"
        )
