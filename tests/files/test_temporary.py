"""Temporary files lie in one folder of a process, which goes with it; nobody else's are touched."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from mgtool.errors import OutputError
from mgtool.files import temporary
from mgtool.files.holders import Holder, host, this_process

WORKS = """
import multiprocessing, sys, tempfile, time
from mgtool.files.temporary import all_in_one_folder, temporary_folder
if __name__ == "__main__":
    with all_in_one_folder(), temporary_folder("boxes") as folder:
        (folder / "x").write_bytes(b"x")
        tempfile.mkdtemp(prefix="another-librarys-")
        with multiprocessing.get_context("forkserver").Pool(1) as pool:
            pool.apply(abs, (1,))
            print("here", flush=True)
            time.sleep(float(sys.argv[1]))
"""


def _start(place: Path, seconds: float) -> subprocess.Popen[str]:
    place.mkdir(parents=True, exist_ok=True)
    script = place.parent / "works.py"
    script.write_text(WORKS)
    env = {**os.environ, "TMPDIR": str(place)}
    return subprocess.Popen([sys.executable, script, str(seconds)], env=env, stdout=subprocess.PIPE, text=True)


def _name(holder: Holder) -> str:
    return f"mgtool-{holder.host}-{holder.pid}-{holder.start}"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return place


def test_all_lies_in_one_folder_that_goes_with_the_process(tmp_path: Path) -> None:
    process = _start(tmp_path / "tmp", 0.5)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    [folder] = (tmp_path / "tmp").iterdir()
    assert folder.name.startswith(f"mgtool-{host()}-{process.pid}-")
    assert folder.stat().st_mode & 0o777 == 0o700
    process.communicate()
    assert process.returncode == 0
    assert not list((tmp_path / "tmp").iterdir())


def test_sockets_have_short_paths_where_tmpdir_is_long(tmp_path: Path) -> None:
    place = tmp_path / ("x" * 100)
    process = _start(place, 0)
    process.communicate()
    assert process.returncode == 0
    assert not list(place.iterdir())
    assert not list(Path("/tmp").glob(f"mgtool-{host()}-{process.pid}-*"))


def test_what_a_killed_process_left_is_removed_by_the_next_and_nothing_else(place: Path) -> None:
    killed = _start(place, 60)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "here\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    ours = this_process()
    kept = {"pymp-abcdefgh", "mgtool-notes", _name(Holder("elsewhere", 1, "1")), _name(ours)}
    for name in kept:
        (place / name).mkdir()
    (place / "aim").mkdir()
    (place / "aim/kept").touch()
    dead = _name(dataclasses.replace(ours, start="1"))
    (place / dead).symlink_to(place / "aim")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and {path.name for path in place.iterdir()} != {*kept, "aim", dead}:
        temporary.sweep(str(place))
        time.sleep(0.1)
    assert {path.name for path in place.iterdir()} == {*kept, "aim", dead}
    assert (place / "aim/kept").exists()


def test_a_folder_that_is_held_stays(place: Path) -> None:
    with temporary.temporary_folder("boxes") as folder:
        other = folder.parent.rename(place / _name(dataclasses.replace(this_process(), start="1")))
        temporary.sweep(str(place))
        assert other.exists()


def test_tmpdir_is_as_it_was_afterwards(place: Path) -> None:
    with temporary.all_in_one_folder():
        inside = tempfile.gettempdir()
        with temporary.temporary_folder("boxes") as folder:
            assert folder.parent == Path(inside)
    assert Path(inside).parent == place
    assert (os.environ["TMPDIR"], tempfile.gettempdir()) == (str(place), str(place))


def test_where_nothing_can_be_written_is_one_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place / "nowhere"))
    with pytest.raises(OutputError, match="TMPDIR"), temporary.temporary_folder("boxes"):
        pass
    with temporary.all_in_one_folder():
        pass


def test_another_place_and_what_torch_compiles(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", "the/users")
    (tmp_path / "other").mkdir()
    with temporary.all_in_one_folder(str(tmp_path / "other")):
        [own] = (tmp_path / "other").iterdir()
        assert os.environ["TMPDIR"] == tempfile.gettempdir() == str(own)
        assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent == own
        assert os.environ["TRITON_CACHE_DIR"] == "the/users"
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    assert os.environ["TMPDIR"] == str(place)
    with pytest.raises(OutputError, match="`tmp`"), temporary.all_in_one_folder(str(tmp_path / "gone")):
        pass


INTERRUPTED = """
import fcntl, sys
from mgtool.files import temporary
def interrupt(*_):
    raise KeyboardInterrupt
fcntl.flock = interrupt
with temporary.all_in_one_folder():
    pass
"""


def test_an_interrupt_while_it_is_made_leaves_nothing(place: Path) -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert not any(place.iterdir())
