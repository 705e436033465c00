"""Published answers of LLaVA-1.5 13B give its published numbers, where they lie beside the project."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

PUBLISHED = Path(os.environ.get("PUBLISHED_ANSWERS", Path(__file__).parents[3] / "shared" / "published"))
NUMBERS = {
    "pope": {"random.f1": 87.14, "popular.f1": 86.25, "adversarial.f1": 84.46, "f1": 85.95},
    "mme": {"perception": 1531.32, "cognition": 295.36},
    "scienceqa": {"accuracy": 74.39, "image_accuracy": 71.64},
    "seedbench": {"accuracy": 68.17},
    "seedbench video": {"accuracy": 42.32},
    "mmmu": {"accuracy": 36.67},
    "mmmu vlmevalkit": {"accuracy": 36.22},
}
TRUTH = {
    "pope": ("coco_pope_adversarial.json", "coco_pope_popular.json", "coco_pope_random.json"),
    "mme": ("Your_Results",),
    "scienceqa": ("problems.json", "pid_splits.json"),
    "seedbench": ("SEED-Bench.json",),
    "mmmu": ("questions.jsonl",),
}


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published answers are not here")
@pytest.mark.parametrize("case", NUMBERS)
def test_published_numbers(mgtool, case: str) -> None:
    name, _, way = case.partition(" ")
    folder = PUBLISHED / name
    options = {"video": ("--split", "video"), "vlmevalkit": ("--variant", "vlmevalkit"), "": ()}[way]
    questions = ("--questions", folder / "llava_pope_test.jsonl") if name == "pope" else ()
    truth = [part for file in TRUTH[name] for part in ("--ground-truth", folder / file)]
    code, out, err = mgtool(
        "eval", folder / "answers.jsonl", "--benchmark", name, *truth, *questions, *options, "--json"
    )
    assert code == 0, err
    metrics = json.loads(out)["metrics"]
    assert {metric: round(metrics[metric]["value"], 2) for metric in NUMBERS[case]} == NUMBERS[case]
