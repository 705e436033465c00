"""Where the records of files begin, found out once: shares of a run then read what is theirs and nothing else."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from mgtool.errors import RecordError
from mgtool.files import atomic
from mgtool.inputs.seen import Seen
from mgtool.records import dumps, parse
from mgtool.runs.shares import Share

T = TypeVar("T")
WORTH_BYTES = 1 << 20
"""Of a file; a smaller one is read again as fast."""
_EVERY, _EVERY_BYTES = 256, 1 << 20
"""Items, or bytes, from one mark to the next."""


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """A place to begin.

    Attributes:
        position: of the first item there, among all of the inputs.
        input: number of the input.
        offset: in bytes.
        line: number of the line, record or row, as its reader counts them.
    """

    position: int
    input: int
    offset: int
    line: int


class Start(NamedTuple):
    """A place to begin, and what a reader that begins there cannot have seen.

    Attributes:
        position, input, offset, line: as of `Mark`.
        kind: what the input is taken for, one of `seen.KINDS`.
        rows: where the rows of this input begin that others refer to, by what these call them.
    """

    position: int
    input: int
    offset: int
    line: int
    kind: str
    rows: Mapping[str, int]


class LineIndex(msgspec.Struct, frozen=True):
    """What one reading of some inputs tells all others.

    Attributes:
        identity: of the inputs.
        total: number of items.
        left_out: as of `LeftOut.summary`.
        marks: some places to begin, in order; none in inputs that have to be read from their beginning.
        kinds, rows: as of `Start`, by the number of the input.
    """

    identity: Any
    total: int
    left_out: dict[str, Any]
    marks: list[Mark]
    kinds: dict[int, str] = {}
    rows: dict[int, dict[str, int]] = {}

    def stretch(self, share: Share, read: Callable[[Start | None], Iterable[T]]) -> Iterator[T]:
        """A share's items; `read` gives those from a place on."""
        begin, end = share.stretch(self.total)
        start = self._start(begin)
        first = 0 if start is None else start.position
        return itertools.islice(read(start), begin - first, end - first)

    def _start(self, position: int) -> Start | None:
        """The last place that does not lie behind an item; None where that is the beginning."""
        after = bisect.bisect_right(self.marks, position, key=lambda mark: mark.position)
        mark = self.marks[after - 1] if after else None
        if mark is None or (not mark.position and not self.rows):
            return None
        kind, rows = self.kinds[mark.input], self.rows.get(mark.input, {})
        return Start(mark.position, mark.input, mark.offset, mark.line, kind, rows)


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
    left_out = marking.left_out.summary()
    index = LineIndex(plain, marking.position, left_out, marking.marks, marking.taken_for, marking.rows)
    atomic.write_bytes(path, dumps(index))
    return index


class _Marking(Seen):
    """Marks places while items are read."""

    def __init__(self, inputs: Sequence[str], *, wants_boxes: bool) -> None:
        super().__init__(wants_boxes=wants_boxes)
        self._numbers = {str(Path(given)): number for number, given in enumerate(inputs)}
        self._has_doubles = len(self._numbers) < len(inputs)
        self.position, self.marks = 0, list[Mark]()
        self.taken_for, self.rows = dict[int, str](), dict[int, dict[str, int]]()

    def take(self, given: str, kind: str) -> None:
        super().take(given, kind)
        if (number := self._numbers.get(given)) is not None:
            self.taken_for[number] = kind

    def begins(self, where: str, offset: int, line: int) -> None:
        number = self._numbers.get(where)
        if number is None or self._has_doubles:
            return
        last = self.marks[-1] if self.marks else Mark(-_EVERY, -1, 0, 0)
        is_near = self.position - last.position < _EVERY and offset - last.offset < _EVERY_BYTES
        if (number != last.input or not is_near) and Path(where).is_file():
            self.marks.append(Mark(self.position, number, offset, line))

    def refers(self, where: str, name: str, offset: int) -> None:
        if (number := self._numbers.get(where)) is not None:
            self.rows.setdefault(number, {})[name] = offset
