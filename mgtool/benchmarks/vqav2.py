"""VQAv2 (Goyal et al., 2017; GT-Vision-Lab/VQA `vqaEval.py`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from mgtool.files.record_file import kept
from mgtool.records import Score
from mgtool.scoring import normalizers
from mgtool.scoring.benchmark import (
    Benchmark,
    Breakdown,
    Item,
    OnDemand,
    Pair,
    Submission,
    Verdict,
    kept_items,
    mean_score,
    shared_verdict,
)
from mgtool.scoring.ground_truth import Document, Truth, first, listed, of_split, whole
from mgtool.scoring.instructions import SINGLE_WORD
from mgtool.scoring.item_index import ItemFinder
from mgtool.scoring.statistics import Metric, Statistic

DECIMALS = 2


class _AnnotatorAnswer(msgspec.Struct, gc=False):
    answer: str


class VqaAnnotation(msgspec.Struct, gc=False):
    """One entry of an official annotation file."""

    question_id: int | str
    answers: list[_AnnotatorAnswer | str]
    image_id: int | str = ""
    question_type: str = ""
    answer_type: str = ""


class VqaQuestion(msgspec.Struct, gc=False):
    """One entry of an official question file."""

    question_id: int | str
    question: str = ""
    image_id: int | str = ""


class Vqav2(Benchmark):
    """Soft agreement with ten annotators, after the official normalisation."""

    name = "vqav2"
    title = "VQA v2"
    files = (
        "v2_mscoco_val2014_annotations.json and v2_OpenEnded_mscoco_val2014_questions.json (visualqa.org/download); "
        "test-dev and test-std: the question file alone as `questions` writes the submission for EvalAI"
    )
    metric = "VQA accuracy over ten annotators, by question and answer type"
    variants: ClassVar[Mapping[str, str]] = {
        "official": "VQA's script: answers are normalised only where the annotators differ",
        "lmms-eval": "answers are always normalised",
    }
    breakdowns: ClassVar[tuple[str, ...]] = ("question_type", "answer_type")
    instruction = SINGLE_WORD

    def load(self, truth: Truth) -> Sequence[Item]:
        """Official annotations and questions, or a TSV whose `answer` is the list of ten."""
        documents = of_split((*truth.files, *truth.question_files), truth.split)
        questions = _Questions(question for document in documents for question in _questions(document))
        items = kept_items(_item(entry, questions) for document in documents for entry in _annotations(document))
        if not items and len(questions):
            return kept_items(_item(VqaAnnotation(q.question_id, [], q.image_id), questions) for q in questions)
        if not items:
            raise truth.mismatch("a JSON object with `annotations`, each with `question_id` and `answers`")
        return items

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """The mean over the annotators; answers are compared raw where all annotators agree, but in lmms-eval."""
        said = normalizers.flat(text)
        given = [normalizers.flat(answer) for answer in item.target]
        if len(set(given)) > 1 or variant == "lmms-eval":
            said, given = normalizers.vqa(said), [normalizers.vqa(answer) for answer in given]
        return shared_verdict(said, normalizers.soft_accuracy(said, given))

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """Accuracy, rounded as the official script does."""
        return {"accuracy": _rounded(mean_score(scores))}

    def breakdown(self, scores: Sequence[Score], variant: str) -> Breakdown:
        """Accuracy by question and by answer type, rounded likewise."""
        parts = super().breakdown(scores, variant)

        def rounded(field: str) -> Mapping[str, Statistic | Metric]:
            numbers = parts[field]
            return OnDemand(numbers, lambda value: _rounded(numbers[value]))

        return OnDemand(parts, rounded)

    def submission(self, pairs: Sequence[Pair], split: str) -> Submission:
        """EvalAI's form: every question of the set, answers through the M4C processor, missing ones empty."""
        entries = [
            {"question_id": item.id, "answer": normalizers.m4c(answer.text) if answer is not None else ""}
            for item, answer in pairs
        ]
        return Submission("submission.json", msgspec.json.encode(entries))


WHOLE_PROCESSOR = "answers, the annotators' too, are always normalised, by the whole M4C processor"


def whole_processor(item: Item, text: str) -> Verdict:
    """As M4C scores TextVQA, and lmms-eval OK-VQA and VizWiz too: its whole processor for answer and annotators."""
    said = normalizers.m4c(text)
    return Verdict(said, normalizers.soft_accuracy(said, [normalizers.m4c(answer) for answer in item.target]))


def vlmevalkit_processor(item: Item, text: str) -> Verdict:
    """As VLMEvalKit scores TextVQA and VizWiz: answer and annotators through VQA's processor, but for periods."""
    said = normalizers.vlmevalkit(normalizers.flat(text))
    given = [normalizers.vlmevalkit(normalizers.flat(answer)) for answer in item.target]
    return Verdict(said, normalizers.soft_accuracy(said, given))


def _rounded(number: Statistic | Metric) -> Statistic | Metric:
    return dataclasses.replace(number, decimals=DECIMALS) if isinstance(number, Statistic) else number


class _Questions:
    """Questions by their ids, of several with one id the last."""

    def __init__(self, questions: Iterable[VqaQuestion]) -> None:
        self._all = kept(questions, VqaQuestion)
        self._finder = ItemFinder(self._all, _key)
        if not self._finder.index.is_unique:
            self._all = list({question.question_id: question for question in self._all}.values())
            self._finder = ItemFinder(self._all, _key)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[VqaQuestion]:
        return iter(self._all)

    def of(self, entry: VqaAnnotation) -> VqaQuestion | None:
        found = self._finder.find(*_key(entry))
        return None if found is None else found[1]


def _key(entry: VqaAnnotation | VqaQuestion) -> tuple[str]:
    return (repr(entry.question_id),)


def _annotations(document: Document) -> Iterable[VqaAnnotation]:
    if document.suffix in (".tsv", ".csv"):
        return map(_from_row, document.each())
    return document.elements("annotations", VqaAnnotation)


def _from_row(row: dict[str, Any]) -> VqaAnnotation:
    given: list[_AnnotatorAnswer | str] = list(listed(row.get("answer", "")))
    image = first(row, ("image_id", "image_path"), "")
    kinds = str(row.get("question_type", "")), str(row.get("answer_type", ""))
    return VqaAnnotation(whole(first(row, ("question_id", "index"))), given, image, *kinds)


def _questions(document: Document) -> Iterable[VqaQuestion]:
    if document.suffix in (".tsv", ".csv"):
        rows = document.each()
        return (VqaQuestion(whole(first(r, ("question_id", "index"))), str(r.get("question", ""))) for r in rows)
    if document.suffix == ".jsonl":
        # a `label` makes them POPE's, whose answers VQA's are not
        return (_llava_question(row) for row in document.each() if "label" not in row)
    return document.elements("questions", VqaQuestion)


def _llava_question(row: dict[str, Any]) -> VqaQuestion:
    text = str(first(row, ("text", "question"), "")).removesuffix(f"\n{SINGLE_WORD}")
    return VqaQuestion(row["question_id"], text, str(row.get("image", "")))


def _item(entry: VqaAnnotation, questions: _Questions) -> Item:
    question = questions.of(entry)
    image = str(entry.image_id or (question.image_id if question else ""))
    fields = {"question_type": entry.question_type, "answer_type": entry.answer_type}
    return Item(
        id=entry.question_id,
        question=question.question if question else "",
        target=[answer if isinstance(answer, str) else answer.answer for answer in entry.answers],
        image=image,
        group=image,
        fields={key: value for key, value in fields.items() if value},
    )
