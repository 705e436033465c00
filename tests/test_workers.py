"""Worker processes: a killed one ends the run with one line."""

from __future__ import annotations

import multiprocessing
import os
import signal

import pytest

from mgtool import workers
from mgtool.errors import MgtoolError


@pytest.mark.parametrize("count", [1, 3])
def test_a_killed_process_is_one_line(count: int) -> None:
    with pytest.raises(MgtoolError) as raised:
        _work_with_one_killed(count)
    assert str(raised.value) == "a process that works was killed: is memory short? --workers 1 needs less"


def _work_with_one_killed(count: int) -> None:
    with workers.pool(count, multiprocessing.get_context("spawn"), "works") as pool:
        pids = {pool.submit(os.getpid).result() for _ in range(count)}
        os.kill(pids.pop(), signal.SIGKILL)
        while True:
            pool.submit(os.getpid).result()
