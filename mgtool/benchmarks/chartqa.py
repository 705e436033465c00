"""ChartQA (Masry et al., 2022; relaxed accuracy as in pix2struct)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import ClassVar

import msgspec

from mgtool.records import Score
from mgtool.scoring.benchmark import OFFICIAL, Benchmark, Item, Verdict, by_field, mean_of_parts, mean_score
from mgtool.scoring.ground_truth import TABLES, Document, Row, Truth, first, listed, whole
from mgtool.scoring.instructions import SINGLE_WORD
from mgtool.scoring.lmms_eval import LMMS_EVAL
from mgtool.scoring.predictions import Prediction
from mgtool.scoring.statistics import Metric, Statistic
from mgtool.scoring.text_metrics import relaxed

SPLITS = ("human", "augmented")


class ChartQa(Benchmark):
    """Numbers may be 5 % off; everything else has to be equal."""

    name = "chartqa"
    title = "ChartQA"
    files = "test_human.json and test_augmented.json (github.com/vis-nlp/ChartQA), or ChartQA_TEST.tsv, or Parquet"
    metric = "relaxed accuracy: human, augmented, and the mean of the two"
    variants: ClassVar[Mapping[str, str]] = {
        "official": "relaxed equality without white space around; the mean of the two splits, as MG-LLaVA has it",
        "vlmevalkit": "the same, over all questions together",
        LMMS_EVAL: "white space around a word counts; over all questions together",
    }
    instruction = SINGLE_WORD

    def load(self, truth: Truth) -> list[Item]:
        """Both official files, whose questions have no ids: they are called `human/0`, ... in the files' order."""
        items = [
            item
            for doc in truth.files
            for place, row in enumerate(doc.rows())
            if truth.split in (item := _item(row, place, doc)).fields["split"]
        ]
        if len({item.fields["split"] for item in items}) == 1:
            items = [msgspec.structs.replace(item, aliases=(*item.aliases, _number_of(item))) for item in items]
        if not items:
            raise truth.mismatch("ChartQA's lists of `imgname`, `query`, `label`")
        return items

    def keys(self, prediction: Prediction) -> Iterable[str]:
        """The id; else picture and question."""
        yield str(prediction.id)
        split = prediction.fields.get("split") or prediction.fields.get("category")
        yield f"{str(split).removeprefix('test_')}/{prediction.id}"
        yield _key(prediction.image, prediction.prompt.removesuffix(f"\n{SINGLE_WORD}"))

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """The best over the answers, of which there is one as a rule."""
        said = text if variant == LMMS_EVAL else text.strip()
        return Verdict(said, float(any(relaxed(said, answer) for answer in item.target)))

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """The mean of the two splits, and each of them."""
        parts = by_field(scores, "split")
        known = [split for split in SPLITS if split in parts] or list(parts)
        splits: dict[str, Statistic | Metric] = {split: mean_score(parts[split]) for split in known}
        whole = mean_of_parts(scores, "split", known) if variant == OFFICIAL else mean_score(scores)
        return {"accuracy": whole, **splits}


def _number_of(item: Item) -> str:
    """Its place in its file, which names it where there is one split."""
    return str(item.id).rpartition("/")[2]


def _item(row: Row, place: int, document: Document) -> Item:
    named = str(first(row, ("split", "human_or_machine", "type"), document.stem))
    split = "human" if "human" in named or named == "0" else "augmented" if named != document.stem else named
    split = "augmented" if "augmented" in named else split
    image = str(first(row, ("imgname", "image_path"), ""))
    question = str(first(row, ("query", "question"), ""))
    label = first(row, ("label", "answer"), "")
    several = document.suffix in TABLES or isinstance(label, list)  # the official files' "[2014, 2016]" is one text
    number = row.get("index")
    return Item(
        id=whole(number) if number is not None else f"{split}/{place}",
        question=question,
        target=listed(label) if several else [str(label)],
        image=image,
        group=image,
        fields={"split": split},
        aliases=(_key(image, question),) if image else (),
    )


def _key(image: str, question: str) -> str:
    return f"{PurePosixPath(image).name}\n{question.strip()}"
