"""What an evaluation leaves on disk."""

from __future__ import annotations

from pathlib import Path

from mgtool.evaluation.comparison import Comparison
from mgtool.evaluation.pipeline import Evaluation
from mgtool.files.atomic import write_bytes, write_lines
from mgtool.records import dumps
from mgtool.runs.run_file import FAILURES_FILE
from mgtool.scoring.predictions import recorded


def save(out: Path, evaluation: Evaluation, comparison: Comparison | None = None) -> None:
    """Write scores.json, scores.jsonl, failures.jsonl (what a run left there stays) and, after one, comparison.json.

    Raises:
        OutputError: when the folder cannot be written.
    """
    write_bytes(out / "scores.json", dumps(evaluation.result) + b"\n")
    write_lines(out / "scores.jsonl", evaluation.scores)
    failures = out / FAILURES_FILE
    others = recorded(failures) if failures.is_file() else []
    write_lines(failures, [*others, *evaluation.failures])
    if comparison is not None:
        write_bytes(out / "comparison.json", dumps(comparison) + b"\n")
