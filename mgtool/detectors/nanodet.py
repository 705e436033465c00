"""NanoDet-g on COCO's 80 classes, the detector that ships (RangiLyu/nanodet, Apache-2.0), run by onnxruntime."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from mgtool.boxes.suppression import Floats, nms
from mgtool.detectors.base import Settings
from mgtool.detectors.shipped import ShippedDetector
from mgtool.detectors.vocabulary import shipped
from mgtool.records import Detections

SIDE = 416
STRIDES = (8, 16, 32)
BINS = 11
MEAN_BGR = np.array([103.53, 116.28, 123.675], dtype=np.float32)
STD_BGR = np.array([57.375, 57.12, 58.395], dtype=np.float32)


def load(target: str, settings: Settings) -> NanoDet:
    """The detector of ``nanodet``; `target` is empty, errors as `ShippedDetector`."""
    return NanoDet(settings)


class NanoDet(ShippedDetector):
    """A `Detector` of COCO's 80 classes."""

    name, weights, threshold = "nanodet", "nanodet_g_coco_416.onnx", 0.35
    labels = shipped("coco")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._centres, self._strides = _places()

    def _detect_one(self, picture: Image.Image) -> Detections:
        scores, sides = self._session.run(["o0", "o1"], {"image": _pixels(picture)})
        places, classes = np.nonzero(scores[0] >= self._threshold)
        boxes = self._boxes(sides[0][places], places, picture.size)
        found = scores[0][places, classes]
        labels = [self.labels[index] for index in classes]
        kept = nms(boxes, found, labels, self._iou)
        return Detections(
            boxes=tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in boxes[kept].tolist()),
            scores=tuple(found[kept].tolist()),
            labels=tuple(labels[index] for index in kept),
        )

    def _boxes(self, sides: Floats, places: npt.NDArray[np.intp], size: tuple[int, int]) -> Floats:
        """(n, 4) xyxy in picture pixels, inside the picture, from (n, 4 x 11) logits of the distances' bins."""
        logits = sides.reshape(-1, 4, BINS)
        weights = np.exp(logits - logits.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        reach = (weights @ np.arange(BINS, dtype=np.float32)) * self._strides[places, None]
        centres = self._centres[places]
        square = np.concatenate([centres - reach[:, :2], centres + reach[:, 2:]], axis=1)
        scale = np.array(size * 2, dtype=np.float32) / SIDE
        return np.asarray(np.clip(square, 0, SIDE) * scale, dtype=np.float32)


def _pixels(picture: Image.Image) -> Floats:
    """(1, 3, 416, 416) float32 BGR, normalised; the picture's shape is not kept."""
    rgb = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.float32)
    return np.ascontiguousarray(((rgb[:, :, ::-1] - MEAN_BGR) / STD_BGR).transpose(2, 0, 1)[None])


def _places() -> tuple[Floats, Floats]:
    """Centres (3549, 2) as x, y in pixels of the square, and strides (3549,), grid by grid, row by row."""
    centres, strides = [], []
    for stride in STRIDES:
        steps = (np.arange(SIDE // stride, dtype=np.float32) + 0.5) * stride
        x, y = np.meshgrid(steps, steps)
        centres.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full(x.size, stride, dtype=np.float32))
    return np.concatenate(centres), np.concatenate(strides)
