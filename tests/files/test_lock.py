"""An output has one writer: the second is told of the first, or waits; a dead one is nobody."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mgtool.errors import OutputError
from mgtool.files import lock
from mgtool.files.holders import Holder, this_process
from mgtool.files.lock import one_writer

HOLDS = """
import sys, time
from pathlib import Path
from mgtool.files.lock import one_writer
with one_writer(Path(sys.argv[1]), share=sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold():
    """Starts processes that hold an output, or a share of it, until they are killed."""
    processes: list[subprocess.Popen[str]] = []

    def start(out: Path, share: str = "") -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", HOLDS, str(out), share], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def _refuses(out: Path, share: str = "") -> str:
    with pytest.raises(OutputError) as refused, one_writer(out, share=share):
        pass
    return str(refused.value)


def _leave(out: Path, holder: Holder, *, age_s: float = 0) -> Path:
    """What a holder left that did not end well."""
    out.mkdir()
    file = out / ".mgtool.lock"
    file.write_text(json.dumps(dataclasses.asdict(holder)))
    os.utime(file, (time.time() - age_s,) * 2)
    return file


def test_the_second_is_told_who_writes(tmp_path: Path, hold) -> None:
    first = hold(tmp_path / "out")
    said = _refuses(tmp_path / "out")
    assert f"{tmp_path / 'out'} is being written" in said
    assert f"process {first.pid} on {this_process().host}" in said
    assert "`wait`" in said


def test_a_stopped_writer_keeps_its_output_and_a_killed_one_does_not(tmp_path: Path, hold) -> None:
    first = hold(tmp_path / "out")
    first.send_signal(signal.SIGSTOP)
    _refuses(tmp_path / "out")
    first.kill()
    first.wait()
    with one_writer(tmp_path / "out"):
        pass
    assert not list((tmp_path / "out").iterdir())


def test_waiting(tmp_path: Path) -> None:
    order: list[str] = []
    with one_writer(tmp_path / "out"):

        def second() -> None:
            with one_writer(tmp_path / "out", wait=True):
                order.append("second")

        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.5)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_shares_do_not_hinder_each_other(tmp_path: Path, hold) -> None:
    first = hold(tmp_path / "out", "00000-of-00002")
    second = hold(tmp_path / "out", "00001-of-00002")
    second.kill()
    second.wait()
    with one_writer(tmp_path / "out", share="00001-of-00002"):
        pass
    assert str(first.pid) in _refuses(tmp_path / "out", "00000-of-00002")
    _refuses(tmp_path / "out")
    first.kill()
    first.wait()
    with one_writer(tmp_path / "out", share="00000-of-00002"):
        pass
    assert not list(tmp_path.rglob("*00001*"))


def test_a_run_over_all_hinders_a_share(tmp_path: Path, hold) -> None:
    hold(tmp_path / "out")
    _refuses(tmp_path / "out", "00000-of-00002")


def test_without_locks_of_the_file_system_the_holder_counts(tmp_path: Path, hold, monkeypatch) -> None:
    hold(tmp_path / "out")

    def flock(handle: int, how: int) -> None:
        raise OSError(lock._WITHOUT_LOCKS[0], "no locks")

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    _refuses(tmp_path / "out")


def test_a_number_that_came_again_is_another_process(tmp_path: Path) -> None:
    _leave(tmp_path / "out", dataclasses.replace(this_process(), start="long ago"))
    with one_writer(tmp_path / "out"):
        pass


def test_on_another_machine_a_sign_of_life_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _leave(tmp_path / "out", Holder("elsewhere", 1, "1"))
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.wait(0.05):
            os.utime(file)

    thread = threading.Thread(target=beat)
    thread.start()
    assert "process 1 on elsewhere" in _refuses(tmp_path / "out")
    is_over.set()
    thread.join()
    monkeypatch.setattr(lock, "STALE_AFTER_S", 0.5)
    began = time.monotonic()
    with one_writer(tmp_path / "out"):
        pass
    assert time.monotonic() - began > 0.2


def test_a_sign_of_life_that_lies_in_the_future_ends_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _leave(tmp_path / "out", Holder("elsewhere", 1, "1"), age_s=-3600)  # a clock was set back since
    monkeypatch.setattr(lock, "STALE_AFTER_S", 0.3)
    limit = time.monotonic() + 20
    look = time.sleep
    monkeypatch.setattr(time, "sleep", lambda s: pytest.fail("waits on") if time.monotonic() > limit else look(s))
    with one_writer(tmp_path / "out"):
        pass
    assert not list((tmp_path / "out").iterdir())


def test_what_is_sixty_seconds_old_there_is_taken_over_at_once(tmp_path: Path) -> None:
    _leave(tmp_path / "out", Holder("elsewhere", 1, "1"), age_s=61)
    with one_writer(tmp_path / "out"):
        held = json.loads((tmp_path / "out/.mgtool.lock").read_bytes())
    assert held["pid"] == os.getpid()


@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 4096, b'{"pid": "x"}', b"\xff\x00"])
def test_a_file_of_another_kind_is_nobodys(content: bytes, tmp_path: Path) -> None:
    (tmp_path / ".mgtool.lock").write_bytes(content)
    with one_writer(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_forked_process_does_not_keep_its_parents_lock(tmp_path: Path) -> None:
    work = HOLDS.replace("time.sleep(60)", "os.fork() and (time.sleep(2), os._exit(0))\n    time.sleep(9)")
    command = [sys.executable, "-c", f"import os{work}", str(tmp_path), ""]
    parent = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    parent.wait()
    with one_writer(tmp_path):
        pass


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for out in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(OutputError, match="cannot be written"), one_writer(out):
            pass
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("moment", ["open", "take", "begin", "release"])
def test_an_interrupt_leaves_no_lock(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"open": (os, "open"), "begin": (threading.Thread, "start")}.get(moment, (lock.fcntl, "flock"))
    real, left = getattr(*calls), [moment != "release"]

    def interrupted(*args: object) -> object:
        found = real(*args)
        if left.pop() if left else False:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(*calls, interrupted)
    with pytest.raises(KeyboardInterrupt), one_writer(tmp_path / "out"):
        left.append(True)
    assert not any(tmp_path.iterdir())
