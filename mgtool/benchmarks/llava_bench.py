"""LLaVA-Bench in the Wild (Liu et al., 2023; LLaVA `eval_gpt_review_bench.py`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np

from mgtool.records import Score
from mgtool.scoring.benchmark import OFFICIAL, Item, Judge, JudgeRequest, Pair, Verdict, by_field
from mgtool.scoring.clusters import Floats, codes, ratio
from mgtool.scoring.ground_truth import Row, Truth, listed, whole
from mgtool.scoring.judged import JudgedBenchmark, rubric, unread_notes
from mgtool.scoring.lmms_eval import LMMS_EVAL
from mgtool.scoring.statistics import Metric, Statistic, mean_of

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_LOST = {"model": -1.0, "reference": -1.0}
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
    variants: ClassVar[Mapping[str, str]] = {
        OFFICIAL: "the first line of a reply is two numbers; another reply counts as -1 in both means",
        "vlmevalkit": "as the official one; a call without a reply counts as -1, too",
        LMMS_EVAL: "the first two numbers of the first line, else -1 twice; the means are rounded to three digits, the "
        "score to one",
    }
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

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> Iterable[Verdict]:
        """As the judge rates, asked and read in the way of the variant."""
        if variant == LMMS_EVAL:
            return _LmmsEval().grade(pairs, OFFICIAL, judge)
        return super().grade(pairs, variant, judge)

    def request(self, item: Item, text: str, attempt: int) -> JudgeRequest:
        """The original's prompt; the reference comes first."""
        return JudgeRequest(user=self.asked(item, text), system=_SYSTEM, temperature=0.2, max_tokens=1024)

    def asked(self, item: Item, text: str) -> str:
        """What the judge reads."""
        return (
            f"[Context]\n{item.fields['context']}\n\n"
            f"[Question]\n{item.question}\n\n"
            f"[Assistant 1]\n{item.target}\n\n[End of Assistant 1]\n\n"
            f"[Assistant 2]\n{text}\n\n[End of Assistant 2]\n\n"
            f"[System]\n{rubric('llava-bench')}\n\n"
        )

    def read(self, item: Item, text: str, reply: str) -> Verdict | None:
        """Exactly two numbers on the first line, else -1 twice, as all scripts have it."""
        try:
            reference, model = (float(cell) for cell in self.cells(reply.split("\n")[0].replace(",", " ")))
        except ValueError:
            return Verdict(None, 0.0, {"reply": reply, "unread": True, **_LOST})
        return Verdict(text, model / 10, {"reply": reply, "model": model, "reference": reference})

    def cells(self, line: str) -> list[str]:
        """What should be the two numbers in a line."""
        return line.split(" ")

    def notes(self, scores: Sequence[Score], variant: str) -> list[str]:
        """How many replies could not be read."""
        silent = ", but are left out where there is no reply at all" if variant == OFFICIAL else ""
        return unread_notes(scores, f"they count as -1 in both means{silent}")

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """The quotient, and both means, times 10 as the original prints them."""
        kept = _kept(scores, variant)
        return {"score": _relative(kept, variant), "reference": _mean(kept, 1), "model": _mean(kept, 0)}

    def breakdown(self, scores: Sequence[Score], variant: str) -> dict[str, dict[str, Statistic | Metric]]:
        """The quotient of each kind of question."""
        kinds = by_field(scores, "category").items()
        return {"category": {value: _relative(_kept(part, variant), variant) for value, part in kinds}}


class _LmmsEval(LlavaBench):
    """lmms-eval's way."""

    def request(self, item: Item, text: str, attempt: int) -> JudgeRequest:
        return JudgeRequest(user=self.asked(item, text))

    def cells(self, line: str) -> list[str]:
        return _NUMBER.findall(line.replace(";", " "))[:2]


def _kept(scores: Sequence[Score], variant: str) -> list[Score]:
    """The answers that count: officially not those without a reply, which elsewhere have -1 twice."""
    if variant == OFFICIAL:
        return [score for score in scores if "model" in score.fields or not score.fields.get("unread")]
    return [
        msgspec.structs.replace(score, fields={**score.fields, **_LOST}) if score.fields.get("unread") else score
        for score in scores
    ]


def _relative(scores: Sequence[Score], variant: str) -> Statistic:
    rows = _rated(scores)
    groups, ids = codes(score.group for score in scores), tuple(score.question_id for score in scores)
    return Statistic(rows, groups, _rounded if variant == LMMS_EVAL else _quotient, ids=ids)


def _quotient(sums: Floats) -> Floats:
    return ratio(sums[..., 0], sums[..., 1])


def _rounded(sums: Floats) -> Floats:
    """Of means that are rounded before they are divided."""
    model, reference = (np.round(ratio(sums[..., column], sums[..., 2]), 3) for column in (0, 1))
    return np.asarray(np.round(100 * ratio(model, reference), 1) / 100)


def _mean(scores: Sequence[Score], column: int) -> Statistic:
    groups, ids = [score.group for score in scores], [score.question_id for score in scores]
    return mean_of(_rated(scores)[:, column].tolist(), groups, scale=10.0, ids=ids)


def _rated(scores: Sequence[Score]) -> Floats:
    """(n, 3): the model's and the reference's scores, and 1; an item without an answer scores 0 for the model.

    Such an item has no rating of its reference either, and takes the mean of the others.
    """
    known = [score.fields["reference"] for score in scores if "reference" in score.fields]
    usual = float(np.mean(known)) if known else 0.0
    rows = [(score.fields.get("model", 0.0), score.fields.get("reference", usual), 1.0) for score in scores]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


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
