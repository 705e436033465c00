"""The reference's answers, through the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PHOTOS = Path(__file__).parent.parent / "images"


@pytest.mark.parametrize("batch_size", [1, 3, 32])
@pytest.mark.parametrize("template", ["vicuna", "llama3_chat", "phi3_chat"])
def test_every_case_of_the_kit(infer, kit_files, cases, template, batch_size):
    chosen = [case for case in cases if case["template"] == template]
    questions, boxes = kit_files(chosen)
    arguments = ("--images", PHOTOS, "--boxes", boxes, "--max-new-tokens", 24, "--batch-size", batch_size)
    code, answers, stderr = infer(questions, *arguments, model=template)
    assert (code, stderr) == (0, "")
    assert [answer["text"] for answer in answers] == [case["generated_text"] for case in chosen]
    assert [answer["question_id"] for answer in answers] == [case["key"] for case in chosen]
    assert [answer["prompt"] for answer in answers] == [case["question"] for case in chosen]
    assert all(answer["metadata"] == {"category": "kit"} for answer in answers)
    assert [answer["tokens"] for answer in answers] == [len(case["generated_ids"]) for case in chosen]


def test_boxes_by_picture_and_from_a_process_of_its_own(models, write, cases, tmp_path):
    case = cases[0]
    questions = write("q.jsonl", [{"question_id": 1, "image": case["image"], "text": case["question"]}])
    record = {"image": case["image"], "sha256": "", "width": 640, "height": 427, **case["box"]}
    boxes = write("boxes.jsonl", [record])
    command = [sys.executable, "-m", "mgtool.commands.main", "infer", questions, "--images", PHOTOS, "--boxes", boxes]
    command += ["--model", models["vicuna"], "--max-new-tokens", "24", "--out", "-", "--device", "cpu"]
    done = subprocess.run(list(map(str, command)), capture_output=True, check=True, timeout=120)
    assert json.loads(done.stdout)["text"] == case["generated_text"]


def test_packed_tars_carry_their_boxes(mgtool, infer, write, cases, tmp_path):
    chosen = [case for case in cases if case["key"].startswith("vicuna/")]
    for number, case in enumerate(chosen):
        turns = [{"from": "human", "value": "<image>\n" + case["question"]}, {"from": "gpt", "value": "?"}]
        conversation = write("train.jsonl", [{"id": case["key"], "image": case["image"], "conversations": turns}])
        boxes = tmp_path / f"boxes-{number}.json"
        boxes.write_text(json.dumps([{"id": case["key"], **case["box"]}]))
        tars = tmp_path / f"tars-{number}"
        assert mgtool("pack", conversation, "--images", PHOTOS, "--boxes", boxes, "--out", tars, "-q")[0] == 0
        code, answers, _ = infer(tars, "--max-new-tokens", 24, out=f"a{number}.jsonl")
        assert code == 0
        assert [answer["text"] for answer in answers] == [case["generated_text"]]
