"""MathVista (Lu et al., 2024; `extract_answer.py`, `calculate_score.py`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from mgtool.records import Sample
from mgtool.scoring.benchmark import Benchmark, Item, Judge, JudgeRequest, Pair, Verdict
from mgtool.scoring.ground_truth import Document, Row, Truth, first, listed
from mgtool.scoring.judged import UNREAD, JudgedBenchmark, rubric
from mgtool.scoring.multiple_choice import lettered

_SENTENCE = re.compile(r'The answer is "(.*)"\.')


class _MathVistaProblem(msgspec.Struct):
    question: str
    answer: str = ""
    question_type: str = "free_form"
    answer_type: str = "text"
    choices: list[str] | None = None
    precision: float | None = None
    query: str = ""
    image: str = ""
    metadata: dict[str, Any] = {}


class MathVista(JudgedBenchmark):
    """An answer is taken out of the response, by rule or by a judge, brought into the expected form, and compared."""

    name = "mathvista"
    title = "MathVista"
    files = "testmini.json (github.com/lupantech/MathVista), or MathVista_MINI.tsv"
    judge = "optional"
    metric = "accuracy, by task, context, skill, kind of question"
    breakdowns: ClassVar[tuple[str, ...]] = (
        "task",
        "context",
        "grade",
        "category",
        "skills",
        "question_type",
        "answer_type",
    )

    def prompt(self, sample: Sample) -> str:
        """The published query, where the question file has it; else the question."""
        return str(sample.metadata.get("query") or super().prompt(sample))

    def load(self, truth: Truth) -> list[Item]:
        """The official object of problems, or a TSV."""
        items = [item for document in truth.files for item in _items(document)]
        if not items:
            raise truth.mismatch(
                "MathVista's JSON: an object of problems with `question_type`, `answer_type`, `answer`"
            )
        return items

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> list[Verdict]:
        """By rule where the rules suffice; the rest by the judge, if there is one.

        The original's quick rule (`The answer is "..."`) is off unless asked for; here it stands in for a judge.
        """
        if judge is None:
            return Benchmark.grade(self, pairs, variant)
        found = [_by_rule(item, answer.text) if answer else "" for item, answer in pairs]
        verdicts = [
            _compared(item, text or "") if answer else self.missing(item)
            for (item, answer), text in zip(pairs, found, strict=True)
        ]
        open_places = [place for place, text in enumerate(found) if text is None]
        asked = super().grade([pairs[place] for place in open_places], variant, judge)
        for place, verdict in zip(open_places, asked, strict=True):
            verdicts[place] = verdict
        return verdicts

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """What the rules find in a response."""
        extracted = _by_rule(item, text)
        if extracted is None:
            sentence = _SENTENCE.search(text)
            extracted = sentence[1] if sentence else None
        return UNREAD if extracted is None else _compared(item, extracted)

    def request(self, item: Item, text: str, attempt: int) -> JudgeRequest:
        """The original's examples, and this response."""
        return JudgeRequest(
            max_tokens=256, user=f"{rubric('mathvista')}\n\n{item.question}\n\n{text}\n\nExtracted answer: "
        )

    def read(self, item: Item, text: str, reply: str) -> Verdict | None:
        """The extracted answer, stripped as the original's model class does."""
        return _compared(item, reply.strip(), {"reply": reply}) if reply.strip() else None

    unread_policy = "they count as wrong (the rules find nothing in them; a judge could: `judge`)"


def _by_rule(item: Item, text: str) -> str | None:
    choices, kind = item.fields.get("choices") or [], item.fields["answer_type"]
    if not text or (item.fields["question_type"] == "multi_choice" and text in choices):
        return text
    try:
        if kind == "integer":
            return str(int(text))
        if kind == "float":
            return str(float(text))
    except ValueError:
        pass
    return None


def _compared(item: Item, extracted: str, more: dict[str, Any] | None = None) -> Verdict:
    said = _normalized(item, extracted)
    return Verdict(said, float(said is not None and said == item.target), more or {})


def _normalized(item: Item, extracted: str) -> str | None:
    """The extracted answer in the form of the target; None where it has no such form."""
    if item.fields["question_type"] == "multi_choice":
        return _chosen(extracted.strip(), item.fields["choices"])
    try:
        if item.fields["answer_type"] == "integer":
            return str(int(float(extracted)))
        if item.fields["answer_type"] == "float":
            return str(round(float(extracted), int(item.fields["precision"])))
    except (ValueError, OverflowError, KeyError):
        return None
    return extracted


def _chosen(extracted: str, choices: Sequence[str]) -> str:
    """The choice of a letter, else the one nearest in edit distance."""
    from rapidfuzz.distance import Levenshtein

    letter = re.findall(r"\(([a-zA-Z])\)", extracted)
    named = letter[0].upper() if letter else extracted
    by_letter = lettered(choices)
    return by_letter.get(named) or min(choices, key=lambda choice: Levenshtein.distance(named, choice))


def _items(document: Document) -> list[Item]:
    if document.suffix == ".tsv":
        return [_item(str(row["index"]), _of_row(row)) for row in document.rows()]
    problems = document.json(dict[str, _MathVistaProblem]) if document.keys else {}
    return [_item(number, problem) for number, problem in problems.items()]


def _of_row(row: Row) -> _MathVistaProblem:
    names = ("task", "context", "grade", "category", "skills")
    return _MathVistaProblem(
        question=str(row["question"]),
        answer=str(first(row, ("answer",), "")),
        question_type=str(first(row, ("question_type",), "free_form")),
        answer_type=str(first(row, ("answer_type",), "text")),
        choices=listed(row["choices"]) if row.get("choices") not in (None, "[]") else None,
        precision=float(row["precision"]) if row.get("precision") else None,
        metadata={name: listed(row[name]) if name == "skills" else row[name] for name in names if row.get(name)},
    )


def _item(number: str, problem: _MathVistaProblem) -> Item:
    known = {
        "question_type": problem.question_type,
        "answer_type": problem.answer_type,
        "choices": problem.choices,
        "precision": problem.precision,
        **{name: problem.metadata.get(name) for name in ("task", "context", "grade", "category", "skills")},
    }
    return Item(
        id=number,
        question=problem.query or problem.question,
        target=problem.answer,
        image=problem.image,
        group=problem.image,
        fields={name: value for name, value in known.items() if value is not None},
    )
