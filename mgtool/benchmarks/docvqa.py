"""DocVQA (Mathew et al., 2021; the RRC's `evaluation.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from mgtool.records import dumps
from mgtool.scoring.benchmark import Benchmark, Item, Pair, Submission, Verdict, with_targets
from mgtool.scoring.ground_truth import Row, Truth, data_rows, first, listed, of_split, picture_name, whole
from mgtool.scoring.instructions import SINGLE_WORD
from mgtool.scoring.text_metrics import similarity, spaced


class DocVqa(Benchmark):
    """Average normalised Levenshtein similarity."""

    name = "docvqa"
    title = "DocVQA"
    files = "val_v1.0_withQT.json (rrc.cvc.uab.es, challenge 17), or DocVQA_VAL.tsv; test_v1.0.json: submission"
    metric = "ANLS: 1 - edit distance / length, best answer, under 0.5 counts 0"
    headline = "anls"
    breakdowns: ClassVar[tuple[str, ...]] = ("question_types",)
    instruction = SINGLE_WORD

    def load(self, truth: Truth) -> Sequence[Item]:
        """The official JSON with `data`, or a TSV."""
        items = [self._item(row) for document in of_split(truth.files, truth.split) for row in data_rows(document)]
        if not items:
            raise truth.mismatch(f"{self.title}'s JSON: an object with `data`, each with `questionId`, `answers`")
        return with_targets(items)

    def _item(self, row: Row) -> Item:
        image = picture_name(row, ("image_local_name", "image", "image_path"))
        fields: dict[str, Any] = {name: row[name] for name in self.breakdowns if row.get(name)}
        return Item(
            id=whole(first(row, ("questionId", "question_id", "index"))),
            question=str(row["question"]),
            target=listed(first(row, ("answers", "answer"), [])),
            image=image,
            group=image,
            fields=fields,
        )

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """The similarity to the nearest answer."""
        return Verdict(spaced(text), max((similarity(text, answer) for answer in item.target), default=0.0))

    def submission(self, pairs: Sequence[Pair], split: str) -> Submission:
        """The RRC's form."""
        entries = [{"questionId": item.id, "answer": answer.text if answer else ""} for item, answer in pairs]
        return Submission("submission.json", dumps(entries))
