"""MMVP: pairs of pictures that CLIP takes for one (Tong et al., 2024; `gpt_grader.py`)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from mgtool.records import Sample, Score
from mgtool.scoring.benchmark import OFFICIAL, Benchmark, Item, Judge, JudgeRequest, Pair, Verdict, mean_score
from mgtool.scoring.ground_truth import Row, Truth, first, whole
from mgtool.scoring.instructions import LETTER, question_of, with_suffix
from mgtool.scoring.judged import JudgedBenchmark
from mgtool.scoring.lmms_eval import LMMS_EVAL
from mgtool.scoring.multiple_choice import (
    LetteredQuestion,
    as_pandas_reads,
    inferred,
    lettered,
    matched,
    options_of,
    vlmevalkit_prompt,
)
from mgtool.scoring.statistics import Metric, Statistic, mean_of

_SYSTEM = (
    "You are a helpful and precise assistant for checking the quality of the answer. Please answer in only yes or no."
)
_LETTER = r"\(?([AB])\)?"
_LETTERS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"^{_LETTER}\.?\s*$",
        rf"^{_LETTER}[.\s]",
        rf"answer\s+is\s+{_LETTER}",
        rf"option\s+{_LETTER}",
        rf"{_LETTER}(?:\s|$)",
    )
)
"""Where lmms-eval looks for a letter, in this order; the last two find it inside words, too."""


class Mmvp(JudgedBenchmark):
    """A pair counts if both of its questions are right."""

    name = "mmvp"
    title = "MMVP"
    files = "Questions.csv (huggingface.co/datasets/MMVP/MMVP), or MMVP.tsv"
    metric = "accuracy of pairs, and of single questions"
    variants: ClassVar[Mapping[str, str]] = {
        "official": "a judge says whether an answer is right",
        "vlmevalkit": "the letter by VLMEvalKit's rules, a judge where they find none",
        LMMS_EVAL: "a letter of either case: alone, first, behind `answer is` or `option`, or before a space",
    }

    def prompt(self, sample: Sample) -> str:
        """The question, its options and the request for the letter."""
        options = sample.metadata.get("Options") or sample.metadata.get("options") or ""
        return with_suffix(f"{question_of(sample)} {options}".strip(), LETTER)

    def prompt_as(self, sample: Sample, prompts: str) -> str:
        """As `prompt`, or as VLMEvalKit asks from its own table."""
        is_theirs = prompts == "vlmevalkit" and bool(options_of(sample.metadata))
        return vlmevalkit_prompt(sample) if is_theirs else self.prompt(sample)

    def load(self, truth: Truth) -> list[Item]:
        """The official CSV, or a TSV."""
        rows = [row for document in truth.files for row in document.rows() if "Question" in row or "question" in row]
        if not rows:
            raise truth.mismatch("MMVP's Questions.csv: `Index`, `Question`, `Options`, `Correct Answer`")
        return [_item(row, place) for place, row in enumerate(rows)]

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> Iterable[Verdict]:
        """The judge's; in VLMEvalKit by the letter that was named, a judge being asked where none is."""
        if variant == OFFICIAL:
            return super().grade(pairs, variant, judge)
        verdicts = Benchmark.grade(self, pairs, variant)
        return (
            verdicts
            if judge is None or variant == LMMS_EVAL
            else matched(pairs, verdicts, [_question(item) for item, _ in pairs], judge)
        )

    def asks_judge(self, variant: str) -> bool:
        """lmms-eval asks nobody."""
        return variant != LMMS_EVAL

    def request(self, item: Item, text: str, attempt: int) -> JudgeRequest:
        """The original's question."""
        asked = (
            f"Given the following question {item.question} {item.fields['options']}, the correct answer is "
            f"{item.fields['correct']}. Does the following answer correctly answers the question, answer:{text}?"
        )
        return JudgeRequest(user=asked, system=_SYSTEM, temperature=0.2)

    def read(self, item: Item, text: str, reply: str) -> Verdict | None:
        """Yes or no, alone; the original takes nothing else for an answer."""
        said = reply.lower()
        return Verdict(text, float(said == "yes"), {"reply": reply}) if said in ("yes", "no") else None

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """By the letter that was named."""
        read = _lmms_eval(text) if variant == LMMS_EVAL else inferred(text, _question(item).options)
        return Verdict(read, float(read == item.target))

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """Pairs, then single questions."""
        pairs: dict[int, list[float]] = defaultdict(list)
        for score in scores:
            pairs[score.fields["pair"]].append(score.score)
        hits = [float(len(hits) > 1 and all(hits)) for hits in pairs.values()]
        return {"accuracy": mean_of(hits, list(pairs)), "question_accuracy": mean_score(scores)}


def _lmms_eval(text: str) -> str | None:
    """The letter of the first pattern that is there, else the first character.

    >>> _lmms_eval("it is (b)"), _lmms_eval("a dog"), _lmms_eval("left")
    ('B', 'A', None)
    """
    said = text.strip()
    found = next((match[1] for pattern in _LETTERS if (match := pattern.search(said))), said[:1]).upper()
    return found if found in tuple("AB") else None


def _item(row: Row, place: int) -> Item:
    options = str(first(row, ("Options", "options"), ""))
    letters = _lettered(options) if options else options_of(row)
    options = options or " ".join(f"({letter.lower()}) {text}" for letter, text in letters.items())
    correct = str(first(row, ("Correct Answer", "answer"), "")).strip()
    number = whole(first(row, ("Index", "index"), place + 1))
    return Item(
        id=number,
        question=str(first(row, ("Question", "question"))),
        target=correct.strip("()").upper(),
        image=f"{number}.jpg",
        group=str(place // 2),
        fields={"options": options, "letters": letters, "correct": correct, "pair": place // 2},
    )


def _lettered(options: str) -> dict[str, str]:
    """Letters and texts, which may hold parentheses of their own.

    >>> _lettered("(a) The dog (left) (b) The dog (right)")
    {'A': 'The dog (left)', 'B': 'The dog (right)'}
    """
    starts: list[int] = []
    for letter in "abcd":
        start = options.find(f"({letter})", starts[-1] if starts else 0)
        if start < 0:
            break
        starts.append(start)
    ends = [*starts[1:], len(options)]
    width = len("(a)")
    return lettered([options[start + width : end].strip() for start, end in zip(starts, ends, strict=True)])


def _question(item: Item) -> LetteredQuestion:
    return LetteredQuestion(item.question, as_pandas_reads(item.fields["letters"]), item.target)
