"""How worker processes begin and end, whatever they do."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import Any

from mgtool.errors import MgtoolError


def begin() -> None:
    """Leave Ctrl-C to the parent, and end with it however it ends: a worker of a killed parent would wait forever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


@contextlib.contextmanager
def pool(
    count: int,
    context: BaseContext,
    work: str,
    *,
    initializer: Callable[..., None] = begin,
    initargs: tuple[Any, ...] = (),
) -> Iterator[ProcessPoolExecutor]:
    """Worker processes; what waits when the block is left is given up.

    Args:
        count: of processes.
        context: how they start.
        work: what they do, in words.
        initializer: calls `begin`.
        initargs: of the initializer.

    Raises:
        MgtoolError: where one was killed.
    """
    executor = ProcessPoolExecutor(count, mp_context=context, initializer=initializer, initargs=initargs)
    try:
        yield executor
    except BrokenProcessPool as error:
        raise MgtoolError(f"a process that {work} was killed: is memory short? --workers 1 needs less") from error
    finally:
        executor.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
