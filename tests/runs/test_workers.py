"""Worker processes: a killed one ends the run with one line."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager

import pytest

from mgtool.errors import MgtoolError
from mgtool.runs import workers


@pytest.mark.parametrize("count", [1, 3])
def test_a_killed_process_is_one_line(count: int) -> None:
    with pytest.raises(MgtoolError) as raised:
        _work_with_one_killed(count)
    assert str(raised.value) == "a process that works was killed: is memory short? `workers` 1 needs less"


@pytest.mark.parametrize("after", [0.01, 0.05, 0.1, 0.2, 0.4])
def test_a_process_that_is_killed_while_it_writes_its_result(after: float) -> None:
    with pytest.raises(MgtoolError, match="was killed"), _pool(2) as pool:
        pool.submit(_large, after).result()


def _large(after: float) -> bytes:
    threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return bytes(500_000_000)


def _pool(count: int) -> AbstractContextManager[ProcessPoolExecutor]:
    return workers.pool(count, multiprocessing.get_context("spawn"), "works")


def _work_with_one_killed(count: int) -> None:
    with _pool(count) as pool:
        pids = {pool.submit(os.getpid).result() for _ in range(count)}
        os.kill(pids.pop(), signal.SIGKILL)
        while True:
            pool.submit(os.getpid).result()
