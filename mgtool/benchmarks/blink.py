"""BLINK (Fu et al., 2024; the official `eval/test_benchmark.py` and `eval/evaluate.py`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from mgtool.records import Sample, Score, dumps
from mgtool.scoring.benchmark import (
    OFFICIAL,
    Item,
    Judge,
    JudgeRequest,
    Pair,
    Submission,
    Verdict,
    by_field,
    mean_of_parts,
    mean_score,
)
from mgtool.scoring.ground_truth import Document, Row, first, listed
from mgtool.scoring.instructions import question_of
from mgtool.scoring.judged import ask_until_read, rubric
from mgtool.scoring.lmms_eval import LMMS_EVAL
from mgtool.scoring.multiple_choice import (
    CHOICE_VARIANTS,
    VLMEVALKIT,
    ChoiceBenchmark,
    LetteredQuestion,
    lettered,
)
from mgtool.scoring.statistics import Metric, Statistic

LETTERS = "ABCDE"
TASK = "category"
_ALONE = {form: letter for letter in LETTERS for form in (letter, f"({letter})")}
_NUMBER = re.compile(r"^(?:val|test)_(.+)_\d+$")
_FIRST_LETTER = re.compile(r"[(\s]*([A-Z])", re.IGNORECASE)


class Blink(ChoiceBenchmark):
    """Fourteen tasks of perception."""

    name = "blink"
    title = "BLINK"
    files = "the Parquet files of huggingface.co/datasets/BLINK-Benchmark/BLINK, or BLINK.tsv"
    metric = "accuracy: the mean over the tasks"
    variants: ClassVar[Mapping[str, str]] = {
        "official": "a letter alone, or the one in brackets, else a judge; accuracy is the mean over the tasks",
        VLMEVALKIT: f"{CHOICE_VARIANTS[VLMEVALKIT]}; accuracy is over all questions together",
        LMMS_EVAL: "the first letter, even a word's; accuracy is over all questions together",
    }
    breakdowns = (TASK,)

    def prompt(self, sample: Sample) -> str:
        """The published prompt, where the question file has it; else as for all choices."""
        asked = question_of(sample)
        return asked if "(A)" in asked else str(sample.metadata.get("prompt") or super().prompt(sample))

    def rows(self, document: Document) -> Iterable[Row]:
        """Parquet, or a TSV."""
        return map(_row, document.each())

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> list[Verdict]:
        """By the letter; a judge, where there is one, finds out what the other answers choose."""
        verdicts = list(super().grade(pairs, variant, None if variant == OFFICIAL else judge))
        if judge is None or variant != OFFICIAL:
            return verdicts
        unread = [place for place, (_, answer) in enumerate(pairs) if answer and verdicts[place].extracted is None]
        cases = [(item, answer.text) for item, answer in (pairs[place] for place in unread) if answer is not None]
        for place, verdict in zip(unread, ask_until_read(judge, cases, _request, _read, 1), strict=True):
            verdicts[place] = verdict
        return verdicts

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """The letter that was read."""
        if variant == VLMEVALKIT:
            return super().score(item, text, variant)
        first_letter = _FIRST_LETTER.match(text.strip()) if variant == LMMS_EVAL else None
        if variant == LMMS_EVAL:
            read = first_letter[1].upper() if first_letter else None
        else:
            read = _official(text, item.fields["options"])
        return Verdict(read, float(read is not None and read == item.target))

    def question(self, item: Item, variant: str) -> LetteredQuestion:
        """With the judge's prompt that VLMEvalKit has for this benchmark."""
        return super().question(item, variant)._replace(rubric="blink-vlmevalkit")

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """The mean over the tasks; the frameworks take all questions together."""
        tasks = list(by_field(scores, TASK))
        return {"accuracy": mean_of_parts(scores, TASK, tasks) if variant == OFFICIAL and tasks else mean_score(scores)}

    def submission(self, pairs: Sequence[Pair], split: str) -> Submission:
        """EvalAI's form: an object of ids and letters in brackets."""
        said = {str(item.id): f"({_official(a.text, item.fields['options'])})" if a else "" for item, a in pairs}
        return Submission("test_predictions.json", dumps(said))


def _official(text: str, options: Mapping[str, str]) -> str | None:
    """A letter alone, or the one that stands in brackets among the words, of several the one of the last paragraph.

    >>> _official("B", {"A": "", "B": ""}), _official("It is (A) here", {"A": ""}), _official("A.", {"A": ""})
    ('B', 'A', None)
    """
    if text in _ALONE:
        return _ALONE[text]
    bracketed = {f"({letter})": letter for letter in options}
    named, last = (set(bracketed) & set(part.split()) for part in (text, text.split("\n\n")[-1]))
    chosen = last if len(last) == 1 else named
    return bracketed[next(iter(chosen))] if len(chosen) == 1 else None


def _request(case: tuple[Item, str], attempt: int) -> JudgeRequest:
    item, text = case
    options = "\n".join(f"({letter}) {option}" for letter, option in item.fields["options"].items())
    asked = f"{item.question}\nSelect from the following choices"
    return JudgeRequest(user=rubric("blink").format(asked, options, text))


def _read(case: tuple[Item, str], reply: str) -> Verdict | None:
    """The whole reply, as the original compares it; one that is no letter in brackets chooses nothing."""
    named = reply[1:2] if reply in {f"({letter})" for letter in LETTERS} else None
    return Verdict(named, float(named is not None and named == case[0].target), {"reply": reply})


def _row(row: Row) -> Row:
    options = lettered(listed(row["choices"])) if "choices" in row else {}
    number, answer = first(row, ("idx", "index")), str(row.get("answer") or "").strip("()")
    task = _NUMBER.match(str(number))
    kind = first(row, ("sub_task", "category"), task[1] if task else "all")
    return {**row, **options, "index": number, "category": kind, "answer": answer if answer in tuple(LETTERS) else None}
