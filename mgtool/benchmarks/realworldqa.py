"""RealWorldQA (xAI, 2024; scored as VLMEvalKit does, as its authors gave no script)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from mgtool.scoring.benchmark import Item, Verdict
from mgtool.scoring.ground_truth import Document, Row
from mgtool.scoring.lmms_eval import ANYWHERE, LMMS_EVAL
from mgtool.scoring.multiple_choice import ChoiceBenchmark, named_anywhere

LETTERS = "ABCD"


class RealWorldQa(ChoiceBenchmark):
    """Choices about street scenes and other everyday views, and questions with a word or a number for an answer."""

    name = "realworldqa"
    title = "RealWorldQA"
    files = "RealWorldQA.tsv (opencompass.openxlab.space), or the Parquet of xai-org/RealworldQA"
    variants: ClassVar[Mapping[str, str]] = {
        **ChoiceBenchmark.variants,
        LMMS_EVAL: f"{ANYWHERE}; an answer that is no letter has to be equal in lower case",
    }
    breakdowns = ("category",)

    def rows(self, document: Document) -> Iterable[Row]:
        """A file's rows; xAI's have no ids, and go by their place."""
        return ({"index": place, **row} for place, row in enumerate(document.each()))

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """The letter; where no letter is right, as in the authors' files, the text without its full stop."""
        target = (item.target or "").strip()
        if target.upper() in tuple(LETTERS):
            return named_anywhere(item, text) if variant == LMMS_EVAL else super().score(item, text, variant)
        said = text.lower().strip().rstrip(".")
        return Verdict(said, float(bool(target) and said == target.lower()))
