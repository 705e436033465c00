"""POPE: is there a ... in the image? (Li et al., 2023; AoiDragon/POPE `evaluate.py`)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import msgspec
import numpy as np

from mgtool.errors import UsageError
from mgtool.records import Score
from mgtool.scoring.benchmark import (
    OFFICIAL,
    Item,
    Verdict,
    by_field,
    kept_items,
    shared_verdict,
)
from mgtool.scoring.clusters import Floats, Groups, ratio
from mgtool.scoring.compact import Column, TableRows
from mgtool.scoring.ground_truth import Document, Row, Truth, first, picture_name, whole
from mgtool.scoring.instructions import SINGLE_WORD, YES_OR_NO
from mgtool.scoring.item_index import ItemIndex
from mgtool.scoring.judged import YesOrNoBenchmark, unread_notes
from mgtool.scoring.normalizers import yes_or_no
from mgtool.scoring.predictions import Prediction
from mgtool.scoring.score_file import groups_of, together
from mgtool.scoring.statistics import Metric, Statistic, share_of

Key = TypeVar("Key")
SPLITS = ("random", "popular", "adversarial")
_COUNTS = 9
_NO = frozenset({"No", "not", "no"})


class Pope(YesOrNoBenchmark):
    """Yes or no about objects; the published figure is the mean F1 of three ways to draw absent objects."""

    name = "pope"
    title = "POPE: Polling-based Object Probing Evaluation"
    files = (
        "coco_pope_{random,popular,adversarial}.json (github.com/AoiDragon/POPE, output/coco), with LLaVA's "
        "llava_pope_test.jsonl as `questions` where the answers have its ids; or VLMEvalKit's POPE.tsv"
    )
    metric = "mean F1 of the three splits; accuracy, precision, recall, F1, yes ratio of each"
    headline = "f1"
    variants: ClassVar[Mapping[str, str]] = {
        "official": "a no in the first sentence is no, all else is yes; f1 is the mean over the three splits",
        "vlmevalkit": "exactly one of the words yes and no, a judge where there is none; f1 is over all items together",
        "mg-llava": "the word yes without the word no is yes, all else is no; f1 is the mean over the splits",
        "lmms-eval": "the answer in lower case is yes or no alone; f1 is over all items, yes_ratio of the labels",
    }
    noted = ("split",)
    instruction = YES_OR_NO
    others_instructions: ClassVar[Mapping[str, str]] = {"llava": SINGLE_WORD, "vlmevalkit": ""}

    def load(self, truth: Truth) -> Sequence[Item]:
        """Official files (one a split), LLaVA's question file over them, or a TSV with all splits."""
        items = kept_items(item for document in truth.files for item in _items(document, truth.split))
        if truth.split and not items and len(truth.files) == 1:
            items = kept_items(_items(truth.files[0], truth.split, is_only=True))
        if not items:
            raise truth.mismatch(f"POPE questions with `label`{f' of split {truth.split}' if truth.split else ''}")
        if truth.questions:
            asked = [row for document in truth.question_files for row in document.rows()]
            return _addressed(_renamed(items, asked, truth.split))
        return _addressed(items)

    def keys(self, prediction: Prediction) -> Iterable[str]:
        """The id within the split that the answer names; the id alone where it names none."""
        split = prediction.fields.get("split") or prediction.fields.get("category")
        yield f"{split}/{prediction.id}" if split in SPLITS else str(prediction.id)

    def aliases(self, item: Item) -> Iterable[str]:
        """The id within each of the item's splits; within any, where it has none of them."""
        splits = _splits(item)
        number = str(item.id).removeprefix(f"{splits[0]}/")
        return (f"{split}/{number}" for split in (splits if set(splits) & set(SPLITS) else SPLITS))

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """Everything that is not a no is a yes."""
        said = _READERS[variant](text)
        return shared_verdict(said, float(said == item.target))

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """Mean F1 (the frameworks pool the splits instead), then five numbers for each split."""
        parts = _in_order(by_field(scores, "split"))
        counted = {split: (_confusion(part, variant), groups_of(part)) for split, part in parts.items()}
        only = next(iter(counted.values())) if len(parts) == 1 else None
        numbers: dict[str, Statistic | Metric]
        if variant not in _MEANS or not parts:
            members = together(list(parts.values()))  # an item of two splits counts in both
            numbers = {"f1": Statistic(*(only or (_confusion(members, variant), groups_of(members))), _f1)}
        elif only is not None and len(only[0]) == len(scores):
            numbers = {"f1": Statistic(*only, _f1)}
        else:
            numbers = {"f1": _mean_f1(scores, list(parts))}
        return numbers | {
            f"{split}.{metric}": _number(metric, *rows, variant) for split, rows in counted.items() for metric in _SHOWN
        }

    def notes(self, scores: Sequence[Score], variant: str) -> list[str]:
        """Which splits the mean is over."""
        splits = list(_in_order(by_field(scores, "split")))
        if variant not in _MEANS:
            unread = unread_notes(scores, "they count as neither")
            labels = ["yes_ratio is the share of labels that are yes, as lmms-eval has it, whatever the answers are"]
            return [
                *unread,
                *(labels if variant == "lmms-eval" else []),
                f"f1 is over all items together, as {variant} has it, not the mean over the splits",
            ]
        return [] if set(splits) == set(SPLITS) else [f"f1 is the mean over {', '.join(splits)} only"]


def _official(text: str) -> str:
    first_sentence = text.split(".")[0]
    return "no" if _NO & set(first_sentence.replace(",", "").split(" ")) else "yes"


_MEANS = (OFFICIAL, "mg-llava")
"""The variants whose f1 is the mean over the splits."""
_READERS: dict[str, Callable[[str], str | None]] = {
    "official": _official,
    "vlmevalkit": yes_or_no,
    "mg-llava": lambda text: "yes" if yes_or_no(text) == "yes" else "no",
    "lmms-eval": lambda text: text.lower().strip(),
}


def _items(document: Document, wanted: str, *, is_only: bool = False) -> Iterator[Item]:
    """A file's questions, of one split where it is wanted; where the file is the only one, all are of that split."""
    match = re.search(r"pope_(\w+)$", document.stem)
    fields: dict[str, dict[str, Any]] = {}  # which all questions of a split have in common
    for row in document.each():
        split = str(first(row, ("category", "split"), match[1] if match else "")) or "all"
        if first(row, ("label", "answer")) is None or (wanted and not is_only and wanted not in split.split(",")):
            continue
        named = wanted or split
        yield _item(row, fields.setdefault(named, {"split": named.split(",") if "," in named else named}))


def _item(row: Row, fields: dict[str, Any]) -> Item:
    image = sys.intern(picture_name(row, ("image", "image_path")))
    return Item(
        id=whole(first(row, ("index", "question_id", "id"))),
        question=sys.intern(str(first(row, ("text", "question"), ""))),
        target="no" if str(first(row, ("label", "answer"))).lower() == "no" else "yes",
        image=image,
        group=image,
        fields=fields,
    )


def _splits(item: Item) -> list[str]:
    own = item.fields["split"]
    return own if isinstance(own, list) else [own]


def _addressed(items: Sequence[Item]) -> Sequence[Item]:
    """Items with ids that are theirs alone.

    Official files number each split from 1; then the id alone is no address, and the split becomes a part of it.
    """
    if ItemIndex(items).is_unique:
        return items
    return kept_items(msgspec.structs.replace(item, id=f"{_splits(item)[0]}/{item.id}") for item in items)


def _renamed(items: Sequence[Item], questions: list[Row], split: str) -> Sequence[Item]:
    """Give the items the ids of a question file, matched by split, picture and question."""
    ids: dict[tuple[str, str, str], Any] = {}
    for row in questions:
        key = (str(row.get("category", split)), str(row.get("image", "")), _bare(str(row.get("text", ""))))
        ids[key] = row.get("question_id")

    def renamed(item: Item) -> Item:
        key = (str(item.fields["split"]), item.image, _bare(item.question))
        if key not in ids:
            raise UsageError("questions", f"has no {key[0]} question about {item.image}: {item.question}")
        return msgspec.structs.replace(item, id=ids[key])

    return kept_items(map(renamed, items))


def _bare(question: str) -> str:
    return question.split("\n")[0].strip().lower()


def _in_order(parts: dict[str, Sequence[Score]]) -> dict[str, Sequence[Score]]:
    known = [split for split in SPLITS if split in parts]
    return {split: parts[split] for split in [*known, *(split for split in parts if split not in known)]}


def _confusion(scores: Sequence[Score], variant: str = OFFICIAL) -> TableRows:
    """(n, 9): true positive, false positive, false negative, true negative, right, said yes, said anything, 1, is yes.

    An item without an answer is wrong: a miss where yes was right, a false alarm where no was. lmms-eval counts an
    answer that is neither yes nor no as no miss, so that its recall is higher.
    """
    return _tabled((_counted(score, variant) for score in scores), lambda counts: counts)


def _tabled(keys: Iterable[Key], row_of: Callable[[Key], Sequence[int]]) -> TableRows:
    """A row of counts for each key, of which few differ."""
    found = Column()
    found.extend(keys)
    rows = [row_of(key) for key in found.values[1:]]
    table = np.array([[0] * len(rows[0]), *rows], np.uint8) if rows else np.zeros((1, _COUNTS), np.uint8)
    return TableRows(found.codes, table)


def _counted(score: Score, variant: str) -> tuple[int, ...]:
    positive, answered = score.target == "yes", score.status == "answered"
    said_yes = score.extracted == "yes" if answered else not positive
    missed = positive and not said_yes and not (variant == "lmms-eval" and answered and score.extracted != "no")
    confusion = positive and said_yes, not positive and said_yes, missed, not positive and not said_yes
    return *confusion, int(score.score), answered and said_yes, answered, 1, positive


_SHARES = {
    "accuracy": ((4,), (7,)),
    "precision": ((0,), (0, 1)),
    "recall": ((0,), (0, 2)),
    "yes_ratio": ((5,), (6,)),
}
"""The columns that are counted, and those that they are a share of."""
_SHOWN = ("accuracy", "precision", "recall", "f1", "yes_ratio")
_YES_LABELS = ((8,), (7,))
"""The share of questions whose answer is yes; lmms-eval calls that the yes ratio."""


def _f1(sums: Floats) -> Floats:
    precision = ratio(sums[..., 0], sums[..., 0] + sums[..., 1])
    recall = ratio(sums[..., 0], sums[..., 0] + sums[..., 2])
    return ratio(2 * precision * recall, precision + recall)


def _number(metric: str, counts: TableRows, groups: Groups, variant: str) -> Statistic:
    columns = _YES_LABELS if (metric, variant) == ("yes_ratio", "lmms-eval") else _SHARES.get(metric)
    return Statistic(counts, groups, _f1) if columns is None else share_of(counts, groups, *columns)


def _mean_f1(scores: Sequence[Score], splits: list[str]) -> Statistic:
    """F1 averaged over the splits; pictures are drawn once for all splits, as they share them."""

    def row(key: tuple[tuple[int, ...], str | tuple[str, ...]]) -> list[int]:
        counts, own = key
        return [number * _in(own, split) for split in splits for number in counts]

    def mean(sums: Floats) -> Floats:
        return np.asarray(_f1(sums.reshape(*sums.shape[:-1], len(splits), _COUNTS)).mean(-1))

    rows = _tabled(((_counted(score, OFFICIAL), _own_splits(score)) for score in scores), row)
    return Statistic(rows, groups_of(scores), mean)


def _own_splits(score: Score) -> str | tuple[str, ...]:
    own = score.fields["split"]
    return tuple(own) if isinstance(own, list) else str(own)


def _in(own: str | tuple[str, ...], split: str) -> bool:
    return split == own if isinstance(own, str) else split in own
