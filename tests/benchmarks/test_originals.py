"""Every variant gives what the original function gives on generated answers.

A file of `originals` names the project, its commit and the function, and keeps questions, answers and scores; where the
original asks a judge, also the replies by what it was asked with, so that another question has none. Where the ground
truth is several files, `beside` has the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from mgtool import benchmarks
from mgtool.scoring import java_metrics
from mgtool.scoring.benchmark import OFFICIAL, JudgeRequest

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
def test_a_variant_scores_as_its_original(bench, path: Path) -> None:
    kept = json.loads(path.read_bytes())
    if "captions" in kept.get("needs", []):
        pytest.importorskip("pycocoevalcap")
    if "java" in kept.get("needs", []) and not java_metrics.available():
        pytest.skip("needs a Java runtime on the PATH")
    files = {kept["truth_name"]: kept["truth"], **kept.get("beside", {})}
    truth = [bench.write(name, content) for name, content in files.items()]
    judge = KeptReplies(kept["replies"]) if "replies" in kept else None
    run = bench.score(kept["benchmark"], truth, kept["answers"], variant=kept["variant"], judge=judge)
    scores = {str(score.question_id): score.score for score in run.scores}
    if not kept["scores"]:
        kept["scores"] = list(scores.values())  # the original has numbers of the whole alone
    said = [(line["text"], scores[str(line["question_id"])]) for line in kept["answers"]]
    expected = [(line["text"], pytest.approx(own)) for line, own in zip(kept["answers"], kept["scores"], strict=True)]
    assert said == expected
    for metric, value in kept.get("metrics", {}).items():
        assert run.result.metrics[metric].value == pytest.approx(value), metric


OF_NO_PROJECT = {("refcoco", "per-mille"), ("refcoco", "padded")}
SAME_CODE = {("nocaps", "vlmevalkit"), ("flickr30k", "vlmevalkit")}
"""Scored by the function that is held to its original for coco-caption."""


def test_every_variant_that_bears_a_projects_name_is_held_to_that_project() -> None:
    held = {(kept["benchmark"], kept["variant"]) for kept in (json.loads(path.read_bytes()) for path in ORIGINALS)}
    named = {(bench.name, way) for bench in benchmarks.TABLE.values() for way in bench.variants if way != OFFICIAL}
    assert named - held == OF_NO_PROJECT | SAME_CODE
