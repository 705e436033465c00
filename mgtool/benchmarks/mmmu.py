"""MMMU (Yue et al., 2024; as VLMEvalKit scores it)."""

from __future__ import annotations

import re
import string

from mgtool.records import Sample
from mgtool.scoring.benchmark import LETTER, SINGLE_WORD, question_of, with_suffix
from mgtool.scoring.ground_truth import Document, Row, first, listed
from mgtool.scoring.multiple_choice import ChoiceBenchmark, choice_prompt, lettered, options_of, table_rows

SPLITS = ("dev", "validation", "test")
HIDDEN = "?"
"""The answer of a question whose answer is not public."""


class Mmmu(ChoiceBenchmark):
    """College questions; an open one becomes a choice between its answer and any other."""

    name = "mmmu"
    title = "MMMU"
    files = "MMMU_DEV_VAL.tsv (opencompass.openxlab.space) or the Parquet files of huggingface.co/datasets/MMMU/MMMU"
    breakdowns = ("category", "l2-category")

    def prompt(self, sample: Sample) -> str:
        """As for all choices; an open question asks for a word."""
        if options_of(sample.metadata) or sample.metadata.get("choices"):
            return choice_prompt(sample)
        question = question_of(sample)
        return question if LETTER in question else with_suffix(question, SINGLE_WORD)

    def rows(self, document: Document) -> list[Row]:
        """A TSV or Parquet, open questions turned into choices; a Parquet's split is in the ids, or in its name."""
        rows = [_closed(row) for row in table_rows(document)]
        return [{"split": _split(str(row["index"])) or _split(document.stem), **row} for row in rows]

    def selected(self, rows: list[Row], split: str) -> list[Row]:
        """The validation split, unless another is asked for."""
        wanted = split or "validation"
        named = [row for row in rows if row.get("split") == wanted]
        return named if named or split else rows


def _split(name: str) -> str:
    return next((split for split in SPLITS if re.match(rf"{split}[_-]", name)), "")


def _closed(row: Row) -> Row:
    options = options_of(row) or lettered(listed(row["options"]) if row.get("options") not in (None, "[]") else [])
    answer = str(row.get("answer", ""))
    if answer == HIDDEN:
        letter = None
    else:
        options = options or {"A": answer, "B": "Other Answers"}
        letter = answer if len(answer) == 1 and answer in string.ascii_uppercase else "A"
    index = first(row, ("index", "id"))
    category = first(row, ("category", "subfield"), str(index).split("_")[1] if str(index).count("_") > 1 else "")
    return {**row, **options, "answer": letter, "index": index, "category": category}
