"""MathVista (Lu et al., 2024; `extract_answer.py`, `calculate_score.py`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from mgtool.records import Sample
from mgtool.scoring.benchmark import OFFICIAL, Benchmark, Item, Judge, JudgeRequest, Pair, Verdict
from mgtool.scoring.ground_truth import Document, Row, Truth, first, listed
from mgtool.scoring.judged import UNREAD, JudgedBenchmark, rubric
from mgtool.scoring.multiple_choice import inferred, lettered

MULTIPLE_CHOICE = "multi_choice"
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
    variants: ClassVar[Mapping[str, str]] = {
        "official": "rules, else a judge, take the answer out of the response; the form has to be that of the target",
        "vlmevalkit": "choices by its letter rules, a judge with its own prompt; numbers as numbers, lists never right",
        "lmms-eval": "as the official one, but white space around an answer does not count",
    }
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

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> Iterable[Verdict]:
        """By rule where the rules suffice; the rest by the judge, if there is one.

        The original's quick rule (`The answer is "..."`) is off unless asked for; here it stands in for a judge.
        """
        if variant != OFFICIAL:
            return _OTHERS[variant].grade(pairs, OFFICIAL, judge)
        if judge is None:
            return Benchmark.grade(self, pairs, variant)
        verdicts = [self.missing(item) if answer is None else self.ruled(item, answer.text) for item, answer in pairs]
        open_places = [place for place, verdict in enumerate(verdicts) if verdict is UNREAD]
        asked = super().grade([pairs[place] for place in open_places], variant, judge)
        for place, verdict in zip(open_places, asked, strict=True):
            verdicts[place] = verdict
        return verdicts

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """What the rules find in a response."""
        verdict = self.ruled(item, text)
        sentence = _SENTENCE.search(text) if verdict is UNREAD else None
        return self.compared(item, sentence[1]) if sentence else verdict

    def ruled(self, item: Item, text: str) -> Verdict:
        """What the rules find that are always on; `UNREAD` where they find nothing."""
        extracted = _by_rule(item, text)
        return UNREAD if extracted is None else self.compared(item, extracted)

    def compared(self, item: Item, extracted: str, more: dict[str, Any] | None = None) -> Verdict:
        """The extracted answer, in the form of the target, against the target."""
        said = _normalized(item, extracted)
        return Verdict(said, float(said is not None and said == item.target), more or {})

    def request(self, item: Item, text: str, attempt: int) -> JudgeRequest:
        """The original's examples, and this response."""
        return JudgeRequest(
            max_tokens=256, user=f"{rubric('mathvista')}\n\n{item.question}\n\n{text}\n\nExtracted answer: "
        )

    def read(self, item: Item, text: str, reply: str) -> Verdict | None:
        """The extracted answer, stripped as the original's model class does."""
        return self.compared(item, reply.strip(), {"reply": reply}) if reply.strip() else None

    unread_policy = "they count as wrong (the rules find nothing in them; a judge could: `judge`)"


class _LmmsEval(MathVista):
    """lmms-eval's way: its copy of the original, with white space around answers and targets cut off."""

    def ruled(self, item: Item, text: str) -> Verdict:
        return super().ruled(item, text.strip())

    def compared(self, item: Item, extracted: str, more: dict[str, Any] | None = None) -> Verdict:
        said = _normalized(item, extracted)
        return Verdict(said, float(said is not None and said.strip() == str(item.target).strip()), more or {})

    def request(self, item: Item, text: str, attempt: int) -> JudgeRequest:
        return super().request(item, text.strip(), attempt)


class _VlmEvalKit(MathVista):
    """VLMEvalKit's way: a choice by its rules for letters, a number where it is equal as one, nothing else."""

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        return self.ruled(item, text)

    def ruled(self, item: Item, text: str) -> Verdict:
        """A choice that was read, or a right number; the original asks the judge about all others, and about zeros."""
        verdict = self.compared(item, text)
        is_choice = item.fields["question_type"] == MULTIPLE_CHOICE
        is_done = verdict.extracted is not None if is_choice else verdict.score and verdict.extracted != 0
        return verdict if is_done else UNREAD

    def compared(self, item: Item, extracted: str, more: dict[str, Any] | None = None) -> Verdict:
        if item.fields["question_type"] == MULTIPLE_CHOICE:
            options = lettered(item.fields["choices"])
            letter = next((letter for letter, text in options.items() if text == item.target), None)
            read: str | float | None = inferred(extracted, options)
            return Verdict(read, float(read is not None and read == letter), more or {})
        convert = {"integer": int, "float": float}.get(item.fields["answer_type"])
        if convert is None:
            return Verdict(None, 0.0, more or {})
        try:
            read = convert(extracted)
            return Verdict(read, float(read == convert(item.target)), more or {})
        except ValueError:
            return Verdict(None, 0.0, more or {})

    def request(self, item: Item, text: str, attempt: int) -> JudgeRequest:
        asked = f"{rubric('mathvista-vlmevalkit')}{item.question}\nModel respone: {text}Extracted answer:"
        return JudgeRequest(user=asked, max_tokens=128)

    def read(self, item: Item, text: str, reply: str) -> Verdict | None:
        return self.compared(item, reply, {"reply": reply})


_OTHERS: dict[str, MathVista] = {"vlmevalkit": _VlmEvalKit(), "lmms-eval": _LmmsEval()}


def _by_rule(item: Item, text: str) -> str | None:
    choices, kind = item.fields.get("choices") or [], item.fields["answer_type"]
    if not text or (item.fields["question_type"] == MULTIPLE_CHOICE and text in choices):
        return text
    try:
        if kind == "integer":
            return str(int(text))
        if kind == "float":
            return str(float(text))
    except ValueError:
        pass
    return None


def _normalized(item: Item, extracted: str) -> str | None:
    """The extracted answer in the form of the target; None where it has no such form."""
    if item.fields["question_type"] == MULTIPLE_CHOICE:
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
