"""Every variant gives what the original function gives on generated answers.

A file of `originals` names the project, its commit and the function, and keeps questions, answers and scores.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ORIGINALS = sorted((Path(__file__).parent / "originals").glob("*.json"))


@pytest.mark.parametrize("path", ORIGINALS, ids=lambda path: path.stem)
def test_a_variant_scores_as_its_original(bench, path: Path) -> None:
    kept = json.loads(path.read_bytes())
    truth = bench.write(kept["truth_name"], kept["truth"])
    run = bench.score(kept["benchmark"], [truth], kept["answers"], variant=kept["variant"])
    scores = {str(score.question_id): score.score for score in run.scores}
    said = [(line["text"], scores[str(line["question_id"])]) for line in kept["answers"]]
    expected = [(line["text"], pytest.approx(own)) for line, own in zip(kept["answers"], kept["scores"], strict=True)]
    assert said == expected
    for metric, value in kept.get("metrics", {}).items():
        assert run.result.metrics[metric].value == pytest.approx(value), metric
