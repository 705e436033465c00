"""What the choice of a variant changes, item by item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mgtool.evaluation.joining import join
from mgtool.records import SampleId
from mgtool.scoring.benchmark import Benchmark, Item, Judge
from mgtool.scoring.predictions import Answers


class VariantScores(msgspec.Struct, frozen=True, kw_only=True):
    """An answered item whose score is not the same in every variant.

    Attributes:
        question_id: the item.
        scores: its score, by variant.
        extracted: what was read in the answer, by variant.
        prediction: the answer.
        target: what was expected.
    """

    question_id: SampleId
    scores: dict[str, float]
    extracted: dict[str, Any]
    prediction: str
    target: Any


def explain_variants(
    benchmark: Benchmark,
    items: Sequence[Item],
    answers: Answers,
    judge: Judge | None = None,
    *,
    trust_ids: bool = False,
) -> list[VariantScores]:
    """The answered items whose score is not the same in every variant, with all their scores."""
    pairs = [pair for pair in join(benchmark, items, answers, trust_ids=trust_ids).pairs if pair[1] is not None]
    verdicts = {variant: list(benchmark.grade(pairs, variant, judge)) for variant in benchmark.variants}
    own = ({variant: each[place] for variant, each in verdicts.items()} for place in range(len(pairs)))
    return [
        VariantScores(
            question_id=item.id,
            scores={variant: verdict.score for variant, verdict in read.items()},
            extracted={variant: verdict.extracted for variant, verdict in read.items()},
            prediction=answer.text,
            target=item.target,
        )
        for (item, answer), read in zip(pairs, own, strict=True)
        if answer is not None and len({verdict.score for verdict in read.values()}) > 1
    ]
