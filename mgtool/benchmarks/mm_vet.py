"""MM-Vet (Yu et al., 2023; `mm-vet_evaluator.ipynb`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import msgspec

from mgtool.records import dumps
from mgtool.scoring.benchmark import OFFICIAL, Item, Judge, JudgeRequest, Pair, Submission, Verdict
from mgtool.scoring.ground_truth import Document, Row, Truth, first, listed, whole
from mgtool.scoring.judged import HEAT_STEP, JudgedBenchmark, rubric
from mgtool.scoring.predictions import Prediction

AGAIN = "\nPredict the correctness of the answer (digit): "


class _MmVetQuestion(msgspec.Struct):
    question: str
    answer: str
    capability: list[str] = []
    imagename: str = ""


class MmVet(JudgedBenchmark):
    """A score of 0 to 1 for each answer; a capability is the mean over the questions that need it."""

    name = "mm-vet"
    title = "MM-Vet"
    files = "mm-vet.json (github.com/yuweihao/MM-Vet), or MMVet.tsv"
    metric = "mean score, times 100; by capability and combination of capabilities"
    headline = "total"
    variants: ClassVar[Mapping[str, str]] = {
        "official": "the number before the first space of the judge's reply; asked again up to five times",
        "vlmevalkit": "its copy of the prompt, wrapped; the whole reply has to be a number; hotter each time",
        "lmms-eval": "its copy of the prompt; as the official one, up to four times, hotter from the second",
    }
    attempts = 5
    breakdowns: ClassVar[tuple[str, ...]] = ("capability", "capabilities")

    def load(self, truth: Truth) -> list[Item]:
        """The official object of `v1_0`, ..., or a TSV."""
        items = [item for document in truth.files for item in _items(document)]
        if not items:
            raise truth.mismatch("mm-vet.json: an object of `v1_0`, ..., each with `question`, `answer`, `capability`")
        return items

    def keys(self, prediction: Prediction) -> Iterable[str]:
        """The id, with and without the prefix of submissions."""
        yield str(prediction.id)
        yield f"v1_{prediction.id}"

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> Iterable[Verdict]:
        """As the judge scores, asked in the way of the variant."""
        if variant != OFFICIAL:
            return _OTHERS[variant].grade(pairs, OFFICIAL, judge)
        return super().grade(pairs, variant, judge)

    def request(self, item: Item, text: str, attempt: int) -> JudgeRequest:
        """The original's table with one row to complete; hotter at each attempt."""
        row = " | ".join((item.question, _spaced(item), text, ""))
        heat = max(0, attempt - 1) * 0.5
        return JudgeRequest(user=f"{rubric('mm-vet')}\n{row}{AGAIN if attempt else ''}", temperature=heat, max_tokens=3)

    def read(self, item: Item, text: str, reply: str) -> Verdict | None:
        """A number from 0 to 1 before the first space."""
        try:
            score = float(self.number(reply))
        except ValueError:
            return None
        return Verdict(text, score, {"reply": reply}) if 0.0 <= score <= 1.0 else None

    def number(self, reply: str) -> str:
        """What should be the number in a reply."""
        return reply.split(" ")[0].strip()

    def submission(self, pairs: Sequence[Pair], split: str) -> Submission:
        """The evaluator's form: an object of ids and answers."""
        named = {i.id if str(i.id).startswith("v1_") else f"v1_{i.id}": a.text if a else "" for i, a in pairs}
        return Submission("mm-vet.json", dumps(named))


class _VlmEvalKit(MmVet):
    """VLMEvalKit's way."""

    def request(self, item: Item, text: str, attempt: int) -> JudgeRequest:
        row = " | ".join((item.question, _spaced(item), text, ""))
        return JudgeRequest(user=rubric("mm-vet-vlmevalkit") + row, temperature=HEAT_STEP * attempt, max_tokens=3)

    def number(self, reply: str) -> str:
        return reply


class _LmmsEval(MmVet):
    """lmms-eval's way."""

    attempts = 4

    def request(self, item: Item, text: str, attempt: int) -> JudgeRequest:
        asked = f"{rubric('mm-vet-lmms-eval')}\n{item.question} | {_spaced(item)} | {text} |"
        return JudgeRequest(user=asked, temperature=HEAT_STEP * attempt, max_tokens=128)

    def number(self, reply: str) -> str:
        return super().number(reply.strip())


_OTHERS: dict[str, MmVet] = {"vlmevalkit": _VlmEvalKit(), "lmms-eval": _LmmsEval()}


def _spaced(item: Item) -> str:
    return str(item.target).replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")


def _items(document: Document) -> list[Item]:
    if document.suffix == ".tsv":
        return [_item(whole(row["index"]), _of_row(row)) for row in document.rows()]
    questions = document.json(dict[str, _MmVetQuestion]) if document.keys else {}
    return [_item(number, question) for number, question in questions.items()]


def _of_row(row: Row) -> _MmVetQuestion:
    cell = first(row, ("capability", "category"), "")
    capability = [name.strip() for one in listed(cell) for name in one.split(",") if name.strip()]
    return _MmVetQuestion(str(row["question"]), str(row["answer"]), capability, str(row.get("image_path", "")))


def _item(number: int | str, question: _MmVetQuestion) -> Item:
    return Item(
        id=number,
        question=question.question,
        target=question.answer,
        image=question.imagename,
        group=question.imagename,
        fields={"capability": question.capability, "capabilities": "_".join(sorted(question.capability))},
    )
