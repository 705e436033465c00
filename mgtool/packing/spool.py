"""Samples kept on disk between the survey and the packing."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from mgtool import records
from mgtool.records import Failure, Sample

UNSAFE = ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF")
"""A file that is thrown away at the end needs no care."""


class Items(Protocol):
    """Where items are read."""

    def read(self, numbers: Iterable[int]) -> Iterator[tuple[int, int, records.Item]]:
        """Number, number of the input, and item, in the order asked for."""


class Spool:
    """The items of the input, by number, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = sqlite3.connect(path)

    def __getstate__(self) -> Path:
        return self.path

    def __setstate__(self, path: Path) -> None:
        self.path = path
        self._database = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)

    def fill(self, rows: Iterable[tuple[int, int, records.Item]]) -> None:
        """Keep items with their numbers and the numbers of their inputs."""
        for pragma in UNSAFE:
            self._database.execute(pragma)
        self._database.execute("CREATE TABLE items (number INTEGER PRIMARY KEY, source INTEGER, item BLOB)")
        packed = ((number, source, _frozen(item)) for number, source, item in rows)
        self._database.executemany("INSERT INTO items VALUES (?, ?, ?)", packed)
        self._database.commit()

    def read(self, numbers: Iterable[int]) -> Iterator[tuple[int, int, records.Item]]:
        """Number, number of the input, and item, in the order asked for."""
        for number in numbers:
            source, item = self._row(number)
            yield number, source, _thawed(item)

    def carried(self, numbers: Iterable[int]) -> CarriedItems:
        """These items alone, for another machine."""
        return CarriedItems({number: self._row(number) for number in numbers})

    def _row(self, number: int) -> tuple[int, bytes]:
        query = "SELECT source, item FROM items WHERE number = ?"
        source, item = self._database.execute(query, (number,)).fetchone()
        return source, item

    def close(self) -> None:
        """Close the file."""
        self._database.close()


class CarriedItems(NamedTuple):
    """Some items of a spool.

    Attributes:
        rows: number of the input and packed item, by number.
    """

    rows: Mapping[int, tuple[int, bytes]]

    def read(self, numbers: Iterable[int]) -> Iterator[tuple[int, int, records.Item]]:
        """As of `Spool`."""
        for number in numbers:
            source, item = self.rows[number]
            yield number, source, _thawed(item)


def _frozen(item: records.Item) -> bytes:
    """An item as bytes; plain dictionaries are pickled several times as fast as records."""
    return pickle.dumps((isinstance(item, Sample), msgspec.to_builtins(item, builtin_types=(bytes,))))


def _thawed(data: bytes) -> records.Item:
    is_sample, fields = pickle.loads(data)  # noqa: S301 - of this run's own temporary file
    return msgspec.convert(fields, Sample) if is_sample else msgspec.convert(fields, Failure)
