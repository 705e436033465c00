"""An answer counts only for its own question: ids alone are in every data set."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mgtool.evaluation.identity import OTHER, REWORDED, SAME, UNKNOWN, fit_of
from mgtool.scoring.benchmark import Item
from mgtool.scoring.predictions import Prediction

QUESTION = "Is the answer to the sum in the image 9? Please answer yes or no."


@pytest.mark.parametrize(
    ("image", "prompt", "fits"),
    [
        ("val2014/COCO_val2014_000000000042.png", "Anything at all", REWORDED),
        ("000000000042.jpg", "Anything at all", REWORDED),
        ("kitchen.jpg", QUESTION, OTHER),
        ("42", "What is this?", OTHER),  # 42 is also the question's id, so that the words decide
        ("42.png", "<image>\nIS the answer to the sum in the image 9?\nUse one word.", SAME),
        ("", "Context: a page.\nIs the answer to the sum in the image 9?\nAnswer with one word.", SAME),
        ("", "Is the answer to the sum in the image 9?", SAME),
        ("", "Is the answer to the sum in the image 8? Please answer yes or no.", OTHER),
        ("", "?", UNKNOWN),
        ("", "", UNKNOWN),
    ],
)
def test_pictures_decide_and_words_where_there_are_none(image: str, prompt: str, fits: int) -> None:
    name = "page.jpg" if image.startswith("42") else "COCO_val2014_000000000042.jpg"
    item = Item(id=42, question=QUESTION, image=name)
    assert fit_of(item, Prediction(id=42, text="Yes", image=image, prompt=prompt), {"42"}) == fits


def test_a_question_of_its_own_key_is_compared() -> None:
    item = Item(id=1, question="What is this?\nA. cat\nB. dog")
    for asked, fits in (("What is this?", SAME), ("What is that?", OTHER)):
        assert fit_of(item, Prediction(id=1, text="A", question=asked), {"1"}) == fits


@pytest.fixture
def files(bench):
    """Ten questions about ten pictures, and the answers of a model, the first few about others."""
    rows = [
        {"question_id": n, "image": f"photo_{n}.jpg", "text": f"Is there a thing {n}?", "label": "yes"}
        for n in range(10)
    ]
    truth = bench.write("coco_pope_random.json", "\n".join(map(json.dumps, rows)))

    def answers(others: int) -> Any:
        lines = [
            {"question_id": n, "text": "Yes", "image": f"my_{n}.png" if n < others else f"a/photo_{n}.png"}
            for n in range(10)
        ]
        return bench.write("answers.jsonl", lines)

    return truth, answers


def test_answers_to_other_questions_are_refused_with_both_texts(mgtool, files, tmp_path) -> None:
    truth, answers = files
    options = ("eval", answers(6), "--benchmark", "pope", "--ground-truth", truth, "--out", tmp_path / "out")
    code, out, err = mgtool(*options)
    said = " ".join(err.split())
    assert (code, out) == (2, "")
    assert "6 of 10 answers that can be compared are to other questions than those of pope" in said
    assert '0 is about my_0.png, where the benchmark has photo_0.jpg, "Is there a thing 0?"' in said
    assert "3 is about" not in said
    assert "--trust-ids" in said
    assert not (tmp_path / "out").exists()
    code, _, err = mgtool(*options, "--trust-ids")
    assert code == 0
    assert "6 mismatched" in err
    assert json.loads((tmp_path / "out/scores.json").read_text())["metrics"]["random.accuracy"]["value"] == 100


def test_a_few_do_not_count_and_are_shown(mgtool, files, tmp_path) -> None:
    truth, answers = files
    options = ("eval", answers(1), "--benchmark", "pope", "--ground-truth", truth, "--out", tmp_path / "out")
    code, _, err = mgtool(*options)
    assert code == 0
    assert "0 is about my_0.png, where the benchmark has photo_0.jpg" in " ".join(err.split())
    scores = json.loads((tmp_path / "out/scores.json").read_text())
    assert (scores["counts"]["mismatched"], scores["counts"]["missing"]) == (1, 1)
    assert scores["metrics"]["random.accuracy"]["value"] == 90
    assert "photo_0.jpg" in (tmp_path / "out/report.html").read_text()


def test_items_that_none_answered(mgtool, files) -> None:
    truth, answers = files
    path = answers(0)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:8]))
    options = ("eval", path, "--benchmark", "pope", "--ground-truth", truth)
    code, _, err = mgtool(*options)
    assert code == 3
    assert "2 of 10 items (20.0 %) have no answer" in " ".join(err.split())
    assert mgtool(*options, "--only-answered")[0] == 0
    assert mgtool(*options, "--allow-failures", "2")[0] == 0
    assert mgtool(*options, "--allow-failures", "10%")[0] == 3
