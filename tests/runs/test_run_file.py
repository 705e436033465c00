"""Files are whole or absent; a run goes on only when it is the same run."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mgtool.errors import ResumeError
from mgtool.files import atomic
from mgtool.files.journal import Journal
from mgtool.runs import run_file


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    atomic.write_bytes(tmp_path / "x", b"old")

    def fail() -> None:
        with atomic.atomic_file(tmp_path / "x") as file:
            file.write(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"old")]


def test_a_torn_journal_is_cut(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.append({"a": 1})
    journal.close()
    with (tmp_path / "j").open("ab") as file:
        file.write(b'{"a": 2')
    assert list(journal.read(dict[str, int])) == [{"a": 1}]
    journal.append({"a": 3})
    journal.publish(tmp_path / "done")
    assert (tmp_path / "done").read_bytes() == b'{"a":1}\n{"a":3}\n'


def test_another_run_is_refused_with_the_difference(tmp_path: Path) -> None:
    def run(size: int) -> run_file.Run:
        return run_file.Run(tmp_path / "run.json", command="pack", options={"size": size}, inputs={})

    run(1).begin()
    run(1).begin()
    with pytest.raises(ResumeError, match="size 1, now it is 2"):
        run(2).begin()
    run(2).begin(overwrite=True)
    assert not run(2).finished


def test_of_two_long_texts_the_words_are_named_that_differ(tmp_path: Path) -> None:
    for was, now, says in (
        (f"nanodet {'0' * 90} at:0.35", f"nanodet {'0' * 90} at:0.1", "by at:0.35, now it is at:0.1:"),
        ("a cat", "cat a", "by a cat, now it is cat a:"),
        ("a", "a b", "by a, now it is a b:"),
    ):
        begun, other = (
            run_file.Run(tmp_path / "run.json", command="detect", options={"by": by}, inputs={}) for by in (was, now)
        )
        begun.begin(overwrite=True)
        with pytest.raises(ResumeError, match=says):
            other.begin()


def test_a_run_begins_by_removing_what_killed_writers_left(tmp_path: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    left = tmp_path / f".scores.jsonl.writing-{socket.gethostname()}-{killed.pid}"
    left.write_bytes(b"half")
    run_file.Run(tmp_path / "run.json", command="eval", options={}, inputs={}).begin()
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_clock_that_is_set_back_makes_no_duration_negative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_file.Run(tmp_path / "run.json", command="pack", options={}, inputs={})
    run.begin()
    yesterday = time.time() - 86400
    monkeypatch.setattr(time, "time", lambda: yesterday)
    run.finish({})
    assert 0 <= run_file.read(tmp_path / "run.json")["times"]["seconds"] < 60
