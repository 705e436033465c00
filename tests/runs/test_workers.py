"""Worker processes: a killed one ends the run with one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

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
    return workers.pool(count, workers.SPAWN, "works")


def _work_with_one_killed(count: int) -> None:
    with _pool(count) as pool:
        pids = {pool.submit(os.getpid).result() for _ in range(count)}
        os.kill(pids.pop(), signal.SIGKILL)
        while True:
            pool.submit(os.getpid).result()


def test_a_script_without_a_guard_may_start_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\n"
        "import os\nfrom mgtool.runs import workers\n"
        "for context in (workers.SPAWN, workers.FORK_SERVER):\n"
        "    with workers.pool(2, context, 'works') as pool:\n"
        "        assert pool.submit(os.getppid).result()\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "once\n"), done.stderr


INTERRUPTED = """
import os, signal, sys, threading, time
from mgtool.runs import workers
context = workers.loaded("slow_start") if sys.argv[2] == "fork" else workers.SPAWN
with workers.pool(1, context, "works") as pool:
    threading.Timer(float(sys.argv[1]), os.killpg, (0, signal.SIGINT)).start()  # as a terminal does
    pool.submit(abs, -1).result()
    time.sleep(9)
"""


@pytest.mark.skipif(workers.FORK_SERVER is workers.SPAWN, reason="needs a fork server")
@pytest.mark.parametrize(("after", "start"), [(0.1, "fork"), (0.5, "fork"), (0.1, "spawn")])
def test_an_interrupt_while_processes_begin_has_the_last_word(after: float, start: str, tmp_path: Path) -> None:
    (tmp_path / "slow_start.py").write_text("import time\ntime.sleep(1)\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", INTERRUPTED, str(after), start]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert done.stderr.count("Traceback") == 1


def test_workers_have_the_environment_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    context = workers.loaded("json")  # a fork server, with the environment of its own beginning
    monkeypatch.setenv("MGTOOL_LATER", "known")
    with workers.pool(1, context, "works") as pool:
        assert pool.submit(os.getenv, "MGTOOL_LATER").result() == "known"
