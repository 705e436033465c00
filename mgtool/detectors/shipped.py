"""What the detectors have in common that ship with mgtool: ONNX graphs of one picture, run by onnxruntime."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import resources
from typing import Any, ClassVar

import onnxruntime
from PIL import Image

from mgtool.detectors.base import Settings, refuse_words
from mgtool.files.hashing import sha256
from mgtool.records import Detections
from mgtool.runs import devices


class ShippedDetector(ABC):
    """A `Detector` of a fixed set of classes whose graph lies in ``weights/`` and takes one picture at a time.

    Attributes:
        name: as in ``--detector``.
        weights: name of the ONNX file.
        threshold: lowest score of a box, where none is asked for.
        labels: what it finds.
        nms_iou: overlap above which the lesser of two boxes of a label is dropped.

    Args:
        settings: threshold, device and number format.

    Raises:
        UsageError: a device that onnxruntime here cannot use, a narrow number format, or a vocabulary.
    """

    name: ClassVar[str]
    weights: ClassVar[str]
    threshold: ClassVar[float]
    labels: ClassVar[tuple[str, ...]]
    nms_iou: ClassVar[float] = 0.6

    def __init__(self, settings: Settings) -> None:
        settings.refuse_narrow(self.name)
        refuse_words(self.name, settings.vocabulary)
        weights = (resources.files(__package__) / "weights" / self.weights).read_bytes()
        self.own_threshold, self._threshold = self.threshold, settings.lowest(self.threshold)
        self._iou = self.nms_iou if settings.iou is None else settings.iou
        self._session = _session(weights, settings.device)
        kept = f"threshold:{self._threshold:g} nms:{self._iou:g}"
        self.identity = f"{self.name} sha256:{sha256(weights)[:16]} {kept}"

    def detect(self, pictures: Sequence[Image.Image], words: Sequence[Sequence[str]] | None) -> list[Detections]:
        """Objects of each RGB picture, best first, xyxy in its float pixels; `words` is ignored."""
        return [self._detect_one(picture) for picture in pictures]

    @abstractmethod
    def _detect_one(self, picture: Image.Image) -> Detections:
        """Objects of one RGB picture."""


def _session(weights: bytes, device: str) -> Any:
    """An inference session on the processors that this process may use, or on a GPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(weights, options, providers=devices.onnx_providers(device))
