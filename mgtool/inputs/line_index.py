"""Where the records of JSON lines begin, found out once: shares of a run then read what is theirs and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mgtool.errors import RecordError
from mgtool.files import atomic
from mgtool.inputs.seen import Seen
from mgtool.records import dumps, parse
from mgtool.runs.shares import Share

T = TypeVar("T")
WORTH_BYTES = 8 << 20
"""Of a file; a smaller one is read again as fast."""
_EVERY = 256
"""Items from one mark to the next."""


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """A place to begin.

    Attributes:
        position: of the first item there, among all of the inputs.
        input: number of the input.
        offset: in bytes.
        line: number of the line, from 1.
    """

    position: int
    input: int
    offset: int
    line: int


class LineIndex(msgspec.Struct, frozen=True):
    """What one reading of some inputs tells all others.

    Attributes:
        identity: of the inputs.
        total: number of items.
        left_out: as of `LeftOut.summary`.
        marks: some places to begin, in order; none in inputs that are no JSON lines.
    """

    identity: Any
    total: int
    left_out: dict[str, Any]
    marks: list[Mark]

    def stretch(self, share: Share, read: Callable[[Mark | None], Iterable[T]]) -> Iterator[T]:
        """A share's items; `read` gives those from a mark on."""
        begin, end = share.stretch(self.total)
        mark = next((mark for mark in reversed(self.marks) if mark.position <= begin), None)
        first = 0 if mark is None else mark.position
        return itertools.islice(read(mark), begin - first, end - first)


def is_worth(inputs: Sequence[str]) -> bool:
    """Whether there is a file that is better read in parts."""
    files = (Path(given) for given in inputs if given != "-" and "://" not in given)
    return "-" not in inputs and any(file.is_file() and file.stat().st_size >= WORTH_BYTES for file in files)


def kept(
    path: Path,
    inputs: Sequence[str],
    identity: Any,
    read: Callable[[Seen], Iterable[object]],
    *,
    wants_boxes: bool = False,
) -> LineIndex:
    """The index in a file; made and written there where there is none of these inputs. One process at a time does it.

    Args:
        path: of the file.
        inputs: that are read.
        identity: of the inputs, which tells whether an index is theirs.
        read: gives all items, each as soon as it is read, and tells of what it sees.
        wants_boxes: as of `Seen`.
    """
    plain = msgspec.to_builtins(identity)
    if path.exists():
        try:
            found = parse(path.read_bytes(), LineIndex, where=str(path))
        except RecordError:
            found = None
        if found is not None and found.identity == plain:
            return found
    marking = _Marking(inputs, wants_boxes=wants_boxes)
    for _ in read(marking):
        marking.position += 1
    index = LineIndex(plain, marking.position, marking.left_out.summary(), marking.marks)
    atomic.write_bytes(path, dumps(index))
    return index


class _Marking(Seen):
    """Marks places while items are read."""

    def __init__(self, inputs: Sequence[str], *, wants_boxes: bool) -> None:
        super().__init__(wants_boxes=wants_boxes)
        self._numbers = {str(Path(given)): number for number, given in enumerate(inputs)}
        self._has_doubles = len(self._numbers) < len(inputs)
        self.position, self.marks = 0, list[Mark]()

    def begins(self, where: str, offset: int, line: int) -> None:
        number = self._numbers.get(where)
        if number is None or self._has_doubles or not Path(where).is_file():
            return
        if not self.marks or self.position - self.marks[-1].position >= _EVERY:
            self.marks.append(Mark(self.position, number, offset, line))
