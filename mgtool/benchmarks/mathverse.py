"""MathVerse (Zhang et al., 2024; the official `extract_answer_s1.py` and `score_answer_s2.py`)."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from mgtool.records import Sample, Score
from mgtool.scoring.benchmark import OFFICIAL, Benchmark, Item, Judge, JudgeRequest, Pair, Verdict
from mgtool.scoring.ground_truth import Row, Truth, first, picture_name, whole
from mgtool.scoring.judged import HEAT_STEP, UNREAD, ask_until_read, rubric, unread_notes
from mgtool.scoring.lmms_eval import LMMS_EVAL
from mgtool.scoring.multiple_choice import VLMEVALKIT
from mgtool.scoring.predictions import Prediction

READINGS = 5
"""How often a judgement that cannot be read is asked for; the original asks for ever."""
_TOKENS, _FEWER_TOKENS = 256, 128
_QUESTION = "question_for_eval"
_FIELDS = ("problem_version", "subject", "subfield", "question_type")
Case = tuple[Item, str]
"""A problem with a response, or with the answer that was taken out of it."""


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
        VLMEVALKIT: "the same with its own prompts; an extracted answer that is the right one is not asked about",
        LMMS_EVAL: "a judge compares the whole response; a 1 anywhere in its reply is a yes",
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

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> Iterable[Verdict]:
        """What the judge extracts, and whether it finds that right; lmms-eval has it look at the whole response."""
        if judge is None:
            return super().grade(pairs, variant)
        verdicts = [self.missing(item) for item, _ in pairs]
        answered = [(place, (item, said.text)) for place, (item, said) in enumerate(pairs) if said is not None]
        cases = [case for _, case in answered]
        if variant == LMMS_EVAL:
            found = ask_until_read(judge, cases, _whole_request, _read_anywhere, 1)
        else:
            found = _compared(cases, _STEPS[variant], judge)
        for (place, _), verdict in zip(answered, found, strict=True):
            verdicts[place] = verdict
        return verdicts

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """Equality of the response and the answer, as the original's quick match has it."""
        said = text if variant == OFFICIAL else text.strip()
        return Verdict(said, float(item.target is not None and said == item.target))

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


class _Steps(NamedTuple):
    """How a project asks.

    Attributes:
        extraction: what to ask about a response.
        extracted: the answer in the reply.
        comparison: what to ask about a problem and an extracted answer, at an attempt from 0.
        judgement: the judge's word in the reply to that.
        skips: whether an answer that is the right one as it stands is not asked about.
    """

    extraction: Callable[[str], JudgeRequest]
    extracted: Callable[[str], str]
    comparison: Callable[[Case, int], JudgeRequest]
    judgement: Callable[[str], str]
    skips: bool


def _compared(cases: Sequence[Case], steps: _Steps, judge: Judge) -> list[Verdict]:
    """Extract, then compare; a response without a reply is unread."""
    replies = judge.ask([steps.extraction(text) for _, text in cases])
    found = [UNREAD] * len(cases)
    asked: list[tuple[int, Case]] = []
    for place, ((item, _), reply) in enumerate(zip(cases, replies, strict=True)):
        own = "" if reply is None else steps.extracted(reply)
        if reply is not None and steps.skips and own == item.target:
            found[place] = Verdict(own, 1.0, {"reply": reply})
        elif reply is not None:
            asked.append((place, (item, own)))

    def read(case: Case, reply: str) -> Verdict | None:
        said = steps.judgement(reply)
        return Verdict(case[1], float(said), {"reply": reply}) if said in ("0", "1") else None

    judged = ask_until_read(judge, [case for _, case in asked], steps.comparison, read, READINGS)
    for (place, _), verdict in zip(asked, judged, strict=True):
        found[place] = verdict
    return found


def _extraction(text: str) -> JudgeRequest:
    asked = f"{rubric('mathverse-extract').strip()}\n\nModel response: '{text}'\nExtracted Answer: "
    return JudgeRequest(user=asked, max_tokens=_TOKENS)


def _comparison(case: Case, attempt: int) -> JudgeRequest:
    item, extracted = case
    asked = rubric("mathverse-score").format(question=item.question, gt=item.target, extraction=extracted)
    return JudgeRequest(user=asked, max_tokens=_TOKENS, repeat=attempt)


def _vlmevalkit_extraction(text: str) -> JudgeRequest:
    asked = f"{rubric('mathverse-extract-vlmevalkit')}Model response: '{text}'\nExtracted Answer: "
    return JudgeRequest(user=asked, max_tokens=_FEWER_TOKENS)


def _vlmevalkit_comparison(case: Case, attempt: int) -> JudgeRequest:
    item, extracted = case
    asked = (
        f"{rubric('mathverse-score-vlmevalkit')}\n    [Question]: {_for_eval(item)}\n"
        f"    [Standard Answer]: {item.target}\n    [Model_answer] : {extracted}\n    Judgement:"
    )
    return JudgeRequest(user=asked, temperature=HEAT_STEP * attempt, max_tokens=_FEWER_TOKENS)


def _whole_request(case: Case, attempt: int) -> JudgeRequest:
    item, text = case
    asked = rubric("mathverse-lmms-eval")
    return JudgeRequest(
        user=asked.format(question=_for_eval(item), answer=item.target, prediction=text.strip()), repeat=attempt
    )


_STEPS = {
    OFFICIAL: _Steps(
        extraction=_extraction,
        extracted=lambda reply: reply.replace("Extracted Answer: ", "").strip(),
        comparison=_comparison,
        judgement=lambda reply: reply.replace("Judgement:", "").strip(),
        skips=False,
    ),
    VLMEVALKIT: _Steps(_vlmevalkit_extraction, str.strip, _vlmevalkit_comparison, str.strip, skips=True),
}


def _read_anywhere(case: Case, reply: str) -> Verdict | None:
    return Verdict(case[1], float("1" in reply), {"reply": reply})


def _for_eval(item: Item) -> str:
    """The question as a judge sees it, where the data have it apart from what the model was asked."""
    return str(item.fields.get(_QUESTION, item.question))


def _item(row: Row) -> Item:
    known = {**_metadata(row.get("metadata")), **row}
    image = picture_name(row, ("image_path", "image"))
    problem = str(first(row, ("problem_index",), ""))
    return Item(
        id=whole(first(row, ("sample_index", "index"))),
        question=str(row.get("question") or row.get(_QUESTION) or ""),
        target=str(row["answer"]) if row.get("answer") is not None else None,
        image=image,
        group=problem or image,
        fields={name: str(known[name]) for name in (*_FIELDS, _QUESTION) if known.get(name)},
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
