"""AI2D: diagrams (Kembhavi et al., 2016; VLMEvalKit)."""

from __future__ import annotations

from mgtool.scoring.ground_truth import Document, Row, listed
from mgtool.scoring.multiple_choice import ChoiceBenchmark, lettered


class Ai2d(ChoiceBenchmark):
    """Choices about school diagrams."""

    name = "ai2d"
    title = "AI2D"
    files = "AI2D_TEST.tsv (opencompass.openxlab.space) or the Parquet of huggingface.co/datasets/lmms-lab/ai2d"
    breakdowns = ("category",)

    def rows(self, document: Document) -> list[Row]:
        """A TSV, or Parquet whose `options` are a list and whose `answer` is a number from 0."""
        return [_row(row, place) for place, row in enumerate(document.rows())]


def _row(row: Row, place: int) -> Row:
    if "options" not in row:
        return row
    options = lettered(listed(row["options"]))
    answer = str(row.get("answer"))
    letter = list(options)[int(answer)] if answer.isdigit() and int(answer) < len(options) else answer
    return {**row, **options, "answer": letter, "index": row.get("index", place)}
