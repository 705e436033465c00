"""Keys that occur more than once in a set of tars, found in 8 bytes a sample."""

from __future__ import annotations

import contextlib
import hashlib
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mgtool.errors import ItemError
from mgtool.tars.paths import open_url
from mgtool.tars.samples import read_parts


class KeyHashes:
    """The keys of a tar's samples in order, as hashes; samples that follow each other under one key are one.

    Attributes:
        first, last: keys.
    """

    def __init__(self) -> None:
        self._hashes = array("Q")
        self.first = self.last = ""

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, key: str) -> None:
        """Take up the next sample's key."""
        if self._hashes and key == self.last:
            return
        self.first = self.first if self._hashes else key
        self.last = key
        digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        self._hashes.append(int.from_bytes(digest, "little"))

    def to_bytes(self) -> bytes:
        """The hashes, 8 bytes each."""
        return self._hashes.tobytes()


class Repeated(NamedTuple):
    """A key that came before: the positions of its tar, and of the tar that has it first."""

    tar: int
    key: str
    first: int


def repeated(urls: Sequence[str], hashes: Sequence[bytes]) -> Iterator[Repeated]:
    """The keys that come again, in order.

    Args:
        urls: the tars; one with such a key is read again for its name.
        hashes: of each tar, as `KeyHashes.to_bytes` gives them.
    """
    each = [np.frombuffer(one, np.uint64) for one in hashes]
    joined = np.concatenate(each) if each else np.empty(0, np.uint64)
    _, first, inverse = np.unique(joined, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[inverse] != np.arange(len(joined)))
    begins = np.cumsum([0, *map(len, each)])
    owners = np.searchsorted(begins, again, side="right") - 1
    origins = np.searchsorted(begins, first[inverse[again]], side="right") - 1
    for tar in np.unique(owners).tolist():
        mine = owners == tar
        wanted = dict(zip((again[mine] - begins[tar]).tolist(), origins[mine].tolist(), strict=True))
        yield from (Repeated(tar, key, wanted[at]) for at, key in enumerate(_keys(urls[tar])) if at in wanted)


def _keys(url: str) -> Iterator[str]:
    """As `KeyHashes` counts them."""
    last = None
    with contextlib.suppress(ItemError), open_url(url) as file:  # a tar that is cut has samples before that place
        for raw in read_parts(file):
            if raw.key != last:
                yield raw.key
            last = raw.key
