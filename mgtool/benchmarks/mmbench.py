"""MMBench (Liu et al., 2023; VLMEvalKit `multiple_choice.py`)."""

from __future__ import annotations

import io
import string
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from mgtool.errors import InputError
from mgtool.records import SampleId, Score
from mgtool.scoring.benchmark import Item, Judge, Pair, Submission, Verdict
from mgtool.scoring.ground_truth import Row
from mgtool.scoring.lmms_eval import LMMS_EVAL, MISSING_OPTION, named_option
from mgtool.scoring.multiple_choice import ChoiceBenchmark, LetteredQuestion, as_pandas_reads, named_anywhere
from mgtool.scoring.prediction_file import Prediction, fields_in
from mgtool.scoring.statistics import Metric, Statistic, mean_of

MATCHING_TOKENS = 256
"""Of a reply that matches an answer, as lmms-eval asks."""
ROTATION = 1_000_000
"""The index of a rotated question is that of the question plus a multiple of this."""


class Mmbench(ChoiceBenchmark):
    """Every question is asked with its options rotated, and counts only if all rotations are right."""

    name = "mmbench"
    title = "MMBench"
    files = "MMBench_DEV_EN.tsv, MMBench_DEV_CN.tsv or mmbench_dev_20230712.tsv (opencompass.org.cn); TEST: submission"
    metric = "accuracy with circular evaluation, and of the unrotated questions alone; by category"
    variants: ClassVar[Mapping[str, str]] = {
        **ChoiceBenchmark.variants,
        LMMS_EVAL: "a letter A to E that stands alone or with a mark, else the one option in the text, else a judge; "
        "without one, the letter that stands where it counts most; a missing option is a text, `nan`",
    }

    def item(self, row: Row) -> Item:
        """One rotation; its question is the group."""
        item = super().item(row)
        if not isinstance(item.id, int):
            raise InputError(f"index {item.id}: MMBench's indices are integers")
        fields = {**item.fields, "question": item.id % ROTATION, "rotated": item.id >= ROTATION}
        return msgspec.structs.replace(item, fields=fields)

    def addressed(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> Sequence[Prediction]:
        """LLaVA's `--all-rounds` files: the rounds of a question become one prediction, that of round 0."""
        if "round_id" not in fields_in(predictions):
            return predictions
        rounds: dict[SampleId, dict[int, Prediction]] = defaultdict(dict)
        for prediction in predictions:
            rounds[prediction.id][_round(prediction)] = prediction
        if all(len(found) == 1 for found in rounds.values()):
            return predictions
        return [_merged([found[number] for number in sorted(found)]) for found in rounds.values()]

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> list[Verdict]:
        """The answers of round 0; `all_rounds` is added where the file has further rounds."""
        verdicts = super().grade(pairs, variant, judge)
        if variant == LMMS_EVAL and judge is None:
            verdicts = [_anywhere(verdict, pair) for verdict, pair in zip(verdicts, pairs, strict=True)]
        return [
            verdict._replace(fields={**verdict.fields, "all_rounds": _all_right(self, pair, variant)})
            if pair[1] is not None and "rounds" in pair[1].fields
            else verdict
            for verdict, pair in zip(verdicts, pairs, strict=True)
        ]

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """The letter that was read; lmms-eval has rules of its own."""
        if variant != LMMS_EVAL:
            return super().score(item, text, variant)
        read = named_option(text.strip(), self.question(item, variant).options)
        return Verdict(read, float(read is not None and read == item.target))

    def question(self, item: Item, variant: str) -> LetteredQuestion:
        """As of all choices; lmms-eval has four options in every question."""
        if variant != LMMS_EVAL:
            return super().question(item, variant)
        known = as_pandas_reads(item.fields["options"])
        options = {letter: known.get(letter, MISSING_OPTION) for letter in "ABCD"}
        return LetteredQuestion(item.question, options, item.target, "choices-lmms-eval", named_option, MATCHING_TOKENS)

    def asks_judge(self, variant: str) -> bool:
        """lmms-eval matches with one, too."""
        return variant == LMMS_EVAL or super().asks_judge(variant)

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """Circular and vanilla accuracy."""
        main, hits = _circular(scores)
        vanilla = [score.score for score in main]
        groups = [score.group for score in main]
        return {"accuracy": mean_of(hits, groups), "vanilla": mean_of(vanilla, groups)}

    def breakdown(self, scores: Sequence[Score], variant: str) -> Mapping[str, dict[str, Statistic | Metric]]:
        """Circular accuracy by category and l2-category."""
        main, hits = _circular(scores)
        circular = [msgspec.structs.replace(score, score=hit) for score, hit in zip(main, hits, strict=True)]
        return super().breakdown(circular, variant)

    def submission(self, pairs: Sequence[Pair], split: str) -> Submission:
        """The workbook that the test server takes: index, question, options, prediction."""
        from openpyxl import Workbook

        book = Workbook(write_only=True)
        sheet = book.create_sheet("Sheet1")
        letters = sorted({letter for item, _ in pairs for letter in item.fields["options"]})
        sheet.append(["index", "question", *letters, "prediction"])
        for item, answer in pairs:
            options = [item.fields["options"].get(letter, "") for letter in letters]
            cells = [item.id, item.question, *options, answer.text if answer is not None else ""]
            sheet.append([_as_text(sheet, cell) for cell in cells])
        file = io.BytesIO()
        book.save(file)
        return Submission("submission.xlsx", file.getvalue())


class MmbenchChinese(Mmbench):
    """The same questions in Chinese."""

    name = "mmbench-cn"
    title = "MMBench, Chinese"


def _anywhere(verdict: Verdict, pair: Pair) -> Verdict:
    """What lmms-eval reads where its rules find nothing and no judge is asked."""
    item, answer = pair
    return verdict if answer is None or verdict.extracted is not None else named_anywhere(item, answer.text.strip())


def _circular(scores: Sequence[Score]) -> tuple[list[Score], list[float]]:
    """The unrotated questions, and whether all rotations of each are right."""
    right: dict[int, bool] = defaultdict(lambda: True)
    for score in scores:
        right[score.fields["question"]] &= score.score == 1.0 and score.fields.get("all_rounds", True)
    main = [score for score in scores if not score.fields["rotated"]]
    return main, [float(right[score.fields["question"]]) for score in main]


def _round(prediction: Prediction) -> int:
    number = prediction.fields.get("round_id")
    return number if isinstance(number, int) else 0


def _merged(rounds: Sequence[Prediction]) -> Prediction:
    """The first round, with all of them in its fields."""
    first = rounds[0]
    return msgspec.structs.replace(first, fields={**first.fields, "rounds": list(rounds)})


def _all_right(benchmark: ChoiceBenchmark, pair: Pair, variant: str) -> bool:
    """Whether every round names the option that is the answer.

    LLaVA moves the first option to the end before each further round, and letters them anew: what stands at A then is
    the option whose own letter is the first of the line's `option_char`.
    """
    item, answer = pair
    assert answer is not None
    return all(
        benchmark.score(_as_asked(item, said), said.text, variant).score == 1.0 for said in answer.fields["rounds"]
    )


def _as_asked(item: Item, said: Prediction) -> Item:
    """The question with the options in the round's order, and the letter that is right there."""
    known: dict[str, str] = item.fields["options"]
    own = said.fields.get("option_char")
    shown = dict(zip(string.ascii_uppercase, own if isinstance(own, list) else known, strict=False))
    options = {letter: known[other] for letter, other in shown.items() if other in known}
    target = next((letter for letter, other in shown.items() if other == item.target), None)
    return msgspec.structs.replace(item, target=target, fields={**item.fields, "options": options})


def _as_text(sheet: Any, value: object) -> object:
    """A cell that no spreadsheet takes for a formula, or refuses for a control character; the text stays as it is."""
    from openpyxl.cell import WriteOnlyCell

    if not isinstance(value, str):
        return value
    cell = WriteOnlyCell(sheet, "".join(character for character in value if character >= " " or character in "\n\t"))
    cell.data_type = "s"
    return cell
