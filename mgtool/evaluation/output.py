"""What an evaluation leaves on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mgtool.errors import UsageError
from mgtool.evaluation.comparison import Comparison
from mgtool.evaluation.pipeline import ScoredRun
from mgtool.files.atomic import write_bytes, write_lines
from mgtool.records import dumps
from mgtool.runs.run_file import FAILURES_FILE
from mgtool.scoring.benchmark import Benchmark, Pair
from mgtool.scoring.predictions import recorded

PAGE_FILE = "report.html"


def save(out: Path, run: ScoredRun, comparison: Comparison | None = None) -> None:
    """Write scores.json, scores.jsonl, failures.jsonl (what a run left there stays) and, after one, comparison.json.

    Raises:
        OutputError: when the folder cannot be written.
    """
    write_bytes(out / "scores.json", dumps(run.result) + b"\n")
    write_lines(out / "scores.jsonl", run.scores)
    failures = out / FAILURES_FILE
    others = recorded(failures) if failures.is_file() else []
    write_lines(failures, [*others, *run.failures])
    if comparison is not None:
        write_bytes(out / "comparison.json", dumps(comparison) + b"\n")


def save_submission(out: Path, benchmark: Benchmark, pairs: Sequence[Pair], split: str) -> None:
    """Write the file for the benchmark's test server; errors as of `save`.

    Raises:
        UsageError: for a benchmark without a test server.
    """
    file = benchmark.submission(pairs, split)
    if file is None:
        raise UsageError("submission", f": {benchmark.name} has no test server")
    write_bytes(out / file.name, file.data)
