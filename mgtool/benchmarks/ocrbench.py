"""OCRBench (Liu et al., 2024; Yuliang-Liu/MultimodalOCR `example.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mgtool.scoring.benchmark import Benchmark, Item, Verdict
from mgtool.scoring.ground_truth import Document, Row, Truth, first, listed, picture_name, whole

FORMULAS = "Handwritten Mathematical Expression Recognition"
FORMULAS_SET = "HME100k"
_RECOGNITION = "Text Recognition"
_FULL_WIDTH = str.maketrans(
    {chr(0xFF01 + place): chr(0x21 + place) for place in range(94)} | {"\N{IDEOGRAPHIC SPACE}": " "}
)


class OcrBench(Benchmark):
    """A right answer has one of the expected texts in it; case counts in formulas alone."""

    name = "ocrbench"
    title = "OCRBench"
    files = "FullTest.json (github.com/Yuliang-Liu/MultimodalOCR), OCRBench.tsv, or the Parquet of echo840/OCRBench"
    metric = "accuracy: of the whole set a tenth of its points; by group and kind of question"
    variants: ClassVar[Mapping[str, str]] = {
        "official": "a right text is in the answer; in formulas white space does not count, and case does",
        "vlmevalkit": "as the official one",
        "lmms-eval": "as the official one, but full-width characters are plain ones",
    }
    breakdowns = ("group", "question_type")

    def load(self, truth: Truth) -> list[Item]:
        """The official list, a TSV, or Parquet."""
        items = [item for document in truth.files for item in _items(document)]
        if not items:
            raise truth.mismatch("OCRBench's list of `question`, `answers`, `type`")
        return items

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """Whether one of the texts is in the answer; lmms-eval takes full-width characters for plain ones."""
        is_formula = item.fields["is_formula"]
        folded = variant == "lmms-eval" and not is_formula
        said = _plain(text.translate(_FULL_WIDTH) if folded else text, is_formula=is_formula)
        expected = (answer.translate(_FULL_WIDTH) if folded else answer for answer in item.target)
        return Verdict(said, float(any(_plain(answer, is_formula=is_formula) in said for answer in expected)))


def _plain(text: str, *, is_formula: bool) -> str:
    if is_formula:
        return text.strip().replace("\n", " ").replace(" ", "")
    return text.lower().strip().replace("\n", " ")


def _items(document: Document) -> list[Item]:
    rows = document.rows() if document.suffix in (".json", ".jsonl", ".tsv", ".parquet") and not document.keys else []
    return [_item(row, place) for place, row in enumerate(rows) if "question" in row and _kind(row)]


def _kind(row: Row) -> str:
    return str(first(row, ("type", "question_type", "category"), ""))


def _item(row: Row, place: int) -> Item:
    kind = _kind(row)
    image = picture_name(row, ("image_path", "image"))
    return Item(
        id=whole(first(row, ("index", "question_id", "id"), place)),
        question=str(row["question"]),
        target=listed(first(row, ("answers", "answer"), [])),
        image=image,
        group=image,
        fields={
            "question_type": kind,
            "group": _RECOGNITION if kind.endswith("Recognition") and kind != FORMULAS else kind,
            "is_formula": kind == FORMULAS or first(row, ("dataset_name", "dataset"), "") == FORMULAS_SET,
        },
    )
