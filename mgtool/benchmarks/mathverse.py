"""MathVerse (Zhang et al., 2024; the official `extract_answer_s1.py` and `score_answer_s2.py`)."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from mgtool.records import Sample, Score
from mgtool.scoring.benchmark import Benchmark, Item, Judge, JudgeRequest, Pair, Verdict
from mgtool.scoring.ground_truth import Row, Truth, first, picture_name, whole
from mgtool.scoring.judged import UNREAD, ask_until_read, rubric, unread_notes
from mgtool.scoring.predictions import Prediction

READINGS = 5
"""How often a judgement that cannot be read is asked for; the original asks for ever."""
_TOKENS = 256
_FIELDS = ("problem_version", "subject", "subfield", "question_type")


class MathVerse(Benchmark):
    """A judge takes the answer out of the response and compares it; the same problem in five versions."""

    name = "mathverse"
    title = "MathVerse"
    files = "testmini.json (github.com/ZrrSkywalker/MathVerse), AI4Math/MathVerse's Parquet, or MathVerse_MINIV.tsv"
    metric = "accuracy, by version of the problem, subject and subfield"
    judge: ClassVar[Literal["no", "optional", "needed"]] = "optional"
    variants: ClassVar[Mapping[str, str]] = {
        "official": "a judge extracts the answer and another reply compares it; without one the response itself has to "
        "be equal (`quick_match`)",
    }
    breakdowns = _FIELDS

    def prompt(self, sample: Sample) -> str:
        """The published query for the score without reasoning, where the question file has it; else the question."""
        return str(sample.metadata.get("query_wo") or super().prompt(sample))

    def load(self, truth: Truth) -> list[Item]:
        """The official list, Parquet, or a TSV."""
        rows = [row for document in truth.files for row in document.rows() if "problem_version" in row]
        if not rows:
            raise truth.mismatch("MathVerse's list of `sample_index`, `problem_version`, `question`, `answer`")
        return [_item(row) for row in rows]

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> list[Verdict]:
        """What the judge extracts, and whether it finds that right."""
        if judge is None:
            return super().grade(pairs, variant)
        verdicts = [self.missing(item) for item, _ in pairs]
        answered = [(place, item, said) for place, (item, said) in enumerate(pairs) if said is not None]
        extracted = judge.ask([_extraction(said) for _, _, said in answered])
        cases = [
            (item, reply.replace("Extracted Answer: ", "").strip()) if reply is not None else None
            for (_, item, _), reply in zip(answered, extracted, strict=True)
        ]
        known = [case for case in cases if case is not None]
        judged = iter(ask_until_read(judge, known, _comparison, _read, READINGS))
        for (place, _, _), case in zip(answered, cases, strict=True):
            verdicts[place] = next(judged) if case is not None else UNREAD
        return verdicts

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """Equality of the response and the answer, as the original's quick match has it."""
        return Verdict(text, float(item.target is not None and text == item.target))

    def keys(self, prediction: Prediction) -> Iterable[str]:
        """The id, or the official results' `sample_index`."""
        yield str(prediction.id)
        if "sample_index" in prediction.fields:
            yield str(prediction.fields["sample_index"])

    def notes(self, scores: Sequence[Score], variant: str) -> list[str]:
        """Who compared the answers."""
        if any("reply" in score.fields or "unread" in score.fields for score in scores):
            return unread_notes(scores, "they count as wrong")
        return ["answers have to be equal to the right ones; the official script asks a judge about each (`judge`)"]


def _extraction(said: Prediction) -> JudgeRequest:
    asked = f"{rubric('mathverse-extract').strip()}\n\nModel response: '{said.text}'\nExtracted Answer: "
    return JudgeRequest(user=asked, max_tokens=_TOKENS)


def _comparison(case: tuple[Item, str], attempt: int) -> JudgeRequest:
    item, extracted = case
    asked = rubric("mathverse-score").format(question=item.question, gt=item.target, extraction=extracted)
    return JudgeRequest(user=asked, max_tokens=_TOKENS, repeat=attempt)


def _read(case: tuple[Item, str], reply: str) -> Verdict | None:
    said = reply.replace("Judgement:", "").strip()
    return Verdict(case[1], float(said), {"reply": reply}) if said in ("0", "1") else None


def _item(row: Row) -> Item:
    known = {**_metadata(row.get("metadata")), **row}
    image = picture_name(row, ("image_path", "image"))
    problem = str(first(row, ("problem_index",), ""))
    return Item(
        id=whole(first(row, ("sample_index", "index"))),
        question=str(row.get("question") or row.get("question_for_eval") or ""),
        target=str(row["answer"]) if row.get("answer") is not None else None,
        image=image,
        group=problem or image,
        fields={name: str(known[name]) for name in _FIELDS if known.get(name)},
    )


def _metadata(cell: Any) -> dict[str, Any]:
    """The object beside a problem; in a table it is written as Python writes it."""
    if isinstance(cell, Mapping):
        return dict(cell)
    try:
        found = ast.literal_eval(str(cell))
    except (ValueError, SyntaxError):
        return {}
    return found if isinstance(found, dict) else {}
