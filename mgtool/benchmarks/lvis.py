"""LVIS detection (Gupta et al., 2019; lvis-api)."""

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
    frequencies,
    named_categories,
    percent,
)
from mgtool.scoring.clusters import Floats


class Lvis(DetectionBenchmark):
    """Federated rules, at most 300 boxes a picture, AP of rare, common and frequent categories."""

    name = "lvis"
    title = "LVIS detection"
    files = "lvis_v1_val.json (lvisdataset.org); a box folder in place of the answers"
    metric = "AP over IoU 0.50:0.95 by size and by frequency; AR at 300 boxes"
    lvis = True
    most_detections = 300

    def summary(self, curves: Mapping[str, Floats], targets: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
        """lvis-api's thirteen numbers."""
        precision, recall = curves["precision"][..., -1], curves["recall"][..., -1]
        letter_of, (names, _) = frequencies(targets), named_categories(targets)
        letters = [letter_of.get(number, "") for number in sorted(names)]
        rates = {
            f"AP{letter}": percent(precision[:, :, [k for k, own in enumerate(letters) if own == letter], ALL])
            for letter in "rcf"
        }
        return {
            "AP": percent(precision[:, :, :, ALL]),
            "AP50": percent(precision[IOU_50, :, :, ALL]),
            "AP75": percent(precision[IOU_75, :, :, ALL]),
            "APs": percent(precision[:, :, :, SMALL]),
            "APm": percent(precision[:, :, :, MEDIUM]),
            "APl": percent(precision[:, :, :, LARGE]),
            **rates,
            "AR@300": percent(recall[:, :, ALL]),
            "ARs@300": percent(recall[:, :, SMALL]),
            "ARm@300": percent(recall[:, :, MEDIUM]),
            "ARl@300": percent(recall[:, :, LARGE]),
        }
