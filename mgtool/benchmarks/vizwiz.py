"""VizWiz-VQA (Gurari et al., 2018; the VizWiz API's `vqaEval.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import ClassVar

from mgtool.benchmarks.vqav2 import WHOLE_PROCESSOR, Vqav2, vlmevalkit_processor, whole_processor
from mgtool.records import dumps
from mgtool.scoring import normalizers
from mgtool.scoring.benchmark import OFFICIAL, Item, Pair, Submission, Verdict
from mgtool.scoring.ground_truth import Row, Truth, first, listed, of_split, picture_name, whole
from mgtool.scoring.instructions import UNANSWERABLE
from mgtool.scoring.predictions import Prediction


class VizWiz(Vqav2):
    """Questions that blind people asked; one a picture, many of them without an answer."""

    name = "vizwiz"
    title = "VizWiz-VQA"
    files = "Annotations/val.json (vizwiz.org/tasks-and-datasets/vqa), or VizWiz.tsv; test.json: submission"
    variants: ClassVar[Mapping[str, str]] = {
        "official": "the script normalises every answer, and no annotator's",
        "vlmevalkit": "answers, the annotators' too, are always normalised; a period beside a digit stays",
        "lmms-eval": WHOLE_PROCESSOR,
    }
    breakdowns = ("answer_type",)
    others_instructions: ClassVar[Mapping[str, str]] = {"llava": UNANSWERABLE, "vlmevalkit": ""}

    def load(self, truth: Truth) -> list[Item]:
        """A list of `image`, `question`, `answers`, `answer_type`; the picture's name is the id."""
        documents = of_split(truth.files, truth.split)
        rows = [row for document in documents for row in document.rows() if "question" in row]
        if not rows:
            raise truth.mismatch("VizWiz's list of `image`, `question`, `answers`")
        return [_item(row, place) for place, row in enumerate(rows)]

    def keys(self, prediction: Prediction) -> Iterable[str]:
        """The picture's name, wherever the answer has it."""
        yield str(prediction.id)
        yield PurePosixPath(prediction.image).name

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """The mean over the annotators; unlike VQA's, the script normalises every answer, and no annotator's."""
        if variant == "vlmevalkit":
            return vlmevalkit_processor(item, text)
        if variant != OFFICIAL:
            return whole_processor(item, text)
        said = normalizers.vizwiz(normalizers.flat(text))
        return Verdict(said, normalizers.soft_accuracy(said, item.target))

    def submission(self, pairs: Sequence[Pair], split: str) -> Submission:
        """EvalAI's form: `image` and `answer`."""
        entries = [{"image": item.image, "answer": normalizers.m4c(a.text) if a else ""} for item, a in pairs]
        return Submission("submission.json", dumps(entries))


def _item(row: Row, place: int) -> Item:
    image = picture_name(row, ("image_path", "image"))
    given = first(row, ("answers", "answer"), [])
    answers = [entry["answer"] for entry in given] if given and isinstance(given[0], dict) else listed(given)
    number = row.get("index", row.get("question_id"))
    return Item(
        id=whole(number) if number is not None else image or place,
        question=str(row["question"]),
        target=[str(answer) for answer in answers],
        image=image,
        group=image,
        fields={"answer_type": row["answer_type"]} if row.get("answer_type") else {},
        aliases=(image,) if image else (),
    )
