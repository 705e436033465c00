"""The identity of bytes."""

from __future__ import annotations

import functools
import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

_MOST_WAITING = 1 << 25
"""Bytes that are kept for the threads that hash them."""


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256; of a file's bytes it is a picture's identity everywhere in mgtool."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, however many."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ThreadedHash:
    """A hash of bytes that come piece by piece, worked out by a thread while the caller goes on to make the next."""

    def __init__(self, algorithm: str) -> None:
        self._hash = hashlib.new(algorithm, usedforsecurity=False)
        self._thread = _thread(algorithm)
        self._waiting: deque[tuple[int, Future[None]]] = deque()
        self._bytes = 0

    def update(self, data: bytes) -> None:
        """Add a piece; waits where the thread is far behind."""
        self._waiting.append((len(data), self._thread.submit(self._hash.update, data)))
        self._bytes += len(data)
        self._wait(_MOST_WAITING)

    def hexdigest(self) -> str:
        """Of all pieces so far, hexadecimal."""
        self._wait(0)
        return self._hash.hexdigest()

    def _wait(self, most: int) -> None:
        while self._bytes > most:
            size, done = self._waiting.popleft()
            done.result()
            self._bytes -= size


@functools.cache
def _thread(algorithm: str) -> ThreadPoolExecutor:
    """One for all hashes of a kind in this process, which are updated one after the other."""
    return ThreadPoolExecutor(1, thread_name_prefix=algorithm)
