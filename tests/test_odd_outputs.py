"""Whatever lies in an output folder: one line that names it, or no harm; --overwrite starts afresh."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mgtool.errors import OutputError, ResumeError
from mgtool.files import atomic
from mgtool.files.journal import Journal
from mgtool.records import Failure
from mgtool.runs import run_file

PHOTO = Path(__file__).parents[1] / "examples/photos/images/cat.jpg"
NO_RECORDS = ["[]", "null", "3", "", "{", "[" * 10_000, "\ud800", '{"command": 3}', '{"command": "eval", "times": []}']


def _run(folder: Path) -> run_file.Run:
    return run_file.Run(folder / "run.json", command="detect", options={}, inputs={})


@pytest.mark.parametrize("content", NO_RECORDS)
def test_what_is_no_record_of_a_run_is_told_and_can_be_overwritten(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(ResumeError, match=r"run\.json: is no record of a run .*`out` or add `overwrite`"):
        _run(tmp_path).begin()
    _run(tmp_path).begin(overwrite=True)
    assert run_file.read(tmp_path / "run.json")["command"] == "detect"


def test_a_folder_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(ResumeError, match=r"run\.json: .*directory"):
        _run(tmp_path).begin()
    with pytest.raises(OutputError, match=r"run\.json: cannot be replaced"):
        _run(tmp_path).begin(overwrite=True)
    with pytest.raises(OutputError, match=r"run\.json: cannot be replaced"):
        atomic.remove(tmp_path / "run.json")


@pytest.mark.parametrize("name", ["abc", "", "99999999999999999999", "-5", "²", "1.5"])
def test_leftovers_of_others_stay(name: str, tmp_path: Path) -> None:
    left = tmp_path / f".x.writing-{socket.gethostname()}-{name}"
    left.mkdir()
    atomic.sweep(tmp_path)
    assert left.exists()


@pytest.mark.parametrize("line", [b'{"other": 1}\n', b"[" * 100_000 + b"]" * 100_000 + b"\n", b"\xff\n", b"[]\n"])
def test_a_journal_of_another_kind_is_told(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(line)
    with pytest.raises(ResumeError, match=r"j:1: of another kind: .*`overwrite`"):
        list(Journal(tmp_path / "j").read(Failure))


def test_a_journal_that_is_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "j").mkdir()
    with pytest.raises(ResumeError, match="j: cannot be read"):
        list(Journal(tmp_path / "j").read(Failure))


@pytest.mark.parametrize("command", ["detect", "pack"])
@pytest.mark.parametrize("record", ["[]", '{"command":"COMMAND","options":{"split":[3]},"times":{"finished":1}}'])
def test_commands_refuse_in_one_line_and_start_afresh(command: str, record: str, tmp_path: Path, mgtool) -> None:
    (tmp_path / "run.json").write_text(record.replace("COMMAND", command))
    words = [command, PHOTO, "--out", tmp_path, "--workers", "0", "-q"]
    code, _, said = mgtool(*words)
    assert code == 2, said
    [line] = said.splitlines()
    assert str(tmp_path) in line
    assert "--overwrite" in line
    code, _, said = mgtool(*words, "--overwrite")
    assert (code, said) == (0, "")


def test_a_finished_run_without_its_counts_is_told(tmp_path: Path, mgtool) -> None:
    words = ["detect", PHOTO, "--out", tmp_path, "--workers", "0", "-q"]
    assert mgtool(*words)[0] == 0
    record = run_file.read(tmp_path / "run.json")
    (tmp_path / "run.json").write_bytes(run_file.dumps({**record, "counts": {"pictures": 1}}))
    code, _, said = mgtool(*words)
    assert code == 2
    assert "run.json: is no record of a run of `mgtool detect`" in said
