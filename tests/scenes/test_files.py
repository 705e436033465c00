"""What `make.py` writes is what mgtool reads: packed, asked, scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from make import write

from mgtool.records import BoxRecord, parse

COUNT = 30


def _answers(path: Path, rows: list[dict[str, Any]]) -> Path:
    lines = ({"prompt": "", "model_id": "truth", **row} for row in rows)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _headline(mgtool, answers: Path, out: Path, *arguments: object) -> dict[str, Any]:
    code, _, stderr = mgtool("eval", answers, "--out", out, "-q", *arguments)
    assert code == 0, stderr
    return json.loads((out / "scores.json").read_text(encoding="utf-8"))["metrics"]


def test_packing(written: Path, tmp_path: Path, mgtool) -> None:
    code, stdout, stderr = mgtool(
        "pack", written / "conversations.json", "--images", written / "images", "--boxes", written / "boxes",
        "--out", tmp_path / "tars", "--json",
    )  # fmt: skip
    assert code == 0, stderr
    assert json.loads(stdout)["samples"] == COUNT


def test_right_answers_score_in_full(written: Path, tmp_path: Path, mgtool) -> None:
    truth = json.loads((written / "answers.json").read_text(encoding="utf-8"))
    asked = {row["question_id"]: row for row in _rows(written / "questions.jsonl")}
    assert set(asked) == set(truth)
    rows = [{"question_id": key, "text": row["answer"], "image": row["imageId"]} for key, row in truth.items()]
    answers = _answers(tmp_path / "gqa.jsonl", rows)
    found = _headline(
        mgtool, answers, tmp_path / "gqa", "--benchmark", "gqa", "--ground-truth", written / "answers.json"
    )
    assert found["accuracy"]["value"] == 100
    rows[0]["text"] = "something else"
    answers = _answers(tmp_path / "worse.jsonl", rows)
    found = _headline(
        mgtool, answers, tmp_path / "worse", "--benchmark", "gqa", "--ground-truth", written / "answers.json"
    )
    assert found["accuracy"]["value"] == pytest.approx(100 * (1 - 1 / len(rows)))


def test_existence_is_scored_by_pope(written: Path, tmp_path: Path, mgtool) -> None:
    truth = {split: _rows(written / f"pope_{split}.jsonl") for split in ("random", "adversarial")}
    for rows in truth.values():
        assert [row["label"] for row in rows].count("yes") == len(rows) / 2 == COUNT
    labels = {(split, row["question_id"]): row["label"] for split, rows in truth.items() for row in rows}
    answers = [
        {
            "question_id": row["question_id"],
            "text": labels[row["category"], row["question_id"]],
            "image": row["image"],
            "metadata": {"category": row["category"]},
        }
        for row in _rows(written / "pope_questions.jsonl")
    ]
    files = [written / f"pope_{split}.jsonl" for split in truth]
    path = _answers(tmp_path / "pope.jsonl", answers)
    found = _headline(mgtool, path, tmp_path / "pope", "--benchmark", "pope", "--ground-truth", *files)
    assert found["f1"]["value"] == 100


def test_boxes_are_scored_against_coco(written: Path, tmp_path: Path, mgtool) -> None:
    lines = (written / "boxes" / "boxes-000000.jsonl").read_text(encoding="utf-8").splitlines()
    records = [parse(line, BoxRecord, where="boxes") for line in lines]
    assert len(records) == COUNT
    truth = written / "instances.json"
    found = _headline(
        mgtool, written / "boxes", tmp_path / "boxes", "--benchmark", "coco-detection", "--ground-truth", truth
    )
    assert found["AP"]["value"] == 100
    one_class = json.loads((written / "objects.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in one_class["categories"]] == ["object"]
    assert len(one_class["annotations"]) == sum(len(record.boxes or ()) for record in records)


def test_a_second_writing_gives_the_same_bytes(written: Path, tmp_path: Path) -> None:
    write(tmp_path / "again", "test", COUNT)
    for path in sorted(written.rglob("*")):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(written)).read_bytes() == path.read_bytes(), path.name
