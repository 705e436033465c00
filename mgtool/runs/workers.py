"""How worker processes begin and end, whatever they do."""

from __future__ import annotations

import contextlib
import multiprocessing.context
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from types import ModuleType
from typing import Any

from mgtool.errors import MgtoolError

_LOOKS_EVERY = 0.2
"""Seconds."""
_starting = threading.RLock()


class _Unguarded:
    """A process that does not import the script that starts it, which need have no ``if __name__ == "__main__"``."""

    def start(self) -> None:
        """Start, the work being found in modules alone."""
        with _starting:
            main = sys.modules["__main__"]
            sys.modules["__main__"] = ModuleType("__main__")
            try:
                super().start()  # type: ignore[misc]
            finally:
                sys.modules["__main__"] = main


class _SpawnProcess(_Unguarded, multiprocessing.context.SpawnProcess):
    def start(self) -> None:
        """Start; Ctrl-C is the parent's from the first moment on."""
        with _deaf():
            super().start()


class _ForkServerProcess(_Unguarded, multiprocessing.context.ForkServerProcess):
    pass


class _SpawnContext(multiprocessing.context.SpawnContext):
    Process = _SpawnProcess


class _ForkServerContext(multiprocessing.context.ForkServerContext):
    Process = _ForkServerProcess


SPAWN = _SpawnContext()
"""How a process starts with nothing of this one."""
FORK_SERVER: BaseContext = _ForkServerContext() if hasattr(os, "fork") else SPAWN
"""How processes start one after another off one that has loaded what they need; where that cannot be, as `SPAWN`."""


def loaded(module: str) -> BaseContext:
    """Have a process load what workers need, while this one goes on; they are then forked off it, and begin at once."""
    if FORK_SERVER is not SPAWN:
        from multiprocessing import forkserver

        forkserver.set_forkserver_preload([module])
        with _deaf():
            forkserver.ensure_running()
    return FORK_SERVER


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Let processes that begin meanwhile never hear Ctrl-C, which a terminal sends to all; this one does afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # which would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin() -> None:
    """Leave Ctrl-C to the parent, and end with it however it ends: a worker of a killed parent would wait forever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _begin_as_here(environment: dict[str, str], initializer: Callable[..., None], *initargs: Any) -> None:
    os.environ.clear()
    os.environ.update(environment)
    initializer(*initargs)


@contextlib.contextmanager
def pool(
    count: int,
    context: BaseContext,
    work: str,
    *,
    option: str = "workers",
    initializer: Callable[..., None] = begin,
    initargs: tuple[Any, ...] = (),
) -> Iterator[ProcessPoolExecutor]:
    """Worker processes; what waits when the block is left is given up.

    Args:
        count: of processes.
        context: how they start.
        work: what they do, in words.
        option: the field that says how many there are.
        initializer: calls `begin`.
        initargs: of the initializer.

    Raises:
        MgtoolError: where one was killed.
    """
    # A fork server keeps the environment of its own beginning, which a notebook may have changed since.
    given = (dict(os.environ), initializer, *initargs)
    executor = ProcessPoolExecutor(count, mp_context=context, initializer=_begin_as_here, initargs=given)
    is_over = _watch(executor)
    try:
        yield executor
    except BrokenProcessPool as error:
        raise MgtoolError(f"a process that {work} was killed: is memory short? `{option}` 1 needs less") from error
    except KeyboardInterrupt:
        _end_unborn(executor)
        raise
    finally:
        is_over.set()
        executor.shutdown(cancel_futures=True)


def _end_unborn(executor: ProcessPoolExecutor) -> None:
    """End the fork server, and of its processes the one that an interrupt kept from getting known.

    It would miss what this process takes along, and say so after this one's last word.
    """
    from multiprocessing import forkserver

    import psutil

    server = getattr(forkserver, "_forkserver")._forkserver_pid  # noqa: B009 - no typed name
    with contextlib.suppress(psutil.Error):
        if server is not None:
            process = psutil.Process(server)
            process.suspend()
            for child in process.children():
                if child.pid not in (executor._processes or {}):
                    child.kill()
            process.kill()


def _watch(executor: ProcessPoolExecutor) -> threading.Event:
    """Let all processes end with the first that is killed, until the event that is returned is set.

    The executor notices by itself but where that one was writing a result: it would wait for the rest of it for ever.
    Without any process, and with its own end of the pipe closed, it reads the end of the file.
    """
    is_over = threading.Event()
    threading.Thread(target=_end_together, args=(executor, is_over), daemon=True).start()
    return is_over


def _end_together(executor: ProcessPoolExecutor, is_over: threading.Event) -> None:
    while not is_over.wait(_LOOKS_EVERY):
        processes = list((executor._processes or {}).values())
        if any(process.exitcode for process in processes):
            for process in processes:
                process.kill()
            executor._result_queue._writer.close()  # type: ignore[attr-defined]
            return


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def default_workers() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
