"""Entries that ranks of another number left behind, among those that are still to be looked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from mgtool.detection.output import JOURNAL, DetectionEntry
from mgtool.detection.picture_loader import Content, Named
from mgtool.files.journal import Journal

Detect = Callable[[Iterator[Named]], Generator[tuple[DetectionEntry, Content]]]


class Drawn(NamedTuple):
    """Where another folder drew a picture: its record's number there."""

    folder: Path
    place: int


class KnownPart:
    """A folder's entries, for items from a position on, as far as it came.

    Attributes:
        begin, end: positions among all items.
    """

    def __init__(self, folder: Path, begin: int) -> None:
        self.folder, self._next, self._records = folder, begin, 0
        journal = Journal(folder / JOURNAL)
        self.begin, self.end = begin, begin + sum(1 for _ in journal.read(DetectionEntry))
        self._entries = journal.read(DetectionEntry)

    def take(self, position: int) -> tuple[DetectionEntry, Drawn]:
        """The entry of a position; they are asked for in order."""
        while True:
            entry, drawn = next(self._entries), Drawn(self.folder, self._records)
            self._next += 1
            self._records += entry.box is not None
            if self._next > position:
                return entry, drawn


class KnownEntries:
    """Entries by position.

    Args:
        parts: that hold them.
        first: position among all items of the first that is asked for, whose number then is 0.
    """

    def __init__(self, parts: Sequence[KnownPart] = (), first: int = 0) -> None:
        self._parts, self._first = parts, first

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._parts)

    def has(self, index: int) -> bool:
        """Whether that of an item is known."""
        return any(part.begin <= index + self._first < part.end for part in self._parts)

    def take(self, index: int) -> tuple[DetectionEntry, Drawn]:
        """That of an item; they are asked for in order."""
        position = index + self._first
        return next(part for part in self._parts if part.begin <= position < part.end).take(position)


def among_known(
    items: Iterator[Named], begin: int, known: KnownEntries, detect: Detect
) -> Generator[tuple[DetectionEntry, Content | Drawn]]:
    """One entry for each item, in order; what is known is not looked at.

    Args:
        items, begin: from this number on.
        known, detect: by the items' numbers; looks at pictures.
    """
    order: deque[tuple[int, bool]] = deque()

    def unknown() -> Iterator[Named]:
        for index, item in enumerate(items, begin):
            order.append((index, known.has(index)))
            if not order[-1][1]:
                yield item

    with closing(detect(unknown())) as found:
        for pair in found:
            while order[0][1]:
                yield known.take(order.popleft()[0])
            order.popleft()
            yield pair
    while order:
        yield known.take(order.popleft()[0])
