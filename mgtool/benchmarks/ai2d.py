"""AI2D: diagrams (Kembhavi et al., 2016; VLMEvalKit)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from mgtool.scoring.benchmark import Item, Verdict
from mgtool.scoring.ground_truth import Document, Row, listed
from mgtool.scoring.lmms_eval import LMMS_EVAL, bare
from mgtool.scoring.multiple_choice import ChoiceBenchmark, lettered

_START = re.compile(r"^\s*([A-Z])\.")


class Ai2d(ChoiceBenchmark):
    """Choices about school diagrams."""

    name = "ai2d"
    title = "AI2D"
    files = "AI2D_TEST.tsv (opencompass.openxlab.space) or the Parquet of huggingface.co/datasets/lmms-lab/ai2d"
    variants: ClassVar[Mapping[str, str]] = {
        **ChoiceBenchmark.variants,
        LMMS_EVAL: "a capital before a full stop at the start, else the whole answer has to be the letter",
    }
    breakdowns = ("category",)

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """As all choices, but in lmms-eval."""
        if variant != LMMS_EVAL:
            return super().score(item, text, variant)
        start = _START.match(text)
        said = bare(start[1] if start else text)
        return Verdict(said.upper(), float(item.target is not None and said == bare(item.target)))

    def rows(self, document: Document) -> Iterable[Row]:
        """A TSV, or Parquet whose `options` are a list and whose `answer` is a number from 0."""
        return (_row(row, place) for place, row in enumerate(document.each()))


def _row(row: Row, place: int) -> Row:
    if "options" not in row:
        return row
    options = lettered(listed(row["options"]))
    answer = str(row.get("answer"))
    letter = list(options)[int(answer)] if answer.isdigit() and int(answer) < len(options) else answer
    return {**row, **options, "answer": letter, "index": row.get("index", place)}
