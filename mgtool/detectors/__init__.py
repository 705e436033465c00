"""Detectors and taggers by what users call them: the table of specs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from mgtool.detectors import weights_files
from mgtool.detectors.base import Detector, Settings, Tagger, refuse_words
from mgtool.errors import UsageError, nearest

__all__ = [
    "BOXES",
    "DETECTORS",
    "SHIPPED",
    "TAGGERS",
    "Detector",
    "DetectorKind",
    "Settings",
    "Tagger",
    "check",
    "check_files",
    "check_tagger",
    "check_tagger_files",
    "load",
    "load_tagger",
    "refuse_words",
]


@dataclass(frozen=True)
class DetectorKind:
    """What the specs of one kind name, known without loading anything.

    Attributes:
        module: has ``load(target, settings)``, a tagger's ``load(target, settings, tag_list, tag_thresholds)``.
        target: how what follows the colon is written; empty where nothing does, as the weights ship.
        look: refuses a target whose weights are not there.
    """

    module: str
    target: str = ""
    look: Callable[[str], object] | None = None


def _look_for_mmdet(target: str) -> None:
    config, _, weights = target.partition(":")
    if weights or config.endswith(weights_files.CHECKPOINTS):
        weights_files.checkpoint_file(weights or config)


DETECTORS = {
    "nanodet": DetectorKind("mgtool.detectors.nanodet"),
    "tiny": DetectorKind("mgtool.detectors.tiny"),
    "mmdet": DetectorKind("mgtool.detectors.mmdetection", "[CONFIG:]CHECKPOINT", _look_for_mmdet),
    "owlv2": DetectorKind("mgtool.detectors.owlv2", "PATH", weights_files.model_folder),
    "hf": DetectorKind("mgtool.detectors.transformers_detectors", "PATH", weights_files.model_folder),
}

TAGGERS = {"ram++": DetectorKind("mgtool.detectors.ram_plus", "CHECKPOINT", weights_files.checkpoint_file)}

BOXES = "boxes"
"""Kind of ``boxes:PATH``, a file of boxes in a detector's place: `mgtool.detection.known_boxes.KnownBoxes`."""

SHIPPED = tuple(name for name, kind in DETECTORS.items() if not kind.target)
"""Kinds that take no target."""


def load(
    spec: str,
    *,
    threshold: float | None = None,
    device: str = "auto",
    dtype: str | None = None,
    vocabulary: tuple[str, ...] | None = None,
    trust_checkpoint: bool = False,
    trust_config: bool = False,
    iou: float | None = None,
) -> Detector:
    """The detector that `spec` names, with its weights.

    Args:
        spec: ``nanodet``, ``tiny``, ``mmdet:[CONFIG:]CHECKPOINT``, ``owlv2:PATH`` or ``hf:PATH``.
        threshold, device, dtype, vocabulary, trust_checkpoint, trust_config, iou: see `Settings`.

    Raises:
        UsageError: a spec that names no detector.
        MissingExtraError: a detector whose packages are not installed.
        CheckpointError: weights that are not there or do not fit.
    """
    kind, target = check(spec)
    settings = Settings(threshold, device, dtype, vocabulary, trust_checkpoint, trust_config, iou)
    return cast(Detector, importlib.import_module(DETECTORS[kind].module).load(target, settings))


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
    return cast(Tagger, importlib.import_module(TAGGERS[kind].module).load(target, settings, tag_list, tag_thresholds))


def check(spec: str) -> tuple[str, str]:
    """Kind and target of a detector's spec, without loading anything.

    >>> check("mmdet:rtmdet_tiny_8xb32-300e_coco:weights.pth")
    ('mmdet', 'rtmdet_tiny_8xb32-300e_coco:weights.pth')
    """
    kind, _, target = spec.partition(":")
    if kind not in (*DETECTORS, BOXES) or bool(target) == (kind in SHIPPED):
        hint = "" if kind in (*DETECTORS, BOXES) else nearest(kind, (*DETECTORS, BOXES))
        raise UsageError("detector", f"{spec}: give one of {', '.join((*_forms(DETECTORS), f'{BOXES}:PATH'))}{hint}")
    return kind, target


def check_files(spec: str) -> None:
    """Look whether the model that a detector's spec names is there, without loading it; errors as `load`."""
    kind, target = check(spec)
    if kind != BOXES:
        _look(DETECTORS[kind], target)


def check_tagger(spec: str) -> tuple[str, str]:
    """Kind and target of a tagger's spec, without loading anything."""
    kind, _, target = spec.partition(":")
    if kind not in TAGGERS or not target:
        raise UsageError("tagger", f"{spec}: give {', '.join(_forms(TAGGERS))}")
    return kind, target


def check_tagger_files(spec: str) -> None:
    """Look whether the checkpoint that a tagger's spec names is there, without loading it; errors as `load`."""
    kind, target = check_tagger(spec)
    _look(TAGGERS[kind], target)


def _forms(kinds: Mapping[str, DetectorKind]) -> list[str]:
    """How specs are written."""
    return [f"{name}:{kind.target}" if kind.target else name for name, kind in kinds.items()]


def _look(kind: DetectorKind, target: str) -> None:
    if kind.look is not None:
        kind.look(target)
