"""The detector of the example scenes: an RTMDet of one class (`examples/scenes/detector.py`), run by onnxruntime."""

from __future__ import annotations

import numpy as np
from PIL import Image

from mgtool.boxes.placement import Placement
from mgtool.boxes.suppression import nms
from mgtool.detectors.base import Settings
from mgtool.detectors.shipped import ShippedDetector
from mgtool.records import Detections

SIDE = 256
LABEL = "object"
PADDING = (114, 114, 114)


def load(target: str, settings: Settings) -> Tiny:
    """The detector of ``tiny``; `target` is empty, errors as `ShippedDetector`."""
    return Tiny(settings)


class Tiny(ShippedDetector):
    """A `Detector` of anything that stands out; all labels are ``object``."""

    name, weights, threshold = "tiny", "rtmdet_scenes_256.onnx", 0.3
    labels = (LABEL,)
    nms_iou = 0.4  # objects of the scenes hardly cover each other

    def _detect_one(self, picture: Image.Image) -> Detections:
        place = Placement(*picture.size, SIDE)
        pixels = np.asarray(place.move_picture(picture, PADDING), dtype=np.float32).transpose(2, 0, 1)
        (scores,), (boxes,) = self._session.run(["scores", "boxes"], {"picture": pixels[None]})
        found = np.flatnonzero(scores >= self._threshold)
        kept = found[nms(boxes[found], scores[found], [LABEL] * len(found), self._iou)]
        inside = place.restore_boxes(boxes[kept])
        return Detections(
            boxes=tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in inside.tolist()),
            scores=tuple(scores[kept].tolist()),
            labels=(LABEL,) * len(kept),
        )
