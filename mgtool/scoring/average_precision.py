"""What the detection benchmarks share: COCO-style ground truth, matching by file name, average precision.

hotcoco computes the matches; its numbers equal those of pycocotools and lvis-api to the last bit, which tests check.
"""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, ClassVar

import msgspec
import numpy as np

from mgtool.records import Detections, Score
from mgtool.scoring.benchmark import SCORERS, Benchmark, Item, Judge, Pair, Verdict
from mgtool.scoring.clusters import SEED, Floats
from mgtool.scoring.ground_truth import Truth
from mgtool.scoring.predictions import Prediction
from mgtool.scoring.statistics import Metric, Statistic, normal_interval

HALF_SAMPLES = 100
IOU_50, IOU_75 = 0, 5
_MOST_LABELS = 5
ALL, SMALL, MEDIUM, LARGE = 0, 1, 2, 3


class TruthAnnotation(msgspec.Struct, gc=False):
    """One object of a COCO file; `bbox` is x, y, width, height in pixels."""

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: int = 0


class TruthPicture(msgspec.Struct):
    """One picture of a COCO file; the last two are LVIS's."""

    id: int
    file_name: str = ""
    coco_url: str = ""
    neg_category_ids: list[int] = []
    not_exhaustive_category_ids: list[int] = []


class TruthCategory(msgspec.Struct):
    """One category of a COCO file; `frequency` (r, c, f) is LVIS's."""

    id: int
    name: str
    frequency: str = ""


class DetectionBenchmark(Benchmark):
    """Average precision of a folder of box shards against a COCO-style file; one item is one picture."""

    takes = "boxes"
    headline = "AP"
    needs_all = True
    lvis: ClassVar[bool] = False
    most_detections: ClassVar[int | None] = None
    scorer = SCORERS[0]

    def scored_by(self, scorer: str) -> Benchmark:
        """The same with another implementation of average precision, whose numbers are equal."""
        if scorer == self.scorer or self.lvis:
            return super().scored_by(scorer)
        other = copy.copy(self)
        other.scorer = scorer
        return other

    def _curves(self, evaluator: Any, targets: Sequence[Mapping[str, Any]], found: Sequence[Any]) -> Any:
        """Precision (T, R, K, A, M) and recall (T, K, A, M) by the scorer that was asked for."""
        evaluator.accumulate()
        return evaluator.eval if self.scorer == SCORERS[0] else pycocotools_curves(targets, found)

    def load(self, truth: Truth) -> list[Item]:
        """A COCO-style JSON with `images`, `annotations` and `categories`."""
        documents = [d for d in truth.files if {"images", "annotations", "categories"} <= d.keys.keys()]
        documents = [d for d in documents if truth.split in d.name] or documents
        if len(documents) != 1:
            names = ", ".join(d.name for d in documents) or "none"
            raise truth.mismatch(f'one COCO JSON with "images", "annotations" and "categories", found {names}')
        categories = {c.id: c for c in documents[0].part("categories", list[TruthCategory])}
        vocabulary = {_spelled(c.name): c for c in categories.values()}
        objects: dict[int, list[TruthAnnotation]] = defaultdict(list)
        for annotation in documents[0].part("annotations", list[TruthAnnotation]):
            objects[annotation.image_id].append(annotation)
        pictures = documents[0].part("images", list[TruthPicture])
        return [_item(picture, objects[picture.id], categories, vocabulary) for picture in pictures]

    def keys(self, prediction: Prediction) -> Iterable[str]:
        """The picture's name as recorded, then without its folders."""
        yield prediction.image
        yield PurePosixPath(prediction.image).name

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> list[Verdict]:
        """Each picture's own average precision at IoU 0.5, for the list of pictures and the slices.

        A picture without objects scores 1 when nothing was found in it, else 0. Boxes whose label the ground truth
        has no category for count in no average precision, but are something that was found.
        """
        found = [self._known(item, answer) for item, answer in pairs]
        others = [self._unknown(item, answer) for item, answer in pairs]
        targets = [item.target for item, _ in pairs]
        evaluator = evaluated(targets, found, lvis=self.lvis)
        summary = evaluator.image_diagnostics()["img_summary"]
        nothing = {"ap": 1.0}
        verdicts = []
        for n, (boxes, other, target) in enumerate(zip(found, others, targets, strict=True), 1):
            own = max(0.0, float(summary.get(n, nothing)["ap"]))
            own = own if target["bbox"] or not other else 0.0
            verdicts.append(Verdict(boxes, own, {"unknown_labels": other} if other else {}))
        return verdicts

    def _known(self, item: Item, answer: Prediction | None) -> dict[str, Any]:
        """The boxes whose label the benchmark has, in its own spelling, at most `most_detections` of them."""
        detections = answer.detections if answer is not None and answer.detections is not None else Detections()
        kept: list[tuple[Any, float, str, int]] = []
        for box, score, label in zip(detections.boxes, detections.scores, detections.labels, strict=True):
            category = _category(item, label)
            if category is not None:
                kept.append((box, score, category.name, category.id))
        if self.most_detections is not None and len(kept) > self.most_detections:
            kept = sorted(kept, key=lambda entry: -entry[1])[: self.most_detections]
        boxes, scores, labels, ids = zip(*kept, strict=True) if kept else ((), (), (), ())
        return {"boxes": boxes, "scores": scores, "labels": labels, "category_ids": ids}

    def _unknown(self, item: Item, answer: Prediction | None) -> list[str]:
        """The labels of the other boxes, one a box."""
        detections = answer.detections if answer is not None and answer.detections is not None else Detections()
        return [label for label in detections.labels if _category(item, label) is None]

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """The numbers of the official summary; standard errors from random halves of the pictures."""
        if not scores:
            return {"AP": Metric(value=None)}
        targets = [score.target for score in scores]
        found = [score.extracted for score in scores]
        evaluator = evaluated(targets, found, lvis=self.lvis)
        values = self.summary(self._curves(evaluator, targets, found), targets)
        errors = half_sample_errors(evaluator, len(scores)) if len(scores) > 1 else {}
        return {name: _metric(value, errors.get(name), len(scores)) for name, value in values.items()}

    def summary(self, curves: Mapping[str, Floats], targets: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
        """The official numbers in percent from precision (T, R, K, A, M) and recall (T, K, A, M)."""
        raise NotImplementedError

    def breakdown(self, scores: Sequence[Score], variant: str) -> dict[str, dict[str, Statistic | Metric]]:
        """AP of each category that has objects."""
        if not scores:
            return {}
        targets = [score.target for score in scores]
        found = [score.extracted for score in scores]
        evaluator = evaluated(targets, found, lvis=self.lvis)
        precision = self._curves(evaluator, targets, found)["precision"]
        names, counts = named_categories(targets)
        return {
            "category": {
                names[number]: Metric(value=percent(precision[:, :, k, ALL, -1]), n=counts[number])
                for k, number in enumerate(evaluator.params.cat_ids)
                if counts[number]
            }
        }

    def notes(self, scores: Sequence[Score], variant: str) -> list[str]:
        """How the errors come about, and which boxes count nowhere."""
        notes = [f"standard errors of AP and AR: {HALF_SAMPLES} random halves of the pictures"]
        left_out = Counter(label for score in scores for label in score.fields.get("unknown_labels", ()))
        if left_out:
            pictures = sum("unknown_labels" in score.fields for score in scores)
            most = ", ".join(f"{label} ×{count:,}" for label, count in left_out.most_common(_MOST_LABELS))
            more = f" and {len(left_out) - _MOST_LABELS:,} more" if len(left_out) > _MOST_LABELS else ""
            boxes = f"{left_out.total():,} boxes on {pictures:,} pictures have labels"
            notes.append(f"{boxes} that the ground truth has no category for, and count in no AP: {most}{more}")
        return notes


def evaluated(targets: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]], *, lvis: bool) -> Any:
    """Match boxes and objects.

    Args:
        targets: objects of each picture, as `_item` makes them; pictures are numbered from 1 in this order.
        found: boxes (xyxy), scores and category ids of each picture.
        lvis: federated rules.

    Returns:
        hotcoco's evaluator after `evaluate`.
    """
    from hotcoco import COCO, COCOeval

    rows = _detections(found)
    # Boxes of categories without a single object count nowhere; hotcoco would warn of them on stderr.
    rows = rows[np.isin(rows[:, 6], list(named_categories(targets)[0]))]
    truth = COCO(_dataset(targets))
    evaluator = COCOeval(truth, truth.load_res(rows), "bbox", lvis_style=lvis)
    evaluator.evaluate()
    return evaluator


def pycocotools_curves(targets: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> Any:
    """Precision and recall as pycocotools itself computes them; arguments as of `evaluated`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rows = _detections(found)
    rows = rows[np.isin(rows[:, 6], list(named_categories(targets)[0]))]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = _dataset(targets)
        for annotation in truth.dataset["annotations"]:
            annotation["bbox"] = list(annotation["bbox"])
        truth.createIndex()
        boxes = truth.loadRes(rows)
        evaluator = COCOeval(truth, boxes, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval


def half_sample_errors(evaluator: Any, pictures: int) -> dict[str, float]:
    """Standard errors of all summary numbers, in percent.

    A half drawn without replacement varies around the whole as much as a bootstrap sample of full size does, and
    the evaluator can accumulate a subset without matching again.
    """
    generator = np.random.default_rng(SEED)
    half = max(1, pictures // 2)
    draws = {str(n): (1 + generator.permutation(pictures)[:half]).tolist() for n in range(HALF_SAMPLES)}
    slices = evaluator.slice_by(draws)
    inflation = np.sqrt(half / (pictures - half))
    errors = {}
    for name in slices["0"]:
        values = [slices[draw][name] for draw in draws if isinstance(slices[draw].get(name), float)]
        values = [value for value in values if value > -1]
        if len(values) > 1:
            errors[name] = float(np.std(values, ddof=1) * inflation * 100)
    return errors


def percent(part: Floats) -> float | None:
    """Mean over what is defined (not -1), times 100; None where nothing is."""
    defined = part[part > -1]
    return float(np.mean(defined)) * 100 if len(defined) else None


def _metric(value: float | None, error: float | None, n: int) -> Metric:
    if value is None:
        return Metric(value=None, n=n)
    interval = normal_interval(value, error)
    bounded = interval and (max(interval[0], 0.0), min(interval[1], 100.0))
    return Metric(value=value, stderr=error, interval=bounded, n=n)


def _item(
    picture: TruthPicture,
    objects: Sequence[TruthAnnotation],
    categories: Mapping[int, TruthCategory],
    vocabulary: Mapping[str, TruthCategory],
) -> Item:
    objects = [o for o in objects if o.category_id in categories]  # as COCO's own loader selects them
    name = picture.file_name or "/".join(PurePosixPath(picture.coco_url).parts[-2:])
    target: dict[str, Any] = {
        "bbox": [o.bbox for o in objects],
        "labels": [categories[o.category_id].name for o in objects],
        "category_ids": [o.category_id for o in objects],
        "areas": [o.bbox[2] * o.bbox[3] if o.area is None else o.area for o in objects],
        "crowd": [o.iscrowd for o in objects],
    }
    if picture.neg_category_ids or picture.not_exhaustive_category_ids or any(c.frequency for c in categories.values()):
        target["absent"] = picture.neg_category_ids
        target["not_exhaustive"] = picture.not_exhaustive_category_ids
        target["frequencies"] = [categories[o.category_id].frequency for o in objects]
    group = str(picture.id)
    aliases = tuple({name, PurePosixPath(name).name})
    fields = {"objects": len(objects)}
    return Item(
        id=picture.id, target=target, image=name, group=group, fields=fields, aliases=aliases, context=vocabulary
    )


def _dataset(targets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A COCO data set; annotations are numbered from 1, as an annotation 0 would count as never matched."""
    annotations = [
        {"id": 0, "image_id": n, "category_id": category, "bbox": bbox, "area": area, "iscrowd": crowd}
        for n, target in enumerate(targets, 1)
        for bbox, category, area, crowd in zip(
            target["bbox"], target["category_ids"], target["areas"], target["crowd"], strict=True
        )
    ]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    images = [
        {
            "id": n,
            "neg_category_ids": target.get("absent", []),
            "not_exhaustive_category_ids": target.get("not_exhaustive", []),
        }
        for n, target in enumerate(targets, 1)
    ]
    (names, _), letters = named_categories(targets), frequencies(targets)
    categories = [{"id": n, "name": names[n], "frequency": letters.get(n, "f")} for n in sorted(names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def frequencies(targets: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """LVIS's letter (r, c, f) of each category that has objects."""
    pairs = (zip(target["category_ids"], target.get("frequencies", ()), strict=False) for target in targets)
    return dict(itertools.chain.from_iterable(pairs))


def named_categories(targets: Sequence[Mapping[str, Any]]) -> tuple[dict[int, str], dict[int, int]]:
    """Names and numbers of objects of all categories that targets name."""
    names: dict[int, str] = {}
    counts: dict[int, int] = defaultdict(int)
    for target in targets:
        for number, label in zip(target["category_ids"], target["labels"], strict=True):
            names[number] = label
            counts[number] += 1
        for number in (*target.get("absent", ()), *target.get("not_exhaustive", ())):
            names.setdefault(number, str(number))
    return names, counts


def _detections(found: Sequence[Mapping[str, Any]]) -> Floats:
    """(n, 7): picture, x, y, width, height, score, category."""
    counts = [len(boxes["scores"]) for boxes in found]
    rows = np.zeros((sum(counts), 7))
    if not len(rows):
        return rows
    rows[:, 0] = np.repeat(np.arange(1, len(found) + 1), counts)
    corners = np.array([box for boxes in found for box in boxes["boxes"]], dtype=np.float64)
    rows[:, 1:3], rows[:, 3:5] = corners[:, :2], corners[:, 2:] - corners[:, :2]
    rows[:, 5] = [score for boxes in found for score in boxes["scores"]]
    rows[:, 6] = [number for boxes in found for number in boxes["category_ids"]]
    return rows


def _category(item: Item, label: str) -> TruthCategory | None:
    """The benchmark's category of a label, in whatever spelling."""
    found: TruthCategory | None = item.context.get(label) or item.context.get(_spelled(label))
    return found


def _spelled(label: str) -> str:
    return label.casefold().replace("_", " ").strip()
