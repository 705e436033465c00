"""MMStar (Chen et al., 2024; the official `eval/vlmeval/evaluate/mmstar.py`, and VLMEvalKit)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec

from mgtool.records import Score
from mgtool.scoring.benchmark import OFFICIAL, Item, Verdict, by_field, mean_of_parts
from mgtool.scoring.ground_truth import Row
from mgtool.scoring.lmms_eval import ANYWHERE, LMMS_EVAL
from mgtool.scoring.multiple_choice import CHOICE_VARIANTS, VLMEVALKIT, ChoiceBenchmark, named_anywhere
from mgtool.scoring.statistics import Metric, Statistic

LETTERS = "ABCD"
KIND = "l2_category"
_STARTS = ("", "(", "option ", "the answer is ")
_LIST = re.compile(r"(?:Options|Choices):")
_MARK = re.compile(r"(?:(?<=[\s,])|^)\(?([A-Z])([:.)])\s*")


class MmStar(ChoiceBenchmark):
    """Choices that cannot be made without the picture."""

    name = "mmstar"
    title = "MMStar"
    files = "MMStar.tsv (opencompass.openxlab.space) or the Parquet of huggingface.co/datasets/Lin-Chen/MMStar"
    variants: ClassVar[Mapping[str, str]] = {
        "official": "the first character, or the one behind `(`, `option ` or `the answer is `",
        **CHOICE_VARIANTS,
        LMMS_EVAL: f"{ANYWHERE}; accuracy is the mean over the 18 kinds of questions",
    }
    breakdowns = ("category", "l2_category")

    def item(self, row: Row) -> Item:
        """One question; in the Parquet its options are at its end."""
        item = super().item(row)
        options = item.fields["options"] or options_in(item.question)
        return msgspec.structs.replace(item, fields={**item.fields, "options": options})

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """Officially by the first character, or by the one behind three fixed beginnings; elsewhere by the letter."""
        if variant == LMMS_EVAL:
            return named_anywhere(item, text)
        if variant != OFFICIAL:
            return super().score(item, text, variant)
        read = _characters(text)
        right = item.target is not None and item.target.strip().lower() in read
        return Verdict(item.target if right else read[0].upper() if read else None, float(right))

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """Accuracy; lmms-eval's is the mean over the kinds of questions."""
        kinds = list(by_field(scores, KIND))
        means = variant == LMMS_EVAL and kinds
        return {"accuracy": mean_of_parts(scores, KIND, kinds)} if means else super().metrics(scores, variant)

    def asks_judge(self, variant: str) -> bool:
        """The official script asks nobody."""
        return variant == VLMEVALKIT


def _characters(text: str) -> list[str]:
    """The characters that the official script compares with the letter, the one behind most words first.

    >>> _characters("The answer is b"), _characters("(C) dog"), _characters("")
    (['b', 't'], ['c', '('], [])
    """
    said = text.lower().strip().replace("\n", " ")
    starts = [start for start in _STARTS if said.startswith(start)]
    return [said[len(start)] for start in sorted(starts, key=len, reverse=True) if len(said) > len(start)]


def options_in(question: str) -> dict[str, str]:
    """The options at the end of a question; where they cannot be told apart, the letters without texts.

    >>> options_in("What is it? Options: A: a cat, or two, B: dog, C: cow, D: hen")
    {'A': 'a cat, or two', 'B': 'dog', 'C': 'cow', 'D': 'hen'}
    >>> options_in("How long?\\nChoices:\\n(A) 3 m\\n(B) 4 m")
    {'A': '3 m', 'B': '4 m'}
    """
    tail = _LIST.split(question)[-1]
    marks: list[re.Match[str]] = []
    for mark in _MARK.finditer(tail):
        if mark[1] == LETTERS[len(marks) : len(marks) + 1] and (not marks or mark[2] == marks[0][2]):
            marks.append(mark)
    ends = [*(mark.start() for mark in marks[1:]), len(tail)]
    found = {mark[1]: tail[mark.end() : end].strip().rstrip(",") for mark, end in zip(marks, ends, strict=False)}
    return found if len(found) > 1 else dict.fromkeys(LETTERS, "")
