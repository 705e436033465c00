"""The last words of a command: how long, how many a second, where, and what to type next."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from mgtool.tars import verify

PHOTOS = Path(__file__).parents[2] / "examples/photos"
CAT = PHOTOS / "images/cat.jpg"
COMMANDS = {
    "detect": ("detect", PHOTOS / "images", "--workers", 0, "--out", "a b/boxes"),
    "pack": ("pack", CAT, "--workers", 1, "--out", "a b/tars"),
    "infer": ("infer", CAT, "--task", "caption", "--model", "tiny", "--max-new-tokens", 1, "--out", "a b/x.jsonl"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_run_says_how_long_where_and_what_comes_next(
    name: str, mgtool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, told, _ = mgtool(*COMMANDS[name], "--json")
    found = json.loads(told)
    assert code == 0
    assert found["seconds"] > 0
    assert found["per_second"] > 0
    assert found["out"] == COMMANDS[name][-1]
    words = shlex.split(found["next"])
    assert words[0] == "mgtool"
    assert found["out"] in words
    code, told, said = mgtool(*COMMANDS[name], "--overwrite")
    assert (code, told) == (0, "")
    assert f"next: {found['next']}" in said.replace("\n", " ").replace("  ", " ")
    assert "per second" in said


def test_the_next_command_of_detect_and_of_pack_runs_as_it_stands(
    mgtool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verify, "READERS", {})  # which have tests of their own, and take long to start
    for name in ("detect", "pack"):
        then = json.loads(mgtool(*COMMANDS[name], "--json")[1])["next"]
        code, _, said = mgtool(*shlex.split(then)[1:])
        assert code == 0, said
    assert (tmp_path / "a b/boxes/boxes.html").is_file()


PARTS = Path(__file__).parents[1] / "conformance/mg_llava"
IMPORT = [word for part in ("llm", "clip", "convnext") for word in (f"--{part}", PARTS / part)]


@pytest.mark.parametrize("name", ["detect", "infer", "import"])
def test_a_finished_run_says_that_nothing_was_left_to_do(
    name: str, mgtool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = COMMANDS.get(name, ("import", "--checkpoint", PARTS / "mg_llava.pth", *IMPORT, "--out", "model"))
    assert "nothing was left" not in mgtool(*words)[2]
    _, _, said = mgtool(*words)
    assert "was complete; nothing was left to do" in said
    assert "per second" not in said


def test_a_table_that_is_not_there_is_said_to_be_missing(mgtool, tmp_path: Path) -> None:
    code, _, said = mgtool("table", tmp_path / "no.toml", "--out", tmp_path / "t")
    assert (code, said) == (2, f"error: {tmp_path}/no.toml: cannot be read: No such file or directory\n")


def test_scores_say_how_long_and_where(mgtool, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"question_id": 1, "question": "What?", "answer": "cat"}\n')
    (tmp_path / "a.jsonl").write_text('{"question_id": 1, "prompt": "What?", "text": "cat", "model_id": "m"}\n')
    words = ("eval", tmp_path / "a.jsonl", "--benchmark", "custom", "--ground-truth", tmp_path / "t.jsonl", "--out")
    found = json.loads(mgtool(*words, tmp_path / "s", "--json")[1])
    assert Path(found["report"]).is_file()
    assert found["seconds"] > 0
    _, _, said = mgtool(*words, tmp_path / "s2")
    assert "took " in said
    assert "report: " in said
