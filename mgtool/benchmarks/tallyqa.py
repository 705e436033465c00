"""TallyQA: counting (Acharya et al., 2019)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from mgtool.scoring.benchmark import OFFICIAL, Benchmark, Item, Verdict
from mgtool.scoring.ground_truth import Row, Truth, first, of_split, picture_name, whole

SINGLE_NUMBER = "Answer the question using a single number."
_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_COUNTS = {word: str(number) for number, word in enumerate(_WORDS.split())}
_NUMBERS = _COUNTS | {"none": "0"}
_COUNT = re.compile(rf"\b(?:[0-9]|1[0-9]|20|{'|'.join(_COUNTS)})\b")


class TallyQa(Benchmark):
    """Equality after strip and lower case; number words count as their digits."""

    name = "tallyqa"
    title = "TallyQA"
    files = "test.json (github.com/manoja328/tallyqa), or tallyqa_data.tsv"
    metric = "accuracy, of simple and of complex questions"
    variants: ClassVar[Mapping[str, str]] = {
        OFFICIAL: "the answer is the number, in digits or as a word",
        "vlmevalkit": "the first number from 0 to 20, in digits or as a word",
    }
    breakdowns = ("complexity", "data_source")
    instruction = SINGLE_NUMBER

    def load(self, truth: Truth) -> list[Item]:
        """The official list of `question_id`, `image`, `question`, `answer`, `issimple`."""
        documents = of_split(truth.files, truth.split)
        rows = [row for document in documents for row in document.rows() if "question" in row and "answer" in row]
        if not rows:
            raise truth.mismatch("TallyQA's list of `question_id`, `image`, `question`, `answer`")
        return [_item(row) for row in rows]

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """Equal numbers, in digits or words."""
        if variant != OFFICIAL:
            found = _COUNT.search(text.lower())
            read = _COUNTS.get(found[0], found[0]) if found else None
            return Verdict(read, float(read == item.target.strip()))
        said = _digits(text)
        return Verdict(said, float(said == _digits(item.target)))


def _digits(text: str) -> str:
    plain = text.strip().lower()
    return _NUMBERS.get(plain, plain)


def _item(row: Row) -> Item:
    fields = {"complexity": "simple" if row["issimple"] else "complex"} if "issimple" in row else {}
    fields |= {"data_source": row["data_source"]} if row.get("data_source") else {}
    return Item(
        id=whole(first(row, ("question_id", "index"))),
        question=str(row["question"]),
        target=str(row["answer"]),
        image=picture_name(row, ("image", "image_path")),
        group=str(first(row, ("image_id", "image"), "")),
        fields=fields,
    )
