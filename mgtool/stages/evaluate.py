"""Answers and targets -> scores, metrics with their uncertainty, counts."""

from __future__ import annotations

from collections.abc import Sequence

from mgtool.evaluation.pipeline import Evaluation, count, join, score, summarize
from mgtool.scoring.benchmark import Benchmark, Item, Judge
from mgtool.scoring.predictions import Answers


def evaluate(
    benchmark: Benchmark,
    items: Sequence[Item],
    answers: Answers,
    *,
    variant: str,
    only_answered: bool = False,
    judge: Judge | None = None,
) -> Evaluation:
    """Score a run.

    Args:
        benchmark: prompt, score and metrics.
        items: its questions, of `Benchmark.load`.
        answers: what the run said.
        variant: one of the benchmark's `variants`.
        only_answered: leave items without an answer out instead of counting them as wrong.
        judge: who is asked, for benchmarks that need or can use one.
    """
    joined = join(benchmark, items, answers)
    pairs = [pair for pair in joined.pairs if pair[1] is not None] if only_answered else joined.pairs
    scores = score(benchmark, pairs, joined.failed, variant, judge)
    counts = count(joined, answers)
    result = summarize(benchmark, scores, counts, variant, only_answered=only_answered)
    unreadable = [failure for failure in answers.failures if failure.stage == "eval"]
    return Evaluation(result, scores, pairs, unreadable, joined.unknown)
