"""RefCOCO, RefCOCO+ and RefCOCOg: the object of an expression (Yu et al., 2016; Mao et al., 2016)."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import msgspec

from mgtool.errors import InputError
from mgtool.records import Box, Detections, Sample, Score
from mgtool.scoring.benchmark import Benchmark, Item, Judge, Pair, Verdict, by_field, mean_of_parts, mean_score
from mgtool.scoring.boxes_in_text import LARGEST_FRACTION, SCALES, corners, hundredths_overlap, in_pixels
from mgtool.scoring.ground_truth import Document, Row, Truth, first, listed, whole
from mgtool.scoring.instructions import question_of
from mgtool.scoring.multiple_choice import picture_of
from mgtool.scoring.predictions import Prediction
from mgtool.scoring.statistics import Metric, Statistic

THRESHOLD = 0.5
ASKED = "Please provide the bounding box coordinate of the region this sentence describes"
SPLITTINGS = ("(unc)", "(umd)")
"""Whose splits RefCOCO and RefCOCO+, and RefCOCOg, are reported on; the authors of the data made others, `google`."""
Size = tuple[float, float] | None
MG_LLAVA = "mg-llava"
NO_BOX: Box = (0.0, 0.0, 0.0, 0.0)
VLMEVALKIT_SPLITS = (
    *(f"{name}_{split}" for name in ("RefCOCO", "RefCOCO+") for split in ("val", "testA", "testB")),
    "RefCOCOg_val",
    "RefCOCOg_test",
)


class RefCoco(Benchmark):
    """The best box that is labelled with the expression has to overlap the object by half."""

    name = "refcoco"
    title = "RefCOCO / RefCOCO+ / RefCOCOg"
    files = (
        "refs(unc).p or refs(umd).p with instances.json (github.com/lichengunc/refer), MDETR's "
        "finetune_refcoco_val.json, JSON lines of image, sent, bbox (x0, y0, x1, y1), width, height, or VLMEvalKit's "
        "RefCOCO.tsv; a box folder, or answers with coordinates in text"
    )
    metric = "accuracy at IoU 0.5"
    takes = "either"
    variants: ClassVar[Mapping[str, str]] = SCALES
    breakdowns: ClassVar[tuple[str, ...]] = ("split",)

    def prompt(self, sample: Sample) -> str:
        """The request for coordinates, unless the question file has it."""
        question = question_of(sample)
        return question if ASKED in question else f"{ASKED}: {question}"

    def load(self, truth: Truth) -> list[Item]:
        """Expressions with the box of their object."""
        items = _items(truth)
        chosen = [item for item in items if _is_of_split(item, truth.split)]
        if not chosen:
            raise truth.mismatch("expressions with boxes: refs(*).p and instances.json, MDETR's JSON, or JSON lines")
        return chosen

    def addressed(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> Sequence[Prediction]:
        """One prediction for each expression, with the boxes of its picture, found by file name.

        Answers in text name their expression by its id.
        """
        if not any(prediction.detections for prediction in predictions):
            return predictions
        by_name = {_base(prediction.image): prediction for prediction in predictions}
        wanted = {_base(item.image) for item in items}
        strangers = [prediction for name, prediction in by_name.items() if name not in wanted]
        shared = [(item, by_name[_base(item.image)]) for item in items if _base(item.image) in by_name]
        return [msgspec.structs.replace(found, id=item.id) for item, found in shared] + strangers

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> list[Verdict]:
        """The overlap of the chosen box."""
        asked = {_spelled(item.question) for item, _ in pairs}
        return [
            self.missing(item)
            if answer is None
            else _verdict(item, answer, asked)
            if answer.detections
            else self.score(item, answer.text, variant)
            for item, answer in pairs
        ]

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """The overlap of a box that was written as text.

        Raises:
            InputError: for fractions, where the ground truth does not say how large the picture is.
        """
        if variant == MG_LLAVA:
            return _in_hundredths(item, text)
        written = corners(text, variant)
        if written is None:
            return Verdict(None, 0.0)
        box = in_pixels(written, variant, item.target["size"])
        if box is None:
            raise InputError(f"expression {item.id}: fractions need `width` and `height` of {item.image} in the truth")
        overlap = _iou(box, item.target["xyxy"])
        found = {"boxes": [box], "scores": [1.0], "labels": [item.question]}
        return Verdict(found, float(overlap >= THRESHOLD), {"iou": round(overlap, 4)})

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """Accuracy; VLMEvalKit's is the mean over the splits that it knows."""
        parts = by_field(scores, "split")
        splits = [split for split in VLMEVALKIT_SPLITS if split in parts]
        return {
            "accuracy": mean_of_parts(scores, "split", splits)
            if variant == "vlmevalkit" and splits
            else mean_score(scores)
        }

    def notes(self, scores: Sequence[Score], variant: str) -> list[str]:
        """How many boxes were chosen without a label to go by."""
        if variant == "vlmevalkit" and any(score.fields.get("split") in VLMEVALKIT_SPLITS for score in scores):
            return ["accuracy is the mean over the splits, as vlmevalkit has it, not over the expressions"]
        unlabelled = sum(bool(score.fields.get("by_score_alone")) for score in scores)
        if not unlabelled:
            return []
        return [f"{unlabelled:,} pictures have no box labelled with an expression: the best box was taken"]


def _in_hundredths(item: Item, text: str) -> Verdict:
    if item.target["size"] is None:
        raise InputError(f"expression {item.id}: hundredths need `width` and `height` of {item.image} in the truth")
    overlap = hundredths_overlap(text, item.target["xyxy"], item.target["size"])
    return Verdict(" ".join(text.split()), float(overlap > THRESHOLD), {"iou": round(overlap, 4)})


def _is_of_split(item: Item, split: str) -> bool:
    own = str(item.fields.get("split", split))
    return not split or own == split or own.endswith(f"_{split}")


def _verdict(item: Item, answer: Prediction, asked: frozenset[str] | set[str]) -> Verdict:
    """The best box of the expression; where no label of the picture is any expression, the best box of all."""
    detections = answer.detections or Detections()
    ranked = sorted(zip(detections.boxes, detections.scores, detections.labels, strict=True), key=lambda row: -row[1])
    own = [row for row in ranked if _spelled(row[2]) == _spelled(item.question)]
    blind = not own and not any(_spelled(label) in asked for label in detections.labels)
    chosen = (own or (ranked if blind else []))[:1]
    if not chosen:
        return Verdict(None, 0.0)
    box, score, label = chosen[0]
    found = {"boxes": [box], "scores": [score], "labels": [label]}
    overlap = _iou(box, item.target["xyxy"])
    fields = {"iou": round(overlap, 4)} | ({"by_score_alone": True} if blind else {})
    return Verdict(found, float(overlap >= THRESHOLD), fields)


def _iou(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - shared
    return shared / union if union > 0 else 0.0


def _base(name: str) -> str:
    return PurePosixPath(name).name


def _spelled(expression: str) -> str:
    return " ".join(expression.casefold().split())


def _items(truth: Truth) -> list[Item]:
    pickles = [document for path in truth.paths for document in _pickles(path)]
    instances = next((d for d in truth.files if "annotations" in d.keys and "categories" in d.keys), None)
    if pickles and instances is None:
        raise truth.mismatch("instances.json beside refs(*).p")
    if pickles and instances is not None:
        boxes = {row["id"]: row["bbox"] for row in instances.part("annotations", list[Row])}
        sizes = {row["id"]: _size(row) for row in instances.part("images", list[Row])}
        return [item for document in pickles for ref in _refs(document) for item in _of_ref(ref, boxes, sizes)]
    return [item for document in truth.files for item in _of_document(document)]


def _pickles(path: Path) -> list[Document]:
    """The references of a path; of a folder with several splittings of the same pictures that of the papers.

    Raises:
        InputError: when a folder has several, and the usual one is not among them.
    """
    if not path.is_dir():
        return [Document(path)] if path.suffix == ".p" else []
    files = sorted(path.glob("refs*.p"))
    chosen = [file for file in files if any(name in file.name for name in SPLITTINGS)] if len(files) > 1 else files
    if len(files) > 1 and len(chosen) != 1:
        names = ", ".join(file.name for file in files)
        raise InputError(
            f"{path}: several splittings of the same pictures ({names}): give one of them, and instances.json, by name"
        )
    return [Document(file) for file in chosen]


class _PlainUnpickler(pickle.Unpickler):
    """Lists, dictionaries, texts and numbers only: a pickle that names any class or function is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}, and may hold plain data only")


def _refs(document: Document) -> list[Row]:
    try:
        refs: list[Row] = _PlainUnpickler(io.BytesIO(document.bytes), encoding="utf-8").load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, UnicodeDecodeError) as error:
        raise InputError(f"{document.path}: not a list of references: {error}") from error
    return refs


def _of_ref(ref: Row, boxes: Mapping[int, Sequence[float]], sizes: Mapping[int, Size]) -> list[Item]:
    image = re.sub(r"_\d+(?=\.\w+$)", "", str(ref["file_name"]))
    size, split = sizes.get(ref.get("image_id", 0)), str(ref.get("split", ""))
    return [
        _item(sentence["sent_id"], image, sentence["sent"], boxes[ref["ann_id"]], split, size)
        for sentence in ref["sentences"]
    ]


def _of_document(document: Document) -> list[Item]:
    if {"images", "annotations"} <= document.keys.keys():
        boxes = {row["image_id"]: row["bbox"] for row in document.part("annotations", list[Row])}
        pictures = [row for row in document.part("images", list[Row]) if row.get("caption")]
        return [_item(r["id"], r["file_name"], r["caption"], boxes[r["id"]], "", _size(r)) for r in pictures]
    if document.suffix not in (".json", ".jsonl", ".tsv") or (document.keys and document.suffix == ".json"):
        return []
    rows = document.rows()
    if document.suffix == ".tsv" and rows and "bbox" not in rows[0]:
        return _of_table(rows)
    return [_of_row(row, place) for place, row in enumerate(rows) if "bbox" in row]


def _of_table(rows: Sequence[Row]) -> list[Item]:
    """VLMEvalKit's RefCOCO.tsv; its answers are named by split and index."""
    boxes = _table_boxes(rows)
    if not boxes:
        return []
    splits = [str(row.get("split") or _table_split(str(row.get("category", "")))) for row in rows]
    repeated = len({row["index"] for row in rows}) < len(rows)
    items = []
    for row, box, split in zip(rows, boxes, splits, strict=True):
        x0, y0, x1, y1 = box
        full = f"{split}_{row['index']}"
        image = picture_of(row, ("image_path", "image"))
        number = full if repeated else whole(row["index"])
        item = _item(number, image, str(row["question"]), (x0, y0, x1 - x0, y1 - y0), split, _size(row))
        items.append(msgspec.structs.replace(item, aliases=(full,)))
    return items


def _table_boxes(rows: Sequence[Row]) -> list[Box]:
    """Pixels, in columns of their own or in the answers; answers that are fractions throughout are of the size."""
    names = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
    if all(name in row for row in rows for name in names):
        return [corners(" ".join(str(row[name]) for name in names)) or NO_BOX for row in rows]
    written = [corners(str(row.get("answer", "")), "vlmevalkit") for row in rows]
    if None in written:
        return []
    boxes = [box for box in written if box is not None]
    if max(abs(edge) for box in boxes for edge in box) > LARGEST_FRACTION:
        return boxes
    return [
        in_pixels(box, "lmms-eval", _size(row) or (1.0, 1.0)) or NO_BOX for box, row in zip(boxes, rows, strict=True)
    ]


def _table_split(category: str) -> str:
    """A category as the name of a split.

    >>> _table_split("RefCOCO testA"), _table_split("RefCOCO+ Val")
    ('RefCOCO_testA', 'RefCOCO+_val')
    """
    data_set, _, rest = category.strip().partition(" ")
    plain = re.sub(r"[\s_-]+", "", rest.lower())
    suffix = {"testa": "testA", "testb": "testB", "val": "val", "test": "test"}.get(plain, re.sub(r"[ -]", "_", rest))
    return f"{data_set}_{suffix.strip('_')}" if rest.strip() else data_set


def _of_row(row: Row, place: int) -> Item:
    x0, y0, x1, y1 = (float(edge) for edge in listed(row["bbox"]))
    sentence = str(first(row, ("sent", "expression", "question", "caption"), ""))
    image = str(first(row, ("image", "file_name", "image_path"), ""))
    number = whole(first(row, ("question_id", "index", "id"), place))
    return _item(number, image, sentence, (x0, y0, x1 - x0, y1 - y0), str(row.get("split", "")), _size(row))


def _size(row: Row) -> Size:
    return (float(row["width"]), float(row["height"])) if row.get("width") and row.get("height") else None


def _item(number: int | str, image: str, sentence: str, bbox: Sequence[float], split: str, size: Size) -> Item:
    x, y, width, height = (float(edge) for edge in bbox)
    box = (x, y, x + width, y + height)
    return Item(
        id=number,
        question=sentence,
        target={"bbox": [(x, y, width, height)], "labels": [sentence], "xyxy": box, "size": size},
        image=image,
        group=image,
        fields={"split": split} if split else {},
    )
