"""Somebody has put links into an output folder: nothing that they name is written, cut or made."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

import mgtool
from mgtool.errors import OutputError
from mgtool.files.atomic import scratch_folder, write_bytes
from mgtool.files.journal import Journal
from mgtool.files.lock import one_writer
from mgtool.files.no_links import refuse_links

PICTURE = Path(__file__).parents[1] / "images" / "coffee.jpg"
LINES = b'{"position": 0}\n{"position": 1'
WAY_OUT = "a link, which is not followed: remove it, or choose another `out`"


@pytest.fixture(params=["a file", "none yet"])
def precious(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A file that a link names, or a place for one; nothing may change there."""
    path = tmp_path / "precious"
    if request.param == "a file":
        path.write_bytes(LINES)
    yield path
    assert (path.read_bytes() == LINES) if request.param == "a file" else not path.exists()


def test_a_journal(precious: Path, tmp_path: Path) -> None:
    (tmp_path / "x.partial").symlink_to(precious)
    journal = Journal(tmp_path / "x.partial")
    with pytest.raises(OutputError, match=re.escape(WAY_OUT)):
        journal.append({"position": 2})
    if precious.exists():
        with pytest.raises(OutputError, match=re.escape(WAY_OUT)):
            list(journal.read(dict[str, int]))
        with pytest.raises(OutputError, match=re.escape(WAY_OUT)):
            journal.keep(1)


def test_a_file_written_aside(precious: Path, tmp_path: Path) -> None:
    aside = tmp_path / f".run.json.writing-{socket.gethostname()}-{os.getpid()}"
    aside.symlink_to(precious)
    (tmp_path / "run.json").symlink_to(precious)
    write_bytes(tmp_path / "run.json", b"{}")
    assert not (tmp_path / "run.json").is_symlink()
    assert (tmp_path / "run.json").read_bytes() == b"{}"


def test_a_lock(precious: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".mgtool.lock").symlink_to(precious)
    with pytest.raises(OutputError, match="cannot be written"), one_writer(tmp_path / "out"):
        pass


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    refuse_links(tmp_path / "not there")
    (tmp_path / "out" / "part").mkdir(parents=True)
    refuse_links(tmp_path / "out")
    (tmp_path / "out" / "part" / "x").symlink_to(tmp_path / "elsewhere")
    for folder in (tmp_path / "out", tmp_path / "out" / "part" / "x"):
        with pytest.raises(OutputError, match="part/x: a link"):
            refuse_links(folder)
    (tmp_path / f".scratch.writing-{socket.gethostname()}-{os.getpid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="a link"), scratch_folder(tmp_path):
        pass


@pytest.mark.parametrize("name", ["visualized", ".shares", ".detect.journal.jsonl"])
def test_detect(name: str, tmp_path: Path) -> None:
    options = mgtool.DetectOptions(detector="tiny", workers=0, visualize=1)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    target = tmp_path / "elsewhere" / "new" if name.endswith("l") else tmp_path / "elsewhere"
    (tmp_path / "out" / name).symlink_to(target)
    with pytest.raises(OutputError, match="a link"):
        mgtool.detect([str(PICTURE)], tmp_path / "out", options)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_output_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "large disk")
    options = mgtool.DetectOptions(detector="tiny", workers=0, visualize=1)
    mgtool.detect([str(PICTURE)], tmp_path / "out", options)
    assert (tmp_path / "large disk" / "run.json").is_file()
