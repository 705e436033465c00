"""Signals that end a run: they end it as Ctrl-C does, so that workers end and nothing temporary stays."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Ended(KeyboardInterrupt):
    """A signal came that asks the process to end; its text is the signal's name."""


@contextlib.contextmanager
def as_interrupts() -> Iterator[None]:
    """Raise `Ended` in the main thread where a signal would end the process at once; one that is ignored stays so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    ours = os.getpid()

    def end(number: int, frame: Any) -> None:
        if os.getpid() != ours:  # a forked worker
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        raise Ended(signal.Signals(number).name)

    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
