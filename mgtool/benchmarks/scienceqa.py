"""ScienceQA (Lu et al., 2022; LLaVA `eval_science_qa.py`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import msgspec

from mgtool.errors import InputError
from mgtool.records import Sample, Score
from mgtool.scoring.benchmark import Benchmark, Item, Judge, Pair, Verdict, kept_items, mean_score
from mgtool.scoring.ground_truth import Document, Row, Truth, whole
from mgtool.scoring.multiple_choice import (
    CHOICE_VARIANTS,
    as_pandas_reads,
    choice_prompt,
    first_letters,
    inferred,
    lettered,
    missing_options,
    options_of,
    picture_of,
    vlmevalkit_prompt,
)
from mgtool.scoring.score_file import where
from mgtool.scoring.statistics import Metric, Statistic

OPTIONS = "ABCDE"
_SUBJECTS = {"natural science": "NAT", "social science": "SOC", "language science": "LAN"}
_SENTENCE = re.compile(r"The answer is ([A-Z]).")


class _ScienceQaProblem(msgspec.Struct):
    question: str
    choices: list[str]
    answer: int
    hint: str = ""
    image: str | None = None
    grade: str = ""
    subject: str = ""
    split: str = ""


class ScienceQa(Benchmark):
    """Choices from school science; some of the questions have a picture."""

    name = "scienceqa"
    title = "ScienceQA"
    files = "problems.json and pid_splits.json (github.com/lupantech/ScienceQA), or ScienceQA_TEST.tsv"
    metric = "accuracy, and of the questions with a picture; by subject, context, grade"
    variants: ClassVar[Mapping[str, str]] = {
        "official": "LLaVA's reading: a letter alone, before a full stop, or in `The answer is X.`",
        **CHOICE_VARIANTS,
        "lmms-eval": "a letter of either case alone, or a capital before a full stop",
    }
    breakdowns = ("subject", "context", "grade")

    def prompt(self, sample: Sample) -> str:
        """Hint, question, options, and the request for the letter."""
        return choice_prompt(sample)

    def prompt_as(self, sample: Sample, prompts: str) -> str:
        """As `prompt`, or with the names that VLMEvalKit gives its parts."""
        return vlmevalkit_prompt(sample) if prompts == "vlmevalkit" else self.prompt(sample)

    def load(self, truth: Truth) -> Sequence[Item]:
        """The test problems, unless another split is asked for."""
        split = truth.split or "test"
        documents = {document.name: document for document in truth.files}
        for document in documents.values():
            if document.suffix == ".tsv":
                return kept_items(map(_item_of_row, document.each()))
        problems = _problems(documents)
        if not problems:
            raise truth.mismatch("problems.json with question, choices, answer of each problem")
        splits = documents.get("pid_splits.json")
        chosen = splits.json(dict[str, list[str]]) if splits else {}
        if splits and split not in chosen:
            raise InputError(f"{splits.path}: no split {split}; there are {', '.join(chosen)}")
        numbers = chosen.get(split) or [n for n, p in problems.items() if p.split in ("", split)]
        return [_item(number, problems[number]) for number in numbers]

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> Iterable[Verdict]:
        """Each answer; where prompts show which questions had a picture, they decide."""
        shown = any(answer is not None and "<image>" in answer.prompt for _, answer in pairs)
        verdicts = super().grade(pairs, variant)
        if not shown:
            return verdicts
        return (
            verdict._replace(fields={"with_image": "<image>" in answer.prompt}) if answer else verdict
            for verdict, (_, answer) in zip(verdicts, pairs, strict=True)
        )

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """The letter that was read, among the question's own choices."""
        options = item.fields["options"]
        if variant == "vlmevalkit":
            read = inferred(text, as_pandas_reads(options))
        else:
            read = _READERS[variant](text)
            read = read if read in options or variant == "mg-llava" else None
        return Verdict(read, float(read == item.target))

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """Accuracy over all questions and over those with a picture."""
        pictured = where(scores, lambda score: score.fields["with_image"])
        return {"accuracy": mean_score(scores), "image_accuracy": mean_score(pictured, selected=True)}

    def notes(self, scores: Sequence[Score], variant: str) -> list[str]:
        """Which options are none."""
        if variant != "vlmevalkit":
            return missing_options((score, score.fields["options"]) for score in scores)
        return missing_options((score, as_pandas_reads(score.fields["options"])) for score in scores)


def _official(text: str) -> str | None:
    if len(text) == 1 and text in OPTIONS:
        return text
    if len(text) >= 3 and text[0] in OPTIONS and text[1:3] == ". ":
        return text[0]
    found = _SENTENCE.findall(text)
    return found[0] if len(found) == 1 else None


def _lmms_eval(text: str) -> str | None:
    """A letter of either case alone, or a capital before a full stop."""
    said = text.strip()
    if len(said) == 1:
        return said.upper()
    return said[0] if len(said) > 1 and said[0].isupper() and said[1] == "." else None


_READERS = {"official": _official, "mg-llava": first_letters, "lmms-eval": _lmms_eval}


def _problems(documents: dict[str, Document]) -> dict[str, _ScienceQaProblem]:
    named = sorted(documents.items(), key=lambda entry: entry[0] != "problems.json")
    for name, document in named:
        if document.suffix == ".json" and name != "pid_splits.json" and document.keys:
            return document.json(dict[str, _ScienceQaProblem])
    return {}


def _item(number: str, problem: _ScienceQaProblem) -> Item:
    options = lettered(problem.choices)
    context = [*(["TXT"] if problem.hint else []), *(["IMG"] if problem.image else [])] or ["NO"]
    fields = {
        "options": options,
        "with_image": bool(problem.image),
        "subject": _SUBJECTS.get(problem.subject, problem.subject),
        "context": context,
        "grade": _grades(problem.grade),
    }
    image = f"{number}/{problem.image}" if problem.image else ""
    target = list(options)[problem.answer]
    return Item(id=whole(number), question=problem.question, target=target, image=image, group=number, fields=fields)


def _item_of_row(row: Row) -> Item:
    context = [*(["TXT"] if row.get("hint") else []), "IMG"]
    fields = {"options": options_of(row), "with_image": True, "context": context}
    fields |= {"subject": row["category"]} if row.get("category") else {}
    image = picture_of(row, ("image_path", "image"))
    return Item(id=whole(row["index"]), question=row["question"], target=row["answer"], image=image, fields=fields)


def _grades(grade: str) -> str:
    number = grade.removeprefix("grade")
    return ("G1-6" if int(number) <= 6 else "G7-12") if number.isdigit() else grade
