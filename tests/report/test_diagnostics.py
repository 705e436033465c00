"""Which answers are taken for which, and whether probabilities are right."""

from __future__ import annotations

import math

import pytest

from mgtool.records import Score
from mgtool.report import diagnostics
from mgtool.report.scores_page import render
from mgtool.scoring.benchmark import Item
from mgtool.scoring.predictions import Prediction


def _score(number: int, target: object, extracted: object, score: float, status: str = "answered") -> Score:
    return Score(question_id=number, prediction="", extracted=extracted, target=target, score=score, status=status)


def test_targets_by_answers() -> None:
    answers = [("yes", "Yes"), ("yes", "no"), ("no", "no"), ("no", "maybe"), ("no", None)]
    scores = [_score(n, target, read, 0.0) for n, (target, read) in enumerate(answers)]
    scores.append(_score(9, "no", None, 0.0, "missing"))
    table = diagnostics.confusion(scores)
    assert table is not None
    assert table.answers == ("no", "yes", "other", "no answer")
    assert table.rows == {"no": (1, 0, 2, 1), "yes": (1, 1, 0, 0)}


@pytest.mark.parametrize("targets", [["yes", "yes"], [["a"], ["b"]], [str(n) for n in range(50)], ["a", "b" * 50], []])
def test_what_has_no_small_set_of_targets_has_no_table(targets: list[object]) -> None:
    assert diagnostics.confusion([_score(n, target, "a", 0.0) for n, target in enumerate(targets)]) is None


def test_probabilities_of_options_and_of_tokens() -> None:
    fields = [
        {"choices": {"Yes": math.log(0.3), "No": math.log(0.1)}},
        {"logprobs": [math.log(0.5), math.log(0.5)]},
        {"logprobs": "broken"},
        {"choices": {}},
        {},
    ]
    pairs = [(Item(id=n, target="yes"), Prediction(id=n, text="Yes", fields=one)) for n, one in enumerate(fields)]
    found = list(diagnostics.confidences([*pairs, (Item(id=9, target="yes"), None)]))
    assert found[:2] == pytest.approx([0.75, 0.25])
    assert found[2:] == [None] * 4


def test_calibration_is_the_weighted_distance_of_probability_and_score() -> None:
    scores = [_score(n, "yes", "yes", float(n % 2)) for n in range(4)]
    found = diagnostics.calibration(scores, [0.95, 0.95, 1.0, 0.05])
    assert found is not None
    assert [(one.name, one.count) for one in found.bins] == [("0-10 %", 1), ("90-100 %", 3)]
    assert found.error == pytest.approx((95 * 1 + (290 / 3 - 100 / 3) * 3) / 4)
    assert diagnostics.calibration(scores, [None] * 4) is None
    assert diagnostics.calibration(scores, []) is None


def test_the_page_shows_both(page) -> None:
    whole = page(count=40)
    html = render(page(count=40)).decode()
    assert 'id="calibration"' not in html
    found = diagnostics.calibration(whole.scores, [0.9] * 40)
    object.__setattr__(whole, "calibration", found)
    assert 'id="calibration"' in render(whole).decode()
    assert 'id="changed"' in html
