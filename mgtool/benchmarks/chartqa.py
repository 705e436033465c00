"""ChartQA (Masry et al., 2022; relaxed accuracy as in pix2struct)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import msgspec
import numpy as np

from mgtool.records import Score
from mgtool.scoring.benchmark import (
    SINGLE_WORD,
    Benchmark,
    Item,
    Verdict,
    by_field,
    mean_score,
)
from mgtool.scoring.ground_truth import TABLES, Document, Row, Truth, first, listed, whole
from mgtool.scoring.predictions import Prediction
from mgtool.scoring.statistics import Floats, Metric, Statistic, codes, ratio
from mgtool.scoring.text_metrics import relaxed

SPLITS = ("human", "augmented")


class ChartQa(Benchmark):
    """Numbers may be 5 % off; everything else has to be equal."""

    name = "chartqa"
    title = "ChartQA"
    files = "test_human.json and test_augmented.json (github.com/vis-nlp/ChartQA), or ChartQA_TEST.tsv, or Parquet"
    metric = "relaxed accuracy: human, augmented, and the mean of the two"
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
        said = text.strip()
        return Verdict(said, float(any(relaxed(said, answer) for answer in item.target)))

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """The mean of the two splits, and each of them."""
        parts = by_field(scores, "split")
        known = [split for split in SPLITS if split in parts] or list(parts)
        splits: dict[str, Statistic | Metric] = {split: mean_score(parts[split]) for split in known}
        return {"accuracy": _mean_of_splits(scores, known), **splits}


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


def _mean_of_splits(scores: Sequence[Score], splits: Sequence[str]) -> Statistic:
    rows = np.zeros((len(scores), 2 * len(splits)))
    for row, score in zip(rows, scores, strict=True):
        at = splits.index(score.fields["split"]) if score.fields["split"] in splits else -1
        if at >= 0:
            row[2 * at : 2 * at + 2] = score.score, 1

    def mean(sums: Floats) -> Floats:
        parts = ratio(sums[..., 0::2], sums[..., 1::2])
        return np.asarray(parts.mean(-1))

    return Statistic(rows, codes(score.group for score in scores), mean)
