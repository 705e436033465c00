"""A-OKVQA (Schwenk et al., 2022; the official `evaluation/eval_predictions.py`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from mgtool.records import Score
from mgtool.scoring.benchmark import OFFICIAL, Benchmark, Item, Judge, Pair, Submission, Verdict, mean_score
from mgtool.scoring.ground_truth import Document, Row, Truth, first, listed, whole
from mgtool.scoring.instructions import SINGLE_WORD
from mgtool.scoring.multiple_choice import CHOICE_VARIANTS, VLMEVALKIT, ChoiceBenchmark, lettered
from mgtool.scoring.statistics import Metric, Statistic

ENOUGH = 3
"""Annotators who have to have given an answer for it to be wholly right."""
FILES = "aokvqa_v1p0_val.json (github.com/allenai/aokvqa) or the Parquet of HuggingFaceM4/A-OKVQA"
_LETTER = re.compile(r"\(?([A-Z])[).]?")


class Aokvqa(ChoiceBenchmark):
    """The multiple choices."""

    name = "aokvqa"
    title = "A-OKVQA, multiple choice"
    files = f"{FILES}, or a-okvqa.tsv"
    metric = "accuracy of the chosen text"
    variants: ClassVar[Mapping[str, str]] = {
        "official": "the answer is a choice's text, letter for letter; a letter alone stands for its text",
        **CHOICE_VARIANTS,
    }
    breakdowns = ("split",)

    def rows(self, document: Document) -> Iterable[Row]:
        """The official list, whose choices are texts and the right one a place, or a TSV."""
        return map(_lettered, document.each())

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> Iterable[Verdict]:
        """Each answer; of the official object of predictions the `multiple_choice`."""
        return super().grade([(item, _of_setting(said, "multiple_choice")) for item, said in pairs], variant, judge)

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """Officially the text that is exactly a choice's."""
        if variant != OFFICIAL:
            return super().score(item, text, variant)
        options: dict[str, str] = item.fields["options"]
        letter = _LETTER.fullmatch(text.strip())
        named = options.get(letter[1], text) if letter and text not in options.values() else text
        known = next((own for own, option in options.items() if option == named), None)
        return Verdict(known, float(item.target is not None and named == options.get(item.target)))

    def asks_judge(self, variant: str) -> bool:
        """The official script asks nobody."""
        return variant == VLMEVALKIT


class AokvqaDirect(Benchmark):
    """The direct answers."""

    name = "aokvqa-da"
    title = "A-OKVQA, direct answers"
    files = FILES
    metric = "a third for each annotator of ten who gave the very same answer, up to 1"
    instruction = SINGLE_WORD

    def load(self, truth: Truth) -> list[Item]:
        """The official list; questions that are hard to answer directly do not count."""
        rows = [row for document in truth.files for row in document.rows() if "direct_answers" in row]
        rows = [row for row in rows if not truth.split or str(row.get("split", truth.split)) == truth.split]
        if not rows:
            raise truth.mismatch(f"A-OKVQA's list of `question_id`, `question`, `direct_answers`: {FILES}")
        return [_item(row) for row in rows]

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> Iterable[Verdict]:
        """Each answer; of the official object of predictions the `direct_answer`."""
        return super().grade([(item, _of_setting(said, "direct_answer")) for item, said in pairs], variant)

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """The share of enough annotators; nothing is normalised."""
        return Verdict(text, min(1.0, item.target.count(text) / ENOUGH))

    def is_needed(self, score: Score) -> bool:
        """All but those that are hard to answer directly."""
        return not score.fields["difficult"]

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """Over the questions that count."""
        return {"accuracy": mean_score([score for score in scores if self.is_needed(score)])}

    def submission(self, pairs: Sequence[Pair], split: str) -> Submission:
        """The leaderboard's form."""
        said = {str(item.id): {"direct_answer": answer.text if answer else ""} for item, answer in pairs}
        return Submission("predictions.json", msgspec.json.encode(said))


def _of_setting(said: Any, setting: str) -> Any:
    """The answer of one of the two settings, where an official object of predictions has both."""
    if said is None or not isinstance(said.fields.get(setting), str):
        return said
    return msgspec.structs.replace(said, text=said.fields[setting])


def _lettered(row: Row) -> Row:
    if "choices" not in row:
        return row
    options = lettered(listed(row["choices"]))
    right = row.get("correct_choice_idx")
    answer = {"answer": list(options)[int(right)]} if right is not None else {}
    return {**row, **options, **answer, "image_path": _picture(row)}


def _item(row: Row) -> Item:
    image = _picture(row)
    return Item(
        id=whole(first(row, ("question_id", "index"))),
        question=str(row["question"]),
        target=listed(row["direct_answers"]),
        image=image,
        group=image,
        fields={"difficult": str(row.get("difficult_direct_answer", False)).lower() == "true"},
    )


def _picture(row: Row) -> str:
    number = row.get("image_id")
    return f"{int(number):012}.jpg" if number is not None else ""
