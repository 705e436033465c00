"""Records as a sequence that stands on disk where there are many of them, so that memory does not grow with them."""

from __future__ import annotations

import itertools
import os
import struct
import types
import weakref
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar, cast

import msgspec

from mgtool.files.temporary import unnamed_file, write_all

T = TypeVar("T")
MOST_IN_MEMORY = 4096
"""Records that need no file."""
BLOCK = 64
"""Records that are decoded together."""
_CACHED = 2
"""Blocks that stay decoded, for passes that go side by side."""
_LIST = b"\xdd"
"""What begins a list in msgpack, before its length."""
_NOTHING = b"\xc0"
_END = struct.Struct("<I")


def kept(records: Iterable[T], type: type[T], most: int = MOST_IN_MEMORY) -> Sequence[T]:
    """Records as a list, or, where there are more than `most`, as a `RecordFile`; errors as of `RecordFile.append`."""
    if isinstance(records, RecordFile):
        return records
    return spilled(records, lambda: RecordFile(type), most)


def spilled(records: Iterable[T], make: Callable[[], RecordFile[T]], most: int) -> Sequence[T]:
    """Records as a list, or, where there are more than `most`, in a file that is made; errors as of `kept`."""
    iterator = iter(records)
    first = list(itertools.islice(iterator, most + 1))
    if len(first) <= most:
        return first
    file = make()
    file.extend(first)
    del first
    file.extend(iterator)
    return file


class RecordFile(Sequence[T], Generic[T]):
    """A sequence of which memory has some blocks, and a temporary file the rest.

    The file has no name, so that it is gone with the last one who uses it, or with the process, however that ends.
    Equal to a list of the same records; a slice and a pickled copy are lists. What stood as a tuple in a field of any
    type comes back as a list, as from JSON. Passes may go side by side, but not in several threads.

    Args:
        type: of the records, a msgspec structure.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, type: type[T]) -> None:
        self._file = unnamed_file()
        weakref.finalize(self, self._file.close)
        self._encoder = msgspec.msgpack.Encoder()
        self._one: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(type)
        listed: Any = types.GenericAlias(list, (cast(Any, type) | None,))
        self._many: msgspec.msgpack.Decoder[list[T]] = msgspec.msgpack.Decoder(listed)
        self._begins = array("Q", [0])
        self._last: list[T] = []
        self._odd: dict[int, T] = {}  # what msgpack cannot hold: halves of surrogate pairs, integers over 64 bits
        self._decoded: dict[int, list[T]] = {}
        self._asked = -1

    def append(self, record: T) -> None:
        """Add a record.

        Raises:
            OutputError: when the temporary file cannot be written.
        """
        self._last.append(record)
        if len(self._last) == BLOCK:
            self._write()

    def extend(self, records: Iterable[T]) -> None:
        """Add records; errors as of `append`."""
        more = iter(records)
        while True:
            self._last.extend(itertools.islice(more, BLOCK - len(self._last)))
            if len(self._last) < BLOCK:
                return
            self._write()

    def _write(self) -> None:
        """A block: the records as a list in msgpack, and where each ends, so that one can be read alone."""
        data, ends = bytearray(_LIST + BLOCK.to_bytes(4, "big")), array("I")
        ends.append(len(data))
        encode, first = self._encoder.encode_into, BLOCK * (len(self._begins) - 1)
        for place, record in enumerate(self._last, first):
            try:
                encode(record, data, -1)
            except (TypeError, ValueError, OverflowError):
                del data[ends[-1] :]
                data += _NOTHING
                self._odd[place] = record
            ends.append(len(data))
        data += ends.tobytes()
        write_all(self._file, data)
        self._begins.append(self._begins[-1] + len(data))
        self._last = []

    def __len__(self) -> int:
        """Number of records."""
        return BLOCK * (len(self._begins) - 1) + len(self._last)

    def __iter__(self) -> Iterator[T]:
        for number in range(len(self._begins) - 1):
            yield from self._block(number)
        yield from self._last

    def __getitem__(self, place: Any) -> Any:
        """The record at a place, or several as a list."""
        if isinstance(place, slice):
            return [self._at(one) for one in range(*place.indices(len(self)))]
        number = place + len(self) if place < 0 else place
        if not 0 <= number < len(self):
            raise IndexError(place)
        return self._at(number)

    def _at(self, place: int) -> T:
        """A record; its whole block is decoded where neighbours are asked for, too."""
        number, inside = divmod(place, BLOCK)
        if number == len(self._begins) - 1:
            return self._last[inside]
        block = self._decoded.get(number)
        if block is None and (self._asked != number and inside):
            self._asked = number
            return self._alone(number, inside)
        return (block or self._block(number))[inside]

    def _block(self, number: int) -> list[T]:
        block = self._decoded.get(number)
        if block is None:
            begin, size = self._begins[number], self._begins[number + 1] - self._begins[number]
            data = self._read(begin, size - _END.size * (BLOCK + 1))
            block = self._many.decode(data)
            for place, record in self._odd.items():
                if place // BLOCK == number:
                    block[place % BLOCK] = record
            if len(self._decoded) >= _CACHED:
                del self._decoded[next(iter(self._decoded))]
            self._decoded[number] = block
        return block

    def _alone(self, number: int, inside: int) -> T:
        odd = self._odd.get(BLOCK * number + inside) if self._odd else None
        if odd is not None:
            return odd
        table = self._begins[number + 1] - _END.size * (BLOCK + 1 - inside)
        ends = self._read(table, 2 * _END.size)
        begin, end = _END.unpack_from(ends)[0], _END.unpack_from(ends, _END.size)[0]
        return self._one.decode(self._read(self._begins[number] + begin, end - begin))

    def _read(self, begin: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), size, begin)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | RecordFile):
            return NotImplemented
        return len(self) == len(other) and all(own == its for own, its in zip(self, other, strict=True))

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    def __repr__(self) -> str:
        return f"<{len(self):,} records on disk>"


class NotedFile(RecordFile[T]):
    """Records of which something is kept in memory; who asks for that calls `note` first."""

    def __init__(self, type: type[T]) -> None:
        super().__init__(type)
        self._noted = 0

    @abstractmethod
    def take(self, fresh: Sequence[T]) -> None:
        """Keep what is wanted of the next records."""

    def note(self) -> None:
        """Take up to the last record."""
        fresh = self._last[self._noted - BLOCK * (len(self._begins) - 1) :]
        self._noted += len(fresh)
        self.take(fresh)

    def _write(self) -> None:
        self.note()
        super()._write()
