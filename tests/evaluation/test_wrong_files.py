"""Files that are not what was wanted: one line that says what they look like and what was wanted."""

from __future__ import annotations

import json

import pytest

ANSWERS = [{"question_id": n, "prompt": "Is it?", "text": "yes", "model_id": "m", "metadata": {}} for n in range(2)]
POPE = [{"question_id": n, "image": "a.jpg", "text": "Is it?", "label": "yes"} for n in range(2)]
VQA = {"info": {}, "annotations": [{"question_id": 1, "image_id": 1, "answers": [{"answer": "yes"}] * 10}]}


def refused(mgtool, answers, benchmark: str, truth) -> str:
    code, out, err = mgtool("eval", answers, "--benchmark", benchmark, "--ground-truth", truth)
    assert (code, out) == (2, "")
    (line,) = err.strip().splitlines()
    return line


def test_a_device_is_not_said_to_be_missing(mgtool, bench) -> None:
    truth = bench.write("truth.jsonl", POPE)
    assert refused(mgtool, "/dev/zero", "pope", truth) == "error: /dev/zero: no regular file"


@pytest.mark.parametrize("benchmark", ["pope", "vqav2", "gqa", "scienceqa", "docvqa", "mmbench", "custom"])
def test_swapped_files(mgtool, bench, benchmark: str) -> None:
    said, truth = bench.write("answers.jsonl", ANSWERS), bench.write("truth.jsonl", POPE)
    line = refused(mgtool, truth, benchmark, said)
    held = "lines of question_id, prompt, text, model_id, metadata"
    assert f"it looks like answers ({held}): were answers and ground truth swapped?" in line


@pytest.mark.parametrize(
    ("benchmark", "name", "content", "looks"),
    [
        ("vqav2", "pope.jsonl", POPE, "it looks like lines of question_id, image, text, label"),
        ("gqa", "pope.jsonl", POPE, "it looks like lines of question_id, image, text, label"),
        ("gqa", "v2.json", VQA, "it looks like a JSON object of info, annotations"),
        ("scienceqa", "v2.json", VQA, "it looks like a JSON object of info, annotations"),
        ("docvqa", "list.json", POPE, "it looks like a JSON list of question_id, image, text, label"),
        ("coco-caption", "x.jsonl", "", 'a JSON with "images" and "annotations", each with a caption; it is empty'),
        ("mmbench", "x.tsv", "", "it is empty"),
        ("pope", "x.json", "What is this?", "it looks like a text that is no JSON"),
    ],
)
def test_a_ground_truth_of_another_benchmark(mgtool, bench, benchmark: str, name: str, content, looks: str) -> None:
    line = refused(mgtool, bench.write("answers.jsonl", ANSWERS), benchmark, bench.write(name, content))
    assert f"{name}: expected " in line
    assert line.endswith(looks)


@pytest.mark.parametrize("name", ["answers.jsonl", "answers.json", "answers.csv", "answers.xlsx"])
def test_empty_answers(mgtool, bench, name: str) -> None:
    line = refused(mgtool, bench.write(name, ""), "pope", bench.write("truth.jsonl", POPE))
    assert f"{name}: it is empty; expected answers" in line


def test_answers_that_are_none(mgtool, bench) -> None:
    line = refused(mgtool, bench.write("v2.json", VQA), "pope", bench.write("truth.jsonl", POPE))
    assert "no answer in this file" in line
    assert line.endswith("it looks like a JSON object of info, annotations")


def test_a_truncated_workbook(mgtool, bench) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["index", "prediction"], *([n, "yes"] for n in range(50))):
        book.active.append(row)
    whole = bench.folder / "whole.xlsx"
    book.save(whole)
    cut = bench.folder / "cut.xlsx"
    cut.write_bytes(whole.read_bytes()[:-200])
    truth = bench.write("truth.jsonl", POPE)
    for line in (
        refused(mgtool, cut, "pope", truth),
        refused(mgtool, bench.write("answers.jsonl", ANSWERS), "custom", cut),
    ):
        assert "cut.xlsx: not a readable workbook: it is cut off or damaged" in line
        assert json.dumps(line).count("it is cut off") == 1
