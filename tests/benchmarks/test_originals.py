"""Every variant gives what the original function gives on generated answers.

A file of `originals` names the project, its commit and the function, and keeps questions, answers and scores; where the
original asks a judge, also the replies by what it was asked with, so that another question has none. Where the ground
truth is several files, `beside` has the others; `also` has what the same answers score in other variants.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mgtool import benchmarks
from mgtool.evaluation.pipeline import ScoredRun
from mgtool.scoring import java_metrics
from mgtool.scoring.benchmark import JudgeRequest

ORIGINALS = sorted((Path(__file__).parent / "originals").glob("*.json"))


class KeptReplies:
    """A judge that was asked before."""

    def __init__(self, replies: dict[str, str]) -> None:
        self.replies = replies

    def ask(self, requests: Sequence[JudgeRequest]) -> list[str | None]:
        return [self.replies[self.key(request)] for request in requests]

    @staticmethod
    def key(request: JudgeRequest) -> str:
        asked = f"{float(request.temperature or 0)}\n{request.system}\n{request.user}"
        return hashlib.sha256(asked.encode()).hexdigest()[:16]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("path", ORIGINALS, ids=lambda path: path.stem)
def test_a_variant_scores_as_its_original(bench, path: Path, request: pytest.FixtureRequest) -> None:
    kept = json.loads(path.read_bytes())
    if "METEOR" not in kept.get("metrics", {}):
        request.getfixturevalue("without_meteor")
    if "captions" in kept.get("needs", []):
        pytest.importorskip("pycocoevalcap")
    if "java" in kept.get("needs", []) and not java_metrics.available():
        pytest.skip("needs a Java runtime on the PATH")
    files = {kept["truth_name"]: kept["truth"], **kept.get("beside", {})}
    truth = [bench.write(name, content) for name, content in files.items()]
    judge = KeptReplies(kept["replies"]) if "replies" in kept else None
    for variant, numbers in {kept["variant"]: kept, **kept.get("also", {})}.items():
        run = bench.score(kept["benchmark"], truth, kept["answers"], variant=variant, judge=judge)
        _check(run, kept["answers"], numbers)


def _check(run: ScoredRun, answers: Sequence[dict[str, Any]], numbers: dict[str, Any]) -> None:
    scores = {str(score.question_id): score.score for score in run.scores}
    known = numbers["scores"] or list(scores.values())  # some originals have numbers of the whole alone
    said = [(line["text"], scores[str(line["question_id"])]) for line in answers]
    expected = [(line["text"], pytest.approx(own)) for line, own in zip(answers, known, strict=True)]
    assert said == expected
    for metric, value in numbers.get("metrics", {}).items():
        assert run.result.metrics[metric].value == pytest.approx(value), metric


OF_NO_PROJECT = {("refcoco", "per-mille"), ("refcoco", "padded"), ("custom", "official")}
SAME_CODE = {("nocaps", "vlmevalkit"), ("flickr30k", "vlmevalkit")}
"""Scored by the function that is held to its original for coco-caption."""


HELD_ELSEWHERE = {("coco-detection", "official"), ("lvis", "official")}
"""Held to the installed pycocotools and to lvis-api, which run beside them in the tests of detection."""


def test_every_variant_is_held_to_its_original() -> None:
    kits = [json.loads(path.read_bytes()) for path in ORIGINALS]
    held = {(kept["benchmark"], way) for kept in kits for way in (kept["variant"], *kept.get("also", {}))}
    ways = {(bench.name, way) for bench in benchmarks.TABLE.values() for way in bench.variants}
    assert ways - held == OF_NO_PROJECT | SAME_CODE | HELD_ELSEWHERE
