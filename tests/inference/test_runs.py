"""Whole runs: killed, piped, over folders with every kind of bad picture."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nasty
import pytest

PHOTOS = Path(__file__).parent.parent / "images"
MGTOOL = [sys.executable, "-m", "mgtool.commands.main"]


def test_killed_and_run_again_gives_the_bytes_of_one_run(infer, write, models, tmp_path):
    questions = [{"question_id": n, "image": "coffee.jpg", "text": f"What is number {n}?"} for n in range(64)]
    questions[7]["text"] = ""
    questions[50]["image"] = "gone.jpg"
    file = write("q.jsonl", questions)
    options = ["--images", PHOTOS, "--max-new-tokens", 12, "--batch-size", 4]
    assert infer(file, *options, out="whole/answers.jsonl")[0] == 3
    killed = tmp_path / "killed" / "answers.jsonl"
    partial = killed.with_name("answers.jsonl.partial")
    command = [*MGTOOL, "infer", file, *options, "--model", models["vicuna"], "--out", killed, "--device", "cpu", "-q"]
    process = subprocess.Popen(list(map(str, command)))
    while process.poll() is None and not (partial.exists() and partial.stat().st_size > 2000):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not killed.exists()
    with partial.open("ab") as torn:
        torn.write(b'{"question_id": 1')
    assert infer(file, *options, "--batch-size", 7, out="killed/answers.jsonl")[0] == 3
    for name in ("answers.jsonl", "failures.jsonl"):
        assert (killed.parent / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    made = [
        json.loads((tmp_path / run / "run.json").read_bytes())["counts"]["new_tokens"] for run in ("whole", "killed")
    ]
    assert made[0] == made[1] == sum(json.loads(line)["tokens"] for line in killed.read_bytes().splitlines())
    left = sorted(path.name for path in killed.parent.iterdir())
    assert left == ["answers.jsonl", "failures.jsonl", "run.json"]


def test_a_folder_with_every_kind_of_bad_picture(infer, tmp_path):
    reasons = nasty.make(tmp_path / "nasty")
    code, answers, stderr = infer(tmp_path / "nasty", "--task", "caption", "--max-new-tokens", 2)
    assert (code, stderr) == (3, "")
    assert [answer["image"] for answer in answers] == sorted(name for name, why in reasons.items() if why is None)
    failures = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_bytes().splitlines()]
    assert {failure["id"]: failure["reason"] for failure in failures} == {k: v for k, v in reasons.items() if v}


def test_a_run_that_was_killed_at_its_end_is_not_answered_again(infer, tmp_path):
    options = (PHOTOS, "--task", "caption", "--max-new-tokens", 2)
    assert infer(*options)[0] == 0
    record = json.loads((tmp_path / "run.json").read_text())
    made = record["counts"]["new_tokens"]
    record |= {"counts": {}, "times": {"started": record["times"]["started"]}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    before = (tmp_path / "answers.jsonl").read_bytes()
    assert infer(*options)[0] == 0
    assert (tmp_path / "answers.jsonl").read_bytes() == before
    assert json.loads((tmp_path / "run.json").read_text())["counts"]["new_tokens"] == made


def test_detect_pipes_into_infer(models):
    detect = [*MGTOOL, "detect", PHOTOS, "--out", "-", "-q"]
    infer = [*MGTOOL, "infer", "-", "--images", PHOTOS, "--task", "caption", "--max-new-tokens", 4, "-q"]
    infer += ["--model", models["vicuna"], "--out", "-", "--device", "cpu"]
    first = subprocess.Popen(list(map(str, detect)), stdout=subprocess.PIPE)
    second = subprocess.run(list(map(str, infer)), stdin=first.stdout, capture_output=True, timeout=200, check=False)
    first.stdout.close()
    assert (first.wait(), second.returncode, second.stderr) == (0, 0, b"")
    answers = [json.loads(line) for line in second.stdout.splitlines()]
    assert [answer["image"] for answer in answers] == sorted(path.name for path in PHOTOS.iterdir())


def test_a_file_of_another_program_is_refused_unless_it_may_go(infer, write, tmp_path):
    file = write("q.jsonl", [{"question_id": 1, "text": "Hello."}])
    options = ("--max-new-tokens", 2)
    for name, beside in (
        ("notes.txt", "notes.txt"),
        ("answers.jsonl", "failures.jsonl"),
        ("a.jsonl", "a.jsonl.partial"),
    ):
        foreign = tmp_path / name / beside
        foreign.parent.mkdir()
        foreign.write_text('{"mine": 1}\n')
        code, _, stderr = infer(file, *options, out=f"{name}/{name}")
        assert (code, len(stderr.splitlines()), f"{beside} is there" in stderr) == (2, 1, True)
        assert foreign.read_text() == '{"mine": 1}\n'
        assert [path.name for path in foreign.parent.iterdir()] == [beside]
        assert infer(file, *options, "--overwrite", out=f"{name}/{name}")[0] == 0
        assert infer(file, *options, out=f"{name}/{name}")[0] == 0


def test_an_input_is_never_an_output(infer, write, models, tmp_path):
    question = [{"question_id": 1, "text": "Hello."}]
    file, boxes = write("q.jsonl", question), write("boxes.json", [])
    more = ("--max-new-tokens", 2, "--overwrite")
    shown = tmp_path / "photos"
    shown.mkdir()
    (shown / "a.png").write_bytes((PHOTOS / "coffee.jpg").read_bytes())
    before = {path: path.read_bytes() for path in (file, boxes, shown / "a.png", models["vicuna"] / "config.json")}
    tries = {
        "q.jsonl": (file,),
        "boxes.json": (file, "--boxes", boxes),
        "photos/a.png": (shown, "--task", "caption"),
        str(models["vicuna"] / "config.json"): (file,),
    }
    for out, given in tries.items():
        code, _, stderr = infer(*given, *more, out=out)
        assert (code, len(stderr.splitlines()), "is an input of this run" in stderr) == (2, 1, True)
    assert {path: path.read_bytes() for path in before} == before


def test_a_folder_is_no_answers_file(infer, write, tmp_path):
    (tmp_path / "answers").mkdir()
    code, _, stderr = infer(write("q.jsonl", [{"question_id": 1, "text": "Hello."}]), out="answers")
    assert (code, "answers is a folder" in stderr) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers", "q.jsonl"]


def test_failures_whose_cause_is_gone_are_asked_again(infer, write, tmp_path):
    """In the order of the input; the others, and what still fails, stay as they are."""
    shown = tmp_path / "photos"
    shown.mkdir()
    (shown / "china.jpg").write_bytes((PHOTOS / "china.jpg").read_bytes())
    (shown / "cut.jpg").write_bytes((PHOTOS / "coffee.jpg").read_bytes()[:5000])
    names = ["gone.jpg", "china.jpg", "cut.jpg", "never.jpg", "china.jpg", "gone.jpg"]
    records = [{"question_id": n, "image": name, "text": "What is it?"} for n, name in enumerate(names)]
    options = (write("q.jsonl", records), "--images", shown, "--max-new-tokens", 3)
    code, answers, _ = infer(*options, "--num-samples", 2, "--temperature", 1)
    assert (code, [answer["question_id"] for answer in answers]) == (3, [1, 1, 4, 4])
    for name in ("gone.jpg", "cut.jpg"):
        (shown / name).write_bytes((PHOTOS / "coffee.jpg").read_bytes())
    code, mended, _ = infer(*options, "--num-samples", 2, "--temperature", 1)
    assert (code, [answer["question_id"] for answer in mended]) == (3, [n for n in (0, 1, 2, 4, 5) for _ in range(2)])
    assert [answer for answer in mended if answer["question_id"] in (1, 4)] == answers
    failures = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_bytes().splitlines()]
    assert [failure["id"] for failure in failures] == [3]
    counts = json.loads((tmp_path / "run.json").read_text())["counts"]
    assert (counts["answered"], counts["failed"]) == (5, 1)
    (shown / "never.jpg").write_bytes((PHOTOS / "coffee.jpg").read_bytes())
    assert infer(*options, "--num-samples", 2, "--temperature", 1)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.jsonl", "photos", "q.jsonl", "run.json"]


@pytest.mark.parametrize("name", ["tokenizer.json", "processor_config.json", "config.json"])
def test_a_model_folder_that_is_not_whole_is_one_line(name, mgtool, write, models, tmp_path):
    shutil.copytree(models["vicuna"], tmp_path / "model")
    whole = (tmp_path / "model" / name).read_bytes()
    file = write("q.jsonl", [{"question_id": 1, "text": "Hello."}])
    for broken in (None, whole[: len(whole) // 2], b""):
        (tmp_path / "model" / name).unlink() if broken is None else (tmp_path / "model" / name).write_bytes(broken)
        code, _, stderr = mgtool("infer", file, "--model", tmp_path / "model", "--out", tmp_path / "a.jsonl", "-q")
        assert (code, len(stderr.splitlines()), name in stderr) == (2, 1, True)
