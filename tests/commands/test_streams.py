"""Data on stdout and a bar on stderr: on one terminal, in a pipe, and where stdout takes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import terminal

PHOTOS = Path(__file__).parents[2] / "examples/photos/images"
CAT = PHOTOS / "cat.jpg"
MGTOOL = f"{sys.executable} -m mgtool"
RECORDS = {
    "detect": f"{MGTOOL} detect {PHOTOS} --workers 0 --out -",
    "infer": f"{MGTOOL} infer {PHOTOS} --task caption --model tiny --max-new-tokens 2 --out -",
}


def _on_a_terminal(line: str, folder: Path) -> str:
    command = ["bash", "-o", "pipefail", "-c", line]
    code, screen = terminal.run(command, size=(80, 24), cwd=folder)
    terminal.check(line, code, screen, columns=80)
    return screen


def _in_a_shell(line: str, folder: Path, **variables: str) -> tuple[int, str]:
    env = terminal.environment(**variables)
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    done = subprocess.run(["bash", "-c", line], **streams, text=True, cwd=folder, env=env, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", RECORDS)
def test_records_on_a_terminal_have_lines_of_their_own(name: str, tmp_path: Path) -> None:
    screen = _on_a_terminal(RECORDS[name], tmp_path)
    lines = terminal.lines(screen)
    records = [json.loads(line) for line in lines if '"image"' in line]
    assert len(records) == len(list(PHOTOS.iterdir()))
    assert terminal.BAR in screen
    assert sum(terminal.BAR in line for line in lines) == 1


def test_in_a_pipe_only_the_last_has_a_bar_and_no_words_stand_on_it(tmp_path: Path) -> None:
    last = f"{MGTOOL} pack - --images {PHOTOS} --workers 1 --out tars"
    lines = terminal.lines(_on_a_terminal(f"{RECORDS['detect']} | {last}", tmp_path))
    assert [line.split()[0] for line in lines if terminal.BAR in line] == ["samples"]
    titles = [line for line in lines if "mgtool" in line and "next:" not in line]
    assert {line.strip() for line in titles} == {"mgtool detect", "mgtool pack"}


@pytest.mark.parametrize(
    "words", ["eval --list", f"detect {CAT} --workers 0 --out boxes --json", f"detect {CAT} --workers 0 -q --out -"]
)
@pytest.mark.parametrize("place", ["/dev/full", "&-"])
def test_a_stdout_that_takes_nothing_is_one_line(words: str, place: str, tmp_path: Path) -> None:
    code, said = _in_a_shell(f"{MGTOOL} {words} >{place}", tmp_path)
    last = said.splitlines()[-1]
    assert code == 2, said
    assert last.startswith("error: the output cannot be written: "), said


def test_no_room_for_temporary_files_is_one_line(tmp_path: Path) -> None:
    said = _in_a_shell(f"ulimit -f 0; {MGTOOL} pack {CAT} --out tars 2>&1 >/dev/null | cat >&2", tmp_path)[1]
    assert said.startswith("error: --tmp is missing, or a disk is full: No usable temporary directory")


def test_closed_streams_that_are_not_needed_are_not_missed(tmp_path: Path) -> None:
    for closed in (">&-", "<&- >&- 2>&-"):
        line = f"{MGTOOL} detect {CAT} --workers 0 --overwrite --out boxes {closed}"
        assert _in_a_shell(line, tmp_path)[0] == 0, closed
        assert json.loads((tmp_path / "boxes/boxes-000000.jsonl").read_text())["image"] == "cat.jpg"


def test_a_tar_is_nothing_for_a_terminal(tmp_path: Path) -> None:
    code, screen = terminal.run(
        [sys.executable, "-m", "mgtool", "pack", str(CAT), "--out", "-"], size=(80, 24), cwd=tmp_path
    )
    [line] = terminal.lines(screen)
    assert code == 2
    assert "--out - writes a tar, which is nothing for a terminal" in line


def test_recursion_of_the_program_is_a_defect(mgtool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(*given: object, **more: object) -> None:
        endless()

    monkeypatch.setattr("mgtool.stages.detect.plan", endless)
    code, _, said = mgtool("detect", CAT, "--dry-run", "--out", tmp_path / "o")
    assert code == 1
    assert said.startswith("error: a defect of mgtool: RecursionError")
