"""OCR-VQA: book covers (Mishra et al., 2019)."""

from __future__ import annotations

from typing import Any

from mgtool.scoring.benchmark import Benchmark, Item, Verdict
from mgtool.scoring.ground_truth import Document, Row, Truth, listed, whole
from mgtool.scoring.instructions import SINGLE_WORD

TEST = 3


class OcrVqa(Benchmark):
    """Equality after strip and lower case."""

    name = "ocrvqa"
    title = "OCR-VQA"
    files = "dataset.json (ocr-vqa.github.io; its test split), or OCRVQA_TEST.tsv"
    metric = "accuracy, equal after strip and lower case"
    breakdowns = ("category",)
    instruction = SINGLE_WORD

    def load(self, truth: Truth) -> list[Item]:
        """The official JSON, whose questions are called by book and place (`0134_0`), or a TSV."""
        items = [item for document in truth.files for item in _items(document)]
        if not items:
            raise truth.mismatch("OCR-VQA's dataset.json: books with `questions` and `answers`")
        return items

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """Equal to any of the answers."""
        said = text.strip().lower()
        return Verdict(said, float(said in {answer.strip().lower() for answer in item.target}))


def _items(document: Document) -> list[Item]:
    if document.suffix in (".tsv", ".parquet"):
        return [_item_of_row(row) for row in document.rows()]
    books = document.json(dict[str, dict[str, Any]]) if document.keys else {}
    return [
        Item(
            id=f"{number}_{place}",
            question=question,
            target=[str(answer)],
            image=f"{number}.jpg",
            group=number,
            fields={"category": book["genre"]} if book.get("genre") else {},
        )
        for number, book in books.items()
        if book.get("split", TEST) == TEST and "questions" in book
        for place, (question, answer) in enumerate(zip(book["questions"], book["answers"], strict=True))
    ]


def _item_of_row(row: Row) -> Item:
    return Item(id=whole(row["index"]), question=str(row["question"]), target=listed(row.get("answer", "")))
