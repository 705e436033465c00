"""Pictures of a finished run that could not be reached: asked again, all others being kept as they are."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing

from mgtool.detection.output import DetectionEntry, DetectionOutput
from mgtool.detection.picture_loader import Content, Named
from mgtool.errors import UNREACHABLE

Detect = Callable[[Iterator[Named]], Generator[tuple[DetectionEntry, Content]]]
"""As `pipeline.detect`: one entry for each item, in order."""


def ask_again(items: Iterable[Named], output: DetectionOutput, detect: Detect) -> None:
    """Put what is found now into the entries of a finished run; its files are to be written again from these.

    What was drawn stays as it is.

    Args:
        items: all of the run's, in order.
        output: of the run, its entries kept.
        detect: looks at pictures.
    """
    asked = (item for item, entry in zip(items, output.entries(), strict=False) if _may_pass(entry))
    with closing(detect(asked)) as found:
        new = [entry for entry, _ in found]
    output.replace(_once_each(_merged(output.entries(), iter(new))))


def _merged(entries: Iterable[DetectionEntry], new: Iterator[DetectionEntry]) -> Iterator[DetectionEntry]:
    for entry in entries:
        yield next(new) if _may_pass(entry) else entry


def _may_pass(entry: DetectionEntry) -> bool:
    return entry.failure is not None and entry.failure.reason == UNREACHABLE


def _once_each(entries: Iterable[DetectionEntry]) -> Iterator[DetectionEntry]:
    seen = set[bytes]()
    return (entry.unless_in(seen) for entry in entries)
