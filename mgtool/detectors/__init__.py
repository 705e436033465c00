"""Detectors and taggers by what users call them: the table of specs."""

from __future__ import annotations

import importlib
from typing import cast

from mgtool.detectors import vocabulary as vocabulary
from mgtool.detectors import weights_files
from mgtool.detectors.base import Detector, Settings, Tagger
from mgtool.detectors.base import refuse_words as refuse_words
from mgtool.errors import UsageError

__all__ = ["BOXES", "DETECTORS", "TAGGERS", "Detector", "Settings", "Tagger", "load", "load_tagger"]

DETECTORS = {
    "nanodet": "mgtool.detectors.nanodet",
    "tiny": "mgtool.detectors.tiny",
    "mmdet": "mgtool.detectors.mmdetection",
    "owlv2": "mgtool.detectors.owlv2",
    "hf": "mgtool.detectors.transformers_detectors",
}
"""Kind -> module with ``load(target, settings)``; `target` is what follows the colon."""

TAGGERS = {"ram++": "mgtool.detectors.ram_plus"}
"""Kind -> module with ``load(target, settings, tag_list, tag_thresholds)``."""

BOXES = "boxes"
"""Kind of ``boxes:PATH``, a file of boxes in a detector's place: `mgtool.detection.known_boxes.KnownBoxes`."""

SHIPPED = ("nanodet", "tiny")
"""Kinds that take no target."""

FORMS = "nanodet, tiny, mmdet:[CONFIG:]CHECKPOINT, owlv2:PATH, hf:PATH, boxes:PATH"


def load(
    spec: str,
    *,
    threshold: float | None = None,
    device: str = "auto",
    dtype: str | None = None,
    vocabulary: tuple[str, ...] | None = None,
    trust_checkpoint: bool = False,
) -> Detector:
    """The detector that `spec` names, with its weights.

    Args:
        spec: ``nanodet``, ``tiny``, ``mmdet:[CONFIG:]CHECKPOINT``, ``owlv2:PATH`` or ``hf:PATH``.
        threshold, device, dtype, vocabulary, trust_checkpoint: see `Settings`.

    Raises:
        UsageError: a spec that names no detector.
        MissingExtraError: a detector whose packages are not installed.
        CheckpointError: weights that are not there or do not fit.
    """
    kind, target = check(spec)
    settings = Settings(threshold, device, dtype, vocabulary, trust_checkpoint)
    return cast(Detector, importlib.import_module(DETECTORS[kind]).load(target, settings))


def load_tagger(
    spec: str,
    *,
    device: str = "auto",
    dtype: str | None = None,
    tag_list: str | None = None,
    tag_thresholds: str | None = None,
) -> Tagger:
    """The tagger that `spec` (``ram++:CHECKPOINT``) names, with its weights; errors as `load`."""
    kind, target = check_tagger(spec)
    settings = Settings(device=device, dtype=dtype)
    return cast(Tagger, importlib.import_module(TAGGERS[kind]).load(target, settings, tag_list, tag_thresholds))


def check(spec: str) -> tuple[str, str]:
    """Kind and target of a detector's spec, without loading anything.

    >>> check("mmdet:rtmdet_tiny_8xb32-300e_coco:weights.pth")
    ('mmdet', 'rtmdet_tiny_8xb32-300e_coco:weights.pth')
    """
    kind, _, target = spec.partition(":")
    if kind not in (*DETECTORS, BOXES) or bool(target) == (kind in SHIPPED):
        raise UsageError("detector", f"{spec}: give one of {FORMS}")
    return kind, target


def check_files(spec: str) -> None:
    """Look whether the model that a detector's spec names is there, without loading it; errors as `load`."""
    kind, target = check(spec)
    if kind in ("owlv2", "hf"):
        weights_files.model_folder(target)
    elif kind == "mmdet":
        config, _, weights = target.partition(":")
        if weights or config.endswith(weights_files.CHECKPOINTS):
            weights_files.checkpoint_file(weights or config)


def check_tagger_files(spec: str) -> None:
    """Look whether the checkpoint that a tagger's spec names is there, without loading it; errors as `load`."""
    weights_files.checkpoint_file(check_tagger(spec)[1])


def check_tagger(spec: str) -> tuple[str, str]:
    """Kind and target of a tagger's spec, without loading anything."""
    kind, _, target = spec.partition(":")
    if kind not in TAGGERS or not target:
        raise UsageError("tagger", f"{spec}: give ram++:CHECKPOINT")
    return kind, target
