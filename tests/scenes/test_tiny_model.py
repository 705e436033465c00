"""The shipped model sees scenes that it was never trained on, through all four commands."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from mgtool.inputs.model_folders import model_folder


def _scores(mgtool, written: Path, out: Path, name: str, benchmark: str, *truth: str) -> dict:
    boxes, answers = out / "boxes", out / name / "answers.jsonl"
    commands = (
        ("detect", written / "images", "--detector", "tiny", "--out", boxes),
        ("infer", written / f"{name}.jsonl", "--images", written / "images", "--boxes", boxes, "--model", "tiny",
         "--max-new-tokens", 8, "--out", answers),
        ("eval", answers, "--benchmark", benchmark, "--out", out / benchmark,
         "--ground-truth", *(written / file for file in truth)),
    )  # fmt: skip
    for command in commands:
        code, _, stderr = mgtool(*command, "-q")
        assert code == 0, stderr
    return json.loads((out / benchmark / "scores.json").read_text(encoding="utf-8"))


def test_it_knows_what_is_there(mgtool, written: Path, tmp_path: Path) -> None:
    """Chance is an F1 of 50; the bound is three standard errors of 120 questions below the reported score."""
    scores = _scores(mgtool, written, tmp_path, "pope_questions", "pope", "pope_random.jsonl", "pope_adversarial.jsonl")
    assert scores["metrics"]["f1"]["value"] > 87


def test_it_knows_where_what_and_how_many(mgtool, written: Path, tmp_path: Path) -> None:
    """Chance is 25, under 1 and 20 percent; the bounds are three standard errors of 25 questions below the reports."""
    found = _scores(mgtool, written, tmp_path, "questions", "gqa", "answers.json")["breakdown"]["semantic"]
    assert found["position"]["value"] > 77
    assert found["naming"]["value"] > 51
    assert found["counting"]["value"] > 43


def test_its_folder_is_small_and_whole() -> None:
    folder = model_folder("tiny")
    assert folder == Path(str(resources.files("mgtool") / "model" / "tiny"))
    assert sum(path.stat().st_size for path in folder.iterdir()) < 15_000_000
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= {
        path.name for path in folder.iterdir()
    }
