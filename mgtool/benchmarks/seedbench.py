"""SEED-Bench, the questions about pictures (Li et al., 2023)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import msgspec

from mgtool.scoring.benchmark import OFFICIAL, Item, Verdict
from mgtool.scoring.ground_truth import Document, Row
from mgtool.scoring.multiple_choice import VLMEVALKIT, ChoiceBenchmark


class SeedBench(ChoiceBenchmark):
    """Choices about pictures; `--split video` takes those about videos."""

    name = "seedbench"
    title = "SEED-Bench (image)"
    files = "SEED-Bench.json (huggingface.co/datasets/AILab-CVC/SEED-Bench) or SEEDBench_IMG.tsv"
    variants: ClassVar[Mapping[str, str]] = {
        **{name: ChoiceBenchmark.variants[name] for name in (OFFICIAL, VLMEVALKIT)},
        "llava": "the whole answer has to be the letter",
        "lmms-eval": "the first character, of either case",
        "mg-llava": ChoiceBenchmark.variants["mg-llava"],
    }
    breakdowns = ("category",)

    def rows(self, document: Document) -> Iterable[Row]:
        """The official JSON's questions with the names of their types, or a TSV."""
        if "questions" not in document.keys:
            return document.each() if document.suffix == ".tsv" else ()
        types = document.part("question_type", dict[str, int]) if "question_type" in document.keys else {}
        names = {number: name for name, number in types.items()}
        return (_row(question, names) for question in document.part("questions", list[Row]))

    def selected(self, rows: Iterable[Row], split: str) -> Iterable[Row]:
        """Pictures, unless videos are asked for."""
        return (row for row in rows if row.get("split", "image") == (split or "image"))

    def item(self, row: Row) -> Item:
        """One question."""
        item = super().item(row)
        return msgspec.structs.replace(item, target=item.target.upper() if item.target else None)

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """As all choices; lmms-eval takes the first character, of either case, and LLaVA the whole answer."""
        if variant == "llava":
            return Verdict(text, float(text == item.target))
        if variant != "lmms-eval":
            return super().score(item, text, variant)
        read = text.strip()[:1].upper()
        return Verdict(read or None, float(bool(read) and read == item.target))


def _row(question: Row, names: dict[int, str]) -> Row:
    options = {letter.upper(): question[f"choice_{letter}"] for letter in "abcd" if question.get(f"choice_{letter}")}
    kind = question.get("question_type_id")
    return {
        **options,
        "index": question["question_id"],
        "question": question["question"],
        "answer": question.get("answer"),
        "category": names.get(kind or 0, str(kind)),
        "split": question.get("data_type", "image"),
        "image_path": question.get("data_id"),
    }
