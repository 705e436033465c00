"""A stretch of the samples of tars, read alone: by the index beside them, in ranges of bytes."""

from __future__ import annotations

import io
import itertools
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mgtool.errors import InputError
from mgtool.files import urls
from mgtool.files.regular import open_regular
from mgtool.records import Failure, Item, LeftOut
from mgtool.tars import index_file, samples
from mgtool.tars.index_file import INDEX_FILE
from mgtool.tars.paths import ENDINGS, expand, open_url

_PIECE = 1 << 23
"""Bytes of one request."""
_END = bytes(1024)
_COLUMNS = ["shard", "offset", "size"]


class TarPlaces(NamedTuple):
    """Where the samples of one tar lie.

    Attributes:
        url: of the tar.
        offsets, sizes: in bytes, int64, shape (n,).
    """

    url: str
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]


def places(inputs: Sequence[str]) -> list[TarPlaces] | None:
    """Where all samples of some tars lie; None unless inputs are tars alone, each in an index beside it that fits."""
    expanded = [_tars(given) for given in inputs]
    if not inputs or any(tars is None or any("?" in tar for tar in tars) for tars in expanded):
        return None
    found: list[TarPlaces] = []
    tars = [tar for one in expanded for tar in one or ()]
    for folder, beside in itertools.groupby(tars, posixpath.dirname):
        try:
            index = _index(folder, beside)
        except (OSError, ValueError, InputError):  # none, or none that can be used: the tars themselves are read
            return None
        found += index
    return found


def _tars(given: str) -> list[str] | None:
    """The tars that an input is, or that its folder holds."""
    if "://" not in given and Path(given).is_dir():
        found = sorted(path for path in Path(given).glob("*.t*") if path.name.lower().endswith(ENDINGS))
        return [path.as_posix() for path in found] or None
    return expand(given)


def read(tars: Sequence[TarPlaces], begin: int, end: int, left_out: LeftOut | None = None) -> Iterator[Item]:
    """The samples from position `begin` to before `end`, as `samples.read_samples` gives them."""
    first = 0
    for tar in tars:
        rows = range(max(begin - first, 0), min(end - first, len(tar.offsets)))
        first += len(tar.offsets)
        if rows:
            yield from _read(tar, rows, left_out)


def _read(tar: TarPlaces, rows: range, left_out: LeftOut | None) -> Iterator[Item]:
    begin, end = int(tar.offsets[rows[0]]), int(tar.offsets[rows[-1]] + tar.sizes[rows[-1]])
    try:
        with _opened(tar.url) as fetch:
            window = io.BufferedReader(_Window(fetch, begin, end), _PIECE)
            yield from samples.read_stream(window, tar.url, left_out)
    except (OSError, ValueError) as error:
        if urls.is_of_network(error):
            raise urls.unread(tar.url, error) from error
        yield Failure(id=tar.url, stage="read", reason="unreadable", detail=f"{tar.url}: {error}")


class _opened:  # noqa: N801 - a context
    """Reads bytes from one place to another."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Callable[[int, int], bytes]:
        if "://" not in self._url:
            self._file = open_url(self._url).__enter__()
        return self._fetch

    def __exit__(self, *raised: object) -> None:
        if self._file is not None:
            self._file.close()

    def _fetch(self, begin: int, end: int) -> bytes:
        if self._file is None:
            return urls.read_range(self._url, begin, end)
        self._file.seek(begin)
        return self._file.read(end - begin)


class _Window(io.RawIOBase):
    """Some bytes of a tar, and behind them the end of one."""

    def __init__(self, fetch: Callable[[int, int], bytes], begin: int, end: int) -> None:
        self._fetch, self._next, self._end = fetch, begin, end
        self._tail = _END

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        end = min(self._next + len(buffer), self._end)
        if self._next < end:
            data = self._fetch(self._next, end)
            self._next = end if data else self._end
        else:
            data, self._tail = self._tail[: len(buffer)], self._tail[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


def _index(folder: str, tars: Iterable[str]) -> list[TarPlaces]:
    """The places of tars of one folder.

    Raises:
        OSError: no index there.
        ValueError: one that is of other tars, or no index.
    """
    named = [(tar, posixpath.basename(tar)) for tar in tars]
    sizes = {name: _size(tar) for tar, name in named}
    known = {name: size for name, size in sizes.items() if size is not None}
    if len(known) < len(sizes):
        raise ValueError(f"{folder}: tars of unknown size")
    with _opened_index(posixpath.join(folder, INDEX_FILE)) as file:
        table = index_file.read(file, known, _COLUMNS, is_part=True)
    shards = np.array(table["shard"].to_pylist(), dtype=object)
    offsets, lengths = (table[name].to_numpy() for name in _COLUMNS[1:])
    rows = {name: np.flatnonzero(shards == name) for name in known}
    return [TarPlaces(tar, offsets[rows[name]], lengths[rows[name]]) for tar, name in named]


def _opened_index(path: str) -> IO[bytes]:
    return io.BytesIO(urls.read(path)) if "://" in path else io.BufferedReader(open_regular(path))


def _size(tar: str) -> int | None:
    if "://" in tar:
        return urls.size(tar)
    with open_url(tar) as file:
        return file.seek(0, io.SEEK_END)
