"""Scoring hand-made files in one call."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mgtool import benchmarks
from mgtool.evaluation import pipeline
from mgtool.evaluation.pipeline import ScoredRun
from mgtool.scoring import java_metrics, predictions
from mgtool.scoring.benchmark import Judge
from mgtool.scoring.ground_truth import Truth


class Bench:
    """A benchmark with its files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, content: Any) -> Path:
        """A file: text as it is, `.jsonl` as JSON lines, `.tsv` from a list of rows, all else as JSON."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            text = content
        elif name.endswith(".jsonl"):
            text = "".join(json.dumps(line) + "\n" for line in content)
        elif name.endswith(".tsv"):
            columns = list(dict.fromkeys(column for row in content for column in row))
            lines = [columns, *([str(row.get(column, "")) for column in columns] for row in content)]
            text = "".join("\t".join(line) + "\n" for line in lines)
        else:
            text = json.dumps(content)
        path.write_text(text, encoding="utf-8")
        return path

    def score(
        self,
        name: str,
        truth: list[Path],
        answers: Any,
        *,
        questions: Path | None = None,
        split: str = "",
        variant: str = "official",
        only_answered: bool = False,
        judge: Judge | None = None,
    ) -> ScoredRun:
        """Score answers: a list of records, a mapping of ids to texts, or `Answers`."""
        benchmark = benchmarks.get(name)
        if isinstance(answers, dict):
            answers = [{"question_id": key, "text": text} for key, text in answers.items()]
        if isinstance(answers, list):
            answers = predictions.read(json.dumps(answers).encode(), where="answers.json")
        items = benchmark.load(Truth(tuple(truth), questions, split))
        return pipeline.score(benchmark, items, answers, variant=variant, only_answered=only_answered, judge=judge)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A folder for a benchmark's files, and the scorer."""
    return Bench(tmp_path)


@pytest.fixture
def value() -> Callable[[ScoredRun, str], float]:
    """A metric's value, rounded to 6 digits."""

    def read(evaluation: ScoredRun, metric: str) -> float:
        number = evaluation.result.metrics[metric].value
        assert number is not None
        return round(number, 6)

    return read


@pytest.fixture
def without_meteor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave METEOR out, whose Java needs seconds to start, where nothing is said of it."""
    monkeypatch.setattr(java_metrics, "meteor", lambda *_: float("nan"))
