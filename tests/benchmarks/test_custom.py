"""Own data: LLaVA's JSON or a table as ground truth, metrics by name."""

from __future__ import annotations

import json

import pytest

from mgtool import benchmarks
from mgtool.scoring.ground_truth import Truth
from mgtool.scoring.text_metrics import METRICS

OPTIONS = {"A": "cat", "B": "dog"}


@pytest.mark.parametrize(
    ("metric", "said", "right", "value"),
    [
        ("exact", " The  Cat.", ["the cat"], 1),
        ("exact", "the cat there", ["the cat"], 0),
        ("vqa", "Two.", ["2"], 1),
        ("vqa", "red", ["red"] * 2 + ["blue"] * 8, 0.6),
        ("anls", "helo", ["hello", "x"], 0.8),
        ("anls", "dog", ["cat"], 0),
        ("relaxed", "104", ["100"], 1),
        ("relaxed", "106", ["100"], 0),
        ("choice", "(B)", ["B"], 1),
        ("choice", "a dog", ["B"], 1),
        ("choice", "B", ["dog"], 1),
        ("choice", "A", ["dog"], 0),
        ("yes-no", "Yes, it is", ["yes"], 1),
        ("yes-no", "Maybe", ["no"], 0),
        ("contains", "It is a red car.", ["Red car"], 1),
        ("contains", "It is a redcar", ["red"], 0),
        ("f1", "a red car", ["the red bus"], 0.5),
    ],
)
def test_metrics_by_name(metric: str, said: str, right: list[str], value: float) -> None:
    assert METRICS[metric](said, right, OPTIONS) == pytest.approx(value)


@pytest.fixture
def llava(bench):
    """Three conversations, and answers to them."""
    pairs = {"a": ("What is it?", "A cat"), "b": ("Which word?", "hello"), "c": ("And this?", "7")}
    rows = [
        {
            "id": key,
            "image": f"{key}.jpg",
            "category": "word" if key == "b" else "thing",
            "conversations": [
                {"from": "human", "value": "<image>\nHello?"},
                {"from": "gpt", "value": "Hello."},
                {"from": "human", "value": question},
                {"from": "gpt", "value": answer},
            ],
        }
        for key, (question, answer) in pairs.items()
    ]
    said = {"a": "a cat.", "b": "helo", "c": "8"}
    lines = [{"question_id": key, "image": f"{key}.jpg", "prompt": pairs[key][0], "text": said[key]} for key in said]
    return bench.write("val.json", rows), bench.write("answers.jsonl", lines)


def test_llavas_json_with_two_metrics_by_category(mgtool, llava, tmp_path) -> None:
    truth, answers = llava
    options = ("--benchmark", "custom", "--ground-truth", truth, "--metric", "exact,anls", "--by", "category")
    code, table, err = mgtool("eval", answers, *options, "--out", tmp_path / "out")
    assert code == 0, err
    scores = json.loads((tmp_path / "out/scores.json").read_text())
    assert scores["name"] == "custom (exact, anls)"
    values = {name: metric["value"] for name, metric in scores["metrics"].items()}
    assert values == {"exact": pytest.approx(100 / 3), "anls": pytest.approx(100 * (5 / 6 + 0.8) / 3)}
    assert scores["breakdown"]["category"]["thing exact"]["value"] == 50
    assert scores["breakdown"]["category"]["word anls"]["value"] == pytest.approx(80)
    assert "exact" in table


@pytest.mark.parametrize("name", ["val.jsonl", "val.csv", "val.tsv", "val.json"])
def test_tables(bench, name: str) -> None:
    rows = [{"id": n, "question": "Which?", "A": "cat", "B": "dog", "answer": "B"} for n in (1, 2)]
    text = "id,question,A,B,answer\n1,Which?,cat,dog,B\n2,Which?,cat,dog,B\n"
    truth = bench.write(name, text if name == "val.csv" else rows)
    run = bench.score("custom", [truth], {1: "B", 2: "no idea"})
    assert run.result.metrics["exact"].value == 50


def test_options_in_the_question_are_read(bench, mgtool) -> None:
    truth = bench.write("val.jsonl", [{"id": 1, "question": "Which?\nA. a cat\nB. two dogs", "answer": "two dogs"}])
    answers = bench.write("answers.jsonl", [{"question_id": 1, "text": "B"}])
    code, out, _ = mgtool(
        "eval", answers, "--benchmark", "custom", "--ground-truth", truth, "--metric", "choice", "--json"
    )
    assert (code, json.loads(out)["metrics"]["choice"]["value"]) == (0, 100)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--benchmark", "custom", "--metric", "wer"), "--metric wer: not known; there are exact, vqa, anls"),
        (("--benchmark", "custom", "--by", "colour"), "--by colour: no record has this field; there are: category"),
        (("--benchmark", "docvqa", "--metric", "exact"), "--metric docvqa has its own: ANLS"),
    ],
)
def test_mistakes(mgtool, llava, more: tuple[str, ...], message: str) -> None:
    truth, answers = llava
    code, _, err = mgtool("eval", answers, "--ground-truth", truth, *more)
    assert code == 2
    assert message in " ".join(err.split())


def test_a_file_without_answers(mgtool, bench, llava) -> None:
    truth = bench.write("none.json", [{"id": "a", "question": "?"}])
    code, _, err = mgtool("eval", llava[1], "--benchmark", "custom", "--ground-truth", truth)
    assert code == 2
    assert "none.json: expected LLaVA's JSON" in " ".join(err.split())


def test_records_without_an_id_go_by_their_place(bench) -> None:
    turns = [{"from": "human", "value": "Is it?"}, {"from": "gpt", "value": "yes"}]
    for name, own in (("a.json", "record 2"), ("a.jsonl", "line 2")):
        truth = bench.write(name, [{"conversations": turns}, {"conversations": turns}])
        assert bench.score("custom", [truth], {own: "Yes"}).counts.answered == 1


def test_one_question_a_picture_needs_no_id(bench) -> None:
    rows = [{"image": f"{name}.jpg", "question": "Is it?", "answer": "yes"} for name in "ab"]
    assert bench.score("custom", [bench.write("a.json", rows)], {"b.jpg": "Yes"}).counts.answered == 1
    asked_twice = bench.write("b.json", [*rows, {**rows[1], "question": "Is it not?"}])
    items = benchmarks.get("custom").load(Truth((asked_twice,), None, ""))
    assert [item.id for item in items] == ["a.jpg", "record 2", "record 3"]
