"""Boxes of one picture that was looked at in parts: of those that show one object a single one is kept, or grown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from mgtool.boxes.suppression import Floats, Indices
from mgtool.errors import UsageError
from mgtool.records import Box, Detections

Method = Literal["greedy", "nms"]
Metric = Literal["ios", "iou"]
_Object = tuple[float, Box, str]
_Sides = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Merging:
    """Which boxes show one object, and what becomes of them; as the package `sahi` does it.

    Attributes:
        method: ``nms`` keeps the best one; ``greedy`` grows it around those that it overlaps.
        metric: ``iou``, or ``ios``: what they share in parts of the smaller one.
        overlap: from which on they show one object.
        class_agnostic: whether they may be of different labels.
    """

    method: Method = "greedy"
    metric: Metric = "ios"
    overlap: float = 0.5
    class_agnostic: bool = False

    @classmethod
    def parse(cls, text: str, *, class_agnostic: bool = False) -> Merging:
        """The rule that ``METHOD[:METRIC[:OVERLAP]]`` says.

        >>> Merging.parse("nms:iou:0.6")
        Merging(method='nms', metric='iou', overlap=0.6, class_agnostic=False)

        Raises:
            UsageError: anything else.
        """
        method, metric, overlap, *more = (*text.split(":"), "", "")[: max(3, text.count(":") + 1)]
        metric, overlap = metric or cls.metric, overlap or str(cls.overlap)
        if method in get_args(Method) and metric in get_args(Metric) and not more:
            try:
                share = float(overlap)
            except ValueError:
                share = -1
            if 0 < share <= 1:
                return cls(method, metric, share, class_agnostic)  # type: ignore[arg-type] # looked at above
        raise UsageError(
            "merge", f"{text}: give greedy or nms, and :ios or :iou and an overlap behind it: greedy:ios:0.5"
        )

    def __call__(self, found: Detections) -> Detections:
        """The objects of a picture, each once, best first."""
        objects = list(zip(found.scores, found.boxes, found.labels, strict=True))
        groups: dict[str, list[_Object]] = {}
        for one in objects:
            groups.setdefault("" if self.class_agnostic else one[2], []).append(one)
        kept = [one for group in groups.values() for one in self._merged(group)]
        scores, boxes, labels = zip(*sorted(kept, key=lambda one: -one[0]), strict=True) if kept else ((), (), ())
        return msgspec.structs.replace(found, boxes=boxes, scores=scores, labels=labels)

    def _merged(self, objects: Sequence[_Object]) -> Iterator[_Object]:
        """Those of objects that may be one that stay."""
        boxes = np.array([box for _, box, _ in objects], dtype=np.float32)
        order = _best_first(boxes, np.array([score for score, _, _ in objects], dtype=np.float32))
        alive = np.ones(len(objects), dtype=bool)
        for rank, best in enumerate(order):
            if alive[best]:
                rest = order[rank + 1 :][alive[order[rank + 1 :]]]
                same = rest[_overlaps(boxes[best], boxes[rest], self.metric) >= np.float32(self.overlap)]
                alive[same] = False
                others = [objects[place] for place in same] if self.method == "greedy" else []
                yield self._grown(objects[best], others)

    def _grown(self, one: _Object, others: Sequence[_Object]) -> _Object:
        """An object around itself and others, each as long as it overlaps what the object has become."""
        for other in others:
            now, more = np.array(one[1], dtype=np.float64), np.array(other[1], dtype=np.float64)
            if _overlaps(now, more[None], self.metric)[0] >= self.overlap:
                x0, y0, x1, y1 = [*np.minimum(now[:2], more[:2]), *np.maximum(now[2:], more[2:])]
                label = one[2] if one[0] > other[0] else other[2]
                one = (max(one[0], other[0]), (float(x0), float(y0), float(x1), float(y1)), label)
        return one


def _best_first(boxes: Floats, scores: Floats) -> Indices:
    """Rows by falling score, equal ones by their sides."""
    return np.lexsort((boxes[:, 3], boxes[:, 2], boxes[:, 1], boxes[:, 0], -scores))


def _overlaps(
    box: npt.NDArray[np.floating], others: npt.NDArray[np.floating], metric: Metric
) -> npt.NDArray[np.floating]:
    """(n,) what a box (4,) and others (n, 4) share, in parts of both or of the smaller one; 0 where these are empty."""
    sides = np.minimum(others[:, 2:], box[2:]) - np.maximum(others[:, :2], box[:2])
    shared = np.maximum(sides, 0).prod(axis=1)
    area, areas = (box[2] - box[0]) * (box[3] - box[1]), (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    whole = area + areas - shared if metric == "iou" else np.minimum(area, areas)
    parts: _Sides = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    return parts
