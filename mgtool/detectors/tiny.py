"""The detector of the example scenes: an RTMDet of one class (`examples/scenes/detector.py`), run by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

import numpy as np
import numpy.typing as npt
from PIL import Image

from mgtool.boxes import Placement, nms
from mgtool.detectors.base import Settings
from mgtool.detectors.onnx_session import open_session
from mgtool.images import sha256
from mgtool.records import Detections

Floats = npt.NDArray[np.float32]

WEIGHTS = "rtmdet_scenes_256.onnx"
SIDE = 256
LABEL = "object"
PADDING = (114, 114, 114)
THRESHOLD = 0.4
NMS_IOU = 0.6


def load(target: str, settings: Settings) -> Tiny:
    """The shipped detector; `target` is empty.

    Raises:
        UsageError: a device that onnxruntime here cannot use, or a narrow number format.
    """
    settings.refuse_narrow("tiny")
    weights = (resources.files(__package__) / "weights" / WEIGHTS).read_bytes()
    threshold = THRESHOLD if settings.threshold is None else settings.threshold
    return Tiny(weights, threshold=threshold, device=settings.device)


class Tiny:
    """A `Detector` of anything that stands out; all labels are ``object``. The graph takes one picture at a time.

    Args:
        weights: the ONNX file's bytes.
        threshold: lowest score of a box.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    def __init__(self, weights: bytes, *, threshold: float = THRESHOLD, device: str = "auto") -> None:
        self.identity = f"tiny sha256:{sha256(weights)[:16]} threshold:{threshold:g} nms:{NMS_IOU:g}"
        self._threshold = threshold
        self._session = open_session(weights, device)

    def detect(self, pictures: Sequence[Image.Image], words: Sequence[Sequence[str]] | None) -> list[Detections]:
        """Objects of each RGB picture, best first, xyxy in its float pixels; `words` is ignored."""
        return [self._detect_one(picture) for picture in pictures]

    def _detect_one(self, picture: Image.Image) -> Detections:
        place = Placement(*picture.size, SIDE)
        pixels = np.asarray(place.move_picture(picture, PADDING), dtype=np.float32).transpose(2, 0, 1)
        (scores,), (boxes,) = self._session.run(["scores", "boxes"], {"picture": pixels[None]})
        found = np.flatnonzero(scores >= self._threshold)
        kept = found[nms(boxes[found], scores[found], [LABEL] * len(found), NMS_IOU)]
        inside = place.restore_boxes(boxes[kept])
        return Detections(
            boxes=tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in inside.tolist()),
            scores=tuple(scores[kept].tolist()),
            labels=(LABEL,) * len(kept),
        )
