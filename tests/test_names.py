"""Names that are no UTF-8, and what steers a terminal: kept with escapes in data, escaped on a screen."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from mgtool.commands import console
from mgtool.inputs.sources import read_samples
from mgtool.media.reading import read_bytes
from mgtool.records import dumps

PHOTO = Path(__file__).parents[1] / "examples/photos/images/cat.jpg"
ODD = os.fsdecode(b"odd\xff")
ESCAPED = "odd\\udcff"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / ODD
    folder.mkdir()
    shutil.copy(PHOTO, folder / "a.jpg")
    return folder


def test_detect_and_pack_work_below_such_names(pictures: Path, tmp_path: Path, mgtool) -> None:
    for command in ("detect", "pack"):
        out = tmp_path / f"{command}-{ODD}"
        words = [command, pictures, "--images", pictures, "--out", out, "--workers", "0"]
        code, shown, said = mgtool(*words, "--json")
        assert code == 0, said
        assert json.loads(shown)["out"].endswith(f"{command}-{ESCAPED}")
        assert ESCAPED in json.dumps(json.loads((out / "run.json").read_bytes())["inputs"]).replace("\\\\", "\\")
        assert mgtool(*words, "-q")[0] == 0  # the same run still


def test_eval_works_with_such_names(tmp_path: Path, mgtool) -> None:
    answers, truth = tmp_path / f"{ODD}.jsonl", tmp_path / f"truth-{ODD}.jsonl"
    answers.write_text('{"question_id":2,"prompt":"q?","text":"No","model_id":"m","metadata":{}}\n')
    truth.write_text('{"question_id":2,"image":"ok.jpg","text":"q?","category":"x","label":"no"}\n')
    words = ["eval", answers, "--benchmark", "pope", "--ground-truth", truth, "--out", tmp_path / "scores"]
    code, _, said = mgtool(*words)
    assert code == 0, said
    assert ESCAPED.encode() in (tmp_path / "scores/report.html").read_bytes()


@pytest.mark.parametrize(("id", "kept"), [({"question_id": 7}, 7), ({"id": "x"}, "x"), ({}, "line 1")])
def test_half_a_surrogate_pair_is_told_as_such(id: dict[str, object], kept: object, tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    records = ({**id, "text": "a \ud800 b"}, {"question_id": 8, "text": "b \U0001f600"})
    file.write_text("\n".join(map(json.dumps, records)))
    failure, sample = read_samples([str(file)])
    assert (failure.id, failure.reason) == (kept, "bad_record")
    assert "\\ud800, half a surrogate pair" in failure.detail
    assert sample.id == 8


def test_records_with_such_texts_can_be_written() -> None:
    assert json.loads(dumps({"a": ["\udcff", 1 << 70]})) == {"a": ["\\udcff", 1 << 70]}


def test_nothing_steers_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    console.say("a\x1b[2J\udcffb\u202e")
    console.fail("c\x1b]0;title\x07")
    said = capfd.readouterr().err
    assert "\x1b" not in said
    assert "a\\x1b[2J\\udcffb\\u202e" in said
    assert "c\\x1b]0;title\\x07" in said


def test_tables_of_scores_steer_no_terminal(tmp_path: Path, mgtool) -> None:
    category = "a\x1b]0;title\x07\nb\u202e\u009b31m"
    answers, truth = tmp_path / "a.jsonl", tmp_path / "t.jsonl"
    answers.write_bytes(
        dumps({"question_id": 2, "prompt": "q?", "text": "No", "model_id": "m", "metadata": {}}) + b"\n"
    )
    question = {"question_id": 2, "image": "ok.jpg", "text": "q?", "category": category, "label": "no"}
    truth.write_bytes(dumps(question) + b"\n")
    for form in ("table", "markdown", "latex"):
        words = ["eval", answers, "--benchmark", "pope", "--ground-truth", truth, "--format", form]
        code, shown, said = mgtool(*words, "--slice", "split")
        assert code == 0, said
        assert r"a\x1b]0;title\x07\nb\u202e\x9b31m" in shown.replace("textbackslash{}", "")
        assert not {*"\x1b\x07\u202e\u009b"} & {*shown, *said}


def test_a_name_that_is_no_text_is_found_by_its_escapes(pictures: Path, tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_bytes(dumps({"question_id": 1, "image": f"{ESCAPED}/a.jpg", "text": "?"}) + b"\n")
    (sample,) = read_samples([str(file)])
    assert read_bytes(sample.images[0]) == PHOTO.read_bytes()
    (tmp_path / ESCAPED).mkdir()
    (tmp_path / ESCAPED / "a.jpg").write_bytes(b"this one comes first")
    assert read_bytes(sample.images[0]) == b"this one comes first"
