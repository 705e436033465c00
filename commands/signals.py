"""Signals that end a run: they end it as Ctrl-C does, so that workers end and nothing temporary stays."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Ended(KeyboardInterrupt):
    """A signal came that asks the process to end; its text is the signal's name."""


@contextlib.contextmanager
def as_interrupts() -> Iterator[None]:
    """Raise `Ended` in the main thread where a signal would end the process at once; one that is ignored stays so.

    Ctrl-C, which may be the end of the process before, raises `KeyboardInterrupt`, also where it came at a place that
    swallows that or takes it for a failure of its own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: _end for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL}
    if signal.getsignal(signal.SIGINT) in (signal.SIG_DFL, signal.default_int_handler):
        handlers[signal.SIGINT] = _interrupt
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    _came.clear()
    unraisable = sys.unraisablehook
    sys.unraisablehook = functools.partial(_once_more, unraisable)
    try:
        yield
    except Exception as error:
        if _came:  # as of an extension module whose import was interrupted
            raise KeyboardInterrupt from error
        raise
    finally:
        sys.unraisablehook = unraisable
        for number, handler in before.items():
            signal.signal(number, handler)


_came: list[int] = []
"""Interrupts so far; no lock, which a second one would wait for in vain."""
_OURS = os.getpid()
_SWALLOWED_S = 0.05


def _end(number: int, frame: Any) -> None:
    if os.getpid() != _OURS:  # a forked worker
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    raise Ended(signal.Signals(number).name)


def _interrupt(number: int, frame: Any) -> None:
    _came.append(number)
    raise KeyboardInterrupt


def _once_more(hook: Callable[[Any], None], unraisable: Any) -> None:
    """Where Ctrl-C came while Python could only tell of it, as in a finalizer, it comes again a little later."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        main = threading.main_thread().ident  # sent to itself, as nothing else ends its wait for a lock
        threading.Timer(_SWALLOWED_S, signal.pthread_kill, [main, signal.SIGINT]).start()
    else:
        hook(unraisable)
