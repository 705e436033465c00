"""COCO detection (Lin et al., 2014; pycocotools)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mgtool.scoring.average_precision import (
    ALL,
    IOU_50,
    IOU_75,
    LARGE,
    MEDIUM,
    SMALL,
    DetectionBenchmark,
    percent,
)
from mgtool.scoring.clusters import Floats


class CocoDetection(DetectionBenchmark):
    """Ten IoU thresholds, at most 1, 10 or 100 boxes a picture and category."""

    name = "coco-detection"
    title = "COCO detection"
    files = "instances_val2017.json (cocodataset.org) or any COCO JSON with boxes; a box folder in place of the answers"
    metric = "AP over IoU 0.50:0.95, at 0.50 and 0.75, by size; AR at 1, 10, 100 boxes"

    def summary(self, curves: Mapping[str, Floats], targets: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
        """pycocotools' twelve numbers."""
        precision, recall = curves["precision"], curves["recall"]
        return {
            "AP": percent(precision[:, :, :, ALL, -1]),
            "AP50": percent(precision[IOU_50, :, :, ALL, -1]),
            "AP75": percent(precision[IOU_75, :, :, ALL, -1]),
            "APs": percent(precision[:, :, :, SMALL, -1]),
            "APm": percent(precision[:, :, :, MEDIUM, -1]),
            "APl": percent(precision[:, :, :, LARGE, -1]),
            "AR1": percent(recall[:, :, ALL, 0]),
            "AR10": percent(recall[:, :, ALL, 1]),
            "AR100": percent(recall[:, :, ALL, 2]),
            "ARs": percent(recall[:, :, SMALL, -1]),
            "ARm": percent(recall[:, :, MEDIUM, -1]),
            "ARl": percent(recall[:, :, LARGE, -1]),
        }
