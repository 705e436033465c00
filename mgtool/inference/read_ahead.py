"""An input that is read while the model is busy, and cut into windows without waiting for one that is slow."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

READ_AHEAD = 64
"""Samples that are read before they are asked for; those of tars carry their pictures."""
PATIENCE_S = 0.2
"""How long a window that has begun waits for its next sample."""

Read = TypeVar("Read")
Planned = TypeVar("Planned")


class NotYet(Exception):  # noqa: N818 - no error
    """Nothing is read yet that has not been asked for."""


class _End(NamedTuple):
    error: BaseException | None


class Ahead(Generic[Read]):
    """What a thread reads from an iterable, in its order.

    Args:
        items: read in the thread alone.
    """

    def __init__(self, items: Iterable[Read]) -> None:
        self._items = items
        self._queue: queue.Queue[Any] = queue.Queue(READ_AHEAD)
        self._closed = threading.Event()
        # A pipe that nobody writes to must not keep the process from ending.
        self._thread = threading.Thread(target=self._read, name="mgtool-reader", daemon=True)
        self._thread.start()

    def get(self, timeout: float | None = None) -> Read:
        """The next one.

        Raises:
            StopIteration: there is none.
            NotYet: it is not there within the time.
            Exception: whatever reading raised.
        """
        try:
            found = self._queue.get(timeout=timeout)
        except queue.Empty as error:
            raise NotYet from error
        if isinstance(found, _End):
            self._queue.put(found)  # for whoever asks again
            raise found.error or StopIteration
        return found

    def is_ready(self) -> bool:
        """Whether `get` would answer at once."""
        return not self._queue.empty()

    def is_full(self) -> bool:
        """Whether more is read than is asked for."""
        return self._queue.full()

    def close(self) -> None:
        """Stop reading, after the item that is being read."""
        self._closed.set()

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as raised:  # noqa: BLE001 - raised again in the thread that asks
            error = raised
        self._put(_End(error))

    def _put(self, item: Any) -> bool:
        """Whether somebody still wants it."""
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=PATIENCE_S)
                return True
        return False


@contextlib.contextmanager
def read_ahead(items: Iterable[Read]) -> Iterator[Ahead[Read]]:
    """Read in a thread until the end of the block."""
    ahead = Ahead(items)
    try:
        yield ahead
    finally:
        ahead.close()


def windows(
    ahead: Ahead[Read],
    plan: Callable[[Read], tuple[list[Planned], int]],
    *,
    samples: int,
    size: int,
    patience: float | None = PATIENCE_S,
) -> Iterator[list[Planned]]:
    """What is planned, in windows; one is empty after as many items as a full one has of which none was planned.

    Args:
        ahead: the input.
        plan: what becomes of an item, none or one, and its bytes.
        samples: of a full window.
        size: bytes of a full window.
        patience: seconds that a window waits for its next sample; None where it must not depend on time.
    """
    while True:
        window: list[Planned] = []
        filled = read = 0
        try:
            while len(window) < samples and filled < size and (window or read < samples):
                planned, nbytes = plan(ahead.get(patience if window else None))
                window += planned
                filled += nbytes
                read += 1
        except NotYet:
            pass
        except StopIteration:
            if window:
                yield window
            return
        yield window
