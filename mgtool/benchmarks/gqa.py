"""GQA (Hudson and Manning, 2019; the official `eval.py`)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from mgtool.records import Score, dumps
from mgtool.scoring.benchmark import (
    Benchmark,
    Breakdown,
    Item,
    Judge,
    Pair,
    Submission,
    Verdict,
    kept_items,
    mean_score,
)
from mgtool.scoring.ground_truth import Document, Truth, of_split
from mgtool.scoring.instructions import SINGLE_WORD
from mgtool.scoring.item_index import ItemIndex
from mgtool.scoring.predictions import Prediction
from mgtool.scoring.score_file import where
from mgtool.scoring.statistics import Metric, Statistic, mean_of

_LAST_STEPS = ("exist", "query: name", "choose name")
_COMMON = ("color", "material", "shape")
_PUNCTUATION = str.maketrans("", "", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


class _GqaQuestion(msgspec.Struct):
    question: str
    answer: str = ""
    imageId: int | str = ""  # noqa: N815 - GQA's spelling
    isBalanced: bool = True  # noqa: N815
    groups: dict[str, str | None] = {}
    types: dict[str, str | None] = {}
    semantic: list[dict[str, Any]] = []
    entailed: list[str] = []


class Gqa(Benchmark):
    """Equality over the balanced questions; consistency, validity and plausibility where their files are given."""

    name = "gqa"
    title = "GQA"
    files = (
        "testdev_balanced_questions.json (cs.stanford.edu/people/dorarad/gqa); val_all_questions.json adds "
        "consistency, val_choices.json adds validity and plausibility"
    )
    metric = "accuracy, of binary and of open questions; distribution; by type and number of steps"
    variants: ClassVar[Mapping[str, str]] = {
        "official": "equal in lower case, without full stops at the end",
        "vlmevalkit": "equal in lower case, without white space around",
        "lmms-eval": "equal in lower case, without white space around and any punctuation",
    }
    breakdowns = ("structural", "semantic", "detailed", "steps", "words")
    instruction = SINGLE_WORD

    def load(self, truth: Truth) -> Sequence[Item]:
        """The official question files, by id, and the files of choices; or a TSV."""
        documents, choices = of_split(truth.files, truth.split), dict[str, Any]()
        for document in documents:
            if "choices" in document.stem:
                choices |= document.json(dict[str, dict[str, list[str]]])
        questions = (one for document in documents if "choices" not in document.stem for one in _questions(document))
        items = kept_items(_item(number, question, choices.get(number)) for number, question in questions)
        if not items:
            raise truth.mismatch("GQA's questions: an object of ids, each with `question`, `answer`, `isBalanced`")
        return items if ItemIndex(items).is_unique else list({item.id: item for item in items}.values())

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> Iterable[Verdict]:
        """Each answer; for right ones of the balanced questions also the share of the entailed that are right."""
        if all(item.fields["balanced"] for item, _ in pairs):
            return super().grade(pairs, variant)
        verdicts = list(super().grade(pairs, variant))
        place = {str(item.id): n for n, (item, _) in enumerate(pairs)}
        return [
            verdict._replace(fields={**verdict.fields, "consistency": share})
            if verdict.score and item.fields["balanced"] and (share := _consistency(item, place, verdicts)) is not None
            else verdict
            for verdict, (item, _) in zip(verdicts, pairs, strict=True)
        ]

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """Equal, once full stops at the end are gone and all is lower case; nothing else is forgiven."""
        if variant == "lmms-eval":
            said, expected = (value.lower().translate(_PUNCTUATION) for value in (text.strip(), item.target))
        elif variant == "vlmevalkit":
            said, expected = text.strip().lower(), item.target.strip().lower()
        else:
            said, expected = text.rstrip(".").lower(), item.target
        checks = {}
        if item.context is not None:
            common = "Common" in (item.fields.get("detailed") or "")
            for check, key in (("validity", "valid"), ("plausibility", "plausible")):
                checks[check] = float(said in (_COMMON if common else item.context[key]))
        return Verdict(said, float(said == expected), checks)

    def is_needed(self, score: Score) -> bool:
        """The balanced questions; the others only tell how consistent their answers are."""
        return bool(score.fields["balanced"])

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """Accuracy over the balanced questions, and what else the given files allow."""
        balanced = where(scores, lambda score: score.fields["balanced"])
        binary = where(balanced, lambda score: score.fields.get("structural", "query") != "query")
        opened = where(balanced, lambda score: score.fields.get("structural") == "query")
        numbers: dict[str, Statistic | Metric] = {
            "accuracy": mean_score(balanced),
            "binary": mean_score(binary),
            "open": mean_score(opened),
        }
        for name in ("consistency", "validity", "plausibility"):
            known = [score for score in balanced if name in score.fields]
            if known:
                values, groups = [score.fields[name] for score in known], [score.group for score in known]
                numbers[name] = mean_of(values, groups, ids=(score.question_id for score in known))
        distribution = _chi_square(balanced)
        if distribution is not None:
            numbers["distribution"] = Metric(value=distribution, n=len(balanced))
        return numbers

    def breakdown(self, scores: Sequence[Score], variant: str) -> Breakdown:
        """Accuracy of the balanced questions by type, steps and words."""
        return super().breakdown(where(scores, lambda score: score.fields["balanced"]), variant)

    def submission(self, pairs: Sequence[Pair], split: str) -> Submission:
        """EvalAI's form."""
        entries = [{"questionId": str(i.id), "prediction": a.text.rstrip(".").lower() if a else ""} for i, a in pairs]
        return Submission("submission.json", dumps(entries))

    def keys(self, prediction: Prediction) -> Iterable[str]:
        """The question's id."""
        yield str(prediction.id)


def _questions(document: Document) -> Iterator[tuple[str, _GqaQuestion]]:
    if document.suffix == ".json":
        yield from document.entries(_GqaQuestion)
    for row in document.each() if document.suffix == ".tsv" else ():
        yield str(row["index"]), _GqaQuestion(question=str(row["question"]), answer=str(row.get("answer", "")))


def _item(number: str, question: _GqaQuestion, choices: Mapping[str, list[str]] | None) -> Item:
    fields = {
        "balanced": question.isBalanced,
        "words": len(question.question.split()),
        "steps": sum(not _is_last_step(step) for step in question.semantic) if question.semantic else None,
        "entailed": [other for other in question.entailed if other != number],
        "global": question.groups.get("global"),
        **{name: question.types.get(name) for name in ("structural", "semantic", "detailed")},
    }
    image = str(question.imageId)
    return Item(
        id=number,
        question=question.question,
        target=question.answer,
        image=f"{image}.jpg" if image else "",
        group=image,
        fields={name: value for name, value in fields.items() if value not in (None, [])},
        context=choices,
    )


def _is_last_step(step: Mapping[str, Any]) -> bool:
    text = f"{step.get('operation')}: {step.get('argument')}"
    return any(last in text for last in _LAST_STEPS)


def _consistency(item: Item, place: Mapping[str, int], verdicts: Sequence[Verdict]) -> float | None:
    entailed = [place[other] for other in item.fields.get("entailed", ()) if other in place]
    return sum(verdicts[other].score for other in entailed) / len(entailed) if entailed else None


def _chi_square(scores: Sequence[Score]) -> float | None:
    """How far the answers' distribution is from the targets', lower is better; None without the groups."""
    gold: dict[str, Counter[str]] = defaultdict(Counter)
    said: dict[str, Counter[str]] = defaultdict(Counter)
    for score in scores:
        group = score.fields.get("global")
        if group is not None:
            gold[group][score.target] += 1
            said[group][score.extracted or ""] += 1
    total = sum(sum(answers.values()) for answers in gold.values())
    if not total:
        return None
    sums = (
        sum(answers.values()) * sum((said[group][answer] - count) ** 2 / count for answer, count in answers.items())
        for group, answers in gold.items()
    )
    return sum(sums) / total / 100
