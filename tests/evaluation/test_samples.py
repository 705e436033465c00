"""Several samples an item: none is thrown away."""

from __future__ import annotations

import json

import pytest

from mgtool.errors import UsageError
from mgtool.evaluation.options import EvalOptions
from mgtool.stages.evaluate import evaluate


@pytest.fixture
def sampled(bench):
    """Two questions with three samples each: 2 of 3 are right for either."""
    rows = [{"question_id": n, "image": f"{n}.jpg", "text": "A thing?", "label": "yes" if n else "no"} for n in (0, 1)]
    truth = bench.write("coco_pope_random.json", "\n".join(map(json.dumps, rows)))
    said = {0: ("Yes", "No", "No"), 1: ("No", "Yes", "Yes")}
    lines = [
        {"question_id": item, "text": text, "metadata": {"sample": number}}
        for item, texts in said.items()
        for number, text in enumerate(texts)
    ]
    return truth, bench.write("answers.jsonl", lines)


@pytest.mark.parametrize(
    ("rule", "metric", "value"),
    [("mean", "random.accuracy", 200 / 3), ("vote", "random.accuracy", 100), ("pass@1", "pass@1", 200 / 3),
     ("pass@2", "pass@2", 100)],
)  # fmt: skip
def test_mean_vote_and_pass(sampled, tmp_path, rule: str, metric: str, value: float) -> None:
    truth, answers = sampled
    scored = evaluate(answers, EvalOptions("pope", ground_truth=[truth], samples=rule), tmp_path / "out")
    assert scored.result.metrics[metric].value == pytest.approx(value)
    assert (scored.counts.duplicated, scored.counts.answered) == (0, 2)
    assert scored.result.name == f"pope (official), {rule} of 3 samples"
    assert scored.result.samples.spread["random.accuracy"] == pytest.approx(57.735, abs=1e-3)
    assert len((tmp_path / "out/scores.jsonl").read_text().splitlines()) == 2


def test_a_comparison_of_means(sampled) -> None:
    truth, answers = sampled
    options = EvalOptions("pope", ground_truth=[truth], compare=str(answers))
    assert evaluate(answers, options).comparison.metrics["random.accuracy"].difference == 0


def test_more_tries_than_samples(sampled) -> None:
    truth, answers = sampled
    with pytest.raises(UsageError, match="`samples` pass@4: the answers have 3 to a question"):
        evaluate(answers, EvalOptions("pope", ground_truth=[truth], samples="pass@4"))
    with pytest.raises(UsageError, match="`samples` best: there are mean, vote and pass@K"):
        EvalOptions("pope", samples="best")
