"""LLaVA-Bench in the Wild (Liu et al., 2023; LLaVA `eval_gpt_review_bench.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from mgtool.records import Score
from mgtool.scoring.benchmark import Item, JudgeRequest, Verdict, by_field
from mgtool.scoring.ground_truth import Row, Truth, listed, whole
from mgtool.scoring.judged import JudgedBenchmark, rubric
from mgtool.scoring.statistics import Floats, Metric, Statistic, codes, mean_of, ratio

_SYSTEM = "You are a helpful and precise assistant for checking the quality of the answer."


class LlavaBench(JudgedBenchmark):
    """The judge's score of the model against that of a reference answer written without the picture."""

    name = "llava-bench"
    title = "LLaVA-Bench (in the Wild)"
    files = (
        "the folder with questions.jsonl, context.jsonl and answers_gpt4.jsonl "
        "(huggingface.co/datasets/liuhaotian/llava-bench-in-the-wild), or LLaVABench.tsv"
    )
    metric = "mean score of the model / mean score of the reference, times 100; by kind of question"
    headline = "score"
    unread_policy = "they are left out of both means"
    breakdowns: ClassVar[tuple[str, ...]] = ("category",)

    def load(self, truth: Truth) -> list[Item]:
        """Questions, contexts and reference answers."""
        tables = [document for document in truth.files if document.suffix == ".tsv"]
        if tables:
            return [_of_row(row) for document in tables for row in document.rows()]
        named = {document.name: document.rows() for document in truth.files if document.suffix == ".jsonl"}
        parts = [_only(named, word) for word in ("question", "context", "gpt4")]
        if not all(parts):
            raise truth.mismatch("a folder with questions.jsonl, context.jsonl and answers_gpt4.jsonl")
        contexts = {row["image"]: row["caption"] for row in parts[1]}
        references = {str(row["question_id"]): row["text"] for row in parts[2]}
        return [_item(row, contexts[row["image"]], references[str(row["question_id"])]) for row in parts[0]]

    def request(self, item: Item, text: str, attempt: int) -> JudgeRequest:
        """The original's prompt; the reference comes first."""
        asked = (
            f"[Context]\n{item.fields['context']}\n\n"
            f"[Question]\n{item.question}\n\n"
            f"[Assistant 1]\n{item.target}\n\n[End of Assistant 1]\n\n"
            f"[Assistant 2]\n{text}\n\n[End of Assistant 2]\n\n"
            f"[System]\n{rubric('llava-bench')}\n\n"
        )
        return JudgeRequest(user=asked, system=_SYSTEM, temperature=0.2, max_tokens=1024)

    def read(self, item: Item, text: str, reply: str) -> Verdict | None:
        """Exactly two numbers on the first line."""
        cells = reply.split("\n")[0].replace(",", " ").split(" ")
        try:
            reference, model = (float(cell) for cell in cells)
        except ValueError:
            return None
        return Verdict(text, model / 10, {"reply": reply, "model": model, "reference": reference})

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """The quotient, and both means, times 10 as the original prints them."""
        return {"score": _relative(scores), "reference": _mean(scores, "reference"), "model": _mean(scores, "model")}

    def breakdown(self, scores: Sequence[Score], variant: str) -> dict[str, dict[str, Statistic | Metric]]:
        """The quotient of each kind of question."""
        return {"category": {value: _relative(part) for value, part in by_field(scores, "category").items()}}


def _relative(scores: Sequence[Score]) -> Statistic:
    rows, kept = _rated(scores)
    groups, ids = codes(score.group for score in kept), tuple(score.question_id for score in kept)
    return Statistic(rows, groups, lambda sums: ratio(sums[..., 0], sums[..., 1]), ids=ids)


def _mean(scores: Sequence[Score], who: str) -> Statistic:
    rows, kept = _rated(scores)
    column = 0 if who == "model" else 1
    groups, ids = [score.group for score in kept], [score.question_id for score in kept]
    return mean_of(rows[:, column].tolist(), groups, scale=10.0, ids=ids)


def _rated(scores: Sequence[Score]) -> tuple[Floats, list[Score]]:
    """(n, 2): the model's and the reference's scores; an item without an answer scores 0 for the model.

    Such an item has no rating of its reference either, and takes the mean of the others.
    """
    kept = [score for score in scores if not score.fields.get("unread")]
    known = [score.fields["reference"] for score in kept if "reference" in score.fields]
    usual = float(np.mean(known)) if known else 0.0
    pairs = [(score.fields.get("model", 0.0), score.fields.get("reference", usual)) for score in kept]
    return np.array(pairs, dtype=np.float64).reshape(-1, 2), kept


def _only(named: dict[str, list[Row]], word: str) -> list[Row]:
    found = [rows for name, rows in sorted(named.items()) if word in name]
    return found[0] if found else []


def _item(row: Row, context: Any, reference: str) -> Item:
    return Item(
        id=whole(row["question_id"]),
        question=str(row["text"]),
        target=reference,
        image=str(row["image"]),
        group=str(row["image"]),
        fields={"category": row["category"], "context": "\n".join(listed(context))},
    )


def _of_row(row: Row) -> Item:
    return Item(
        id=whole(row["index"]),
        question=str(row["question"]),
        target=str(row["gpt4_ans"]),
        image=str(row.get("image_path", row["index"])),
        group=str(row.get("image_path", "")),
        fields={"category": row["category"], "context": "\n".join(listed(row["caption"]))},
    )
