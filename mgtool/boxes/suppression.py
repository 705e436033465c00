"""Non-maximum suppression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


Indices = npt.NDArray[np.intp]


def nms(boxes: Floats, scores: Floats, labels: Sequence[str], iou: float) -> Indices:
    """Indices that survive non-maximum suppression within each label, by falling score (stable).

    Args:
        boxes: (n, 4) float32 xyxy in any one frame.
        scores: (n,) float32.
        labels: n names.
        iou: overlap above which the box with the lower score is dropped.
    """
    order = np.argsort(-scores, kind="stable")
    _, codes = np.unique(np.asarray(labels, dtype=object).astype(str), return_inverse=True)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alive = np.ones(len(boxes), dtype=bool)
    for rank, best in enumerate(order):
        if alive[best]:
            rest = order[rank + 1 :]
            rest = rest[alive[rest] & (codes[rest] == codes[best])]
            alive[rest[_overlap(boxes, areas, best, rest) > iou]] = False
    return order[alive[order]]


def _overlap(boxes: Floats, areas: Floats, one: np.intp, others: Indices) -> npt.NDArray[np.float64]:
    """IoU of one box with others in float32, as published; given as float64 so that it meets an exact threshold."""
    corner = np.maximum(boxes[others, :2], boxes[one, :2])
    opposite = np.minimum(boxes[others, 2:], boxes[one, 2:])
    shared = np.prod(np.maximum(opposite - corner, np.float32(0)), axis=1, dtype=np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(shared / (areas[one] + areas[others] - shared), dtype=np.float64)


def best_per_label(labels: Sequence[str], most: int) -> Indices:
    """Indices of the first `most` of each label, labels in order of first appearance.

    >>> best_per_label(["dog", "cat", "dog", "dog"], 2).tolist()
    [0, 2, 1]
    """
    groups: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        groups.setdefault(label, []).append(index)
    return np.array([index for group in groups.values() for index in group[:most]], dtype=np.intp)
