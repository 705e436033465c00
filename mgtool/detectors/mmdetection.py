"""Any MMDetection model: a config (file, or name of a shipped one) and a checkpoint, batched by its test pipeline."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mgtool.detectors import mmcv_stand_in
from mgtool.detectors.base import Settings
from mgtool.errors import CheckpointError, UsageError, require
from mgtool.records import Detections, canonical

THRESHOLD = 0.3
WHAT = "--detector mmdet"


def load(target: str, settings: Settings) -> MMDetection:
    """The model of ``CONFIG[:CHECKPOINT]``.

    Raises:
        UsageError: no such config, no checkpoint, or a device that is not there.
        MissingExtraError: MMDetection is not installed.
        CheckpointError: weights that cannot be read or do not fit the config.
    """
    name, _, weights = target.partition(":")
    # Recorded as well as ignored: MMDetection sets filters of its own.
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("ignore")
        _import()
        config = _config(name)
        if not weights:
            raise UsageError(f"{WHAT}:{name}: give its weights too: {WHAT} mmdet:{name}:CHECKPOINT.pth")
        checkpoint = _checkpoint(Path(weights), trust=settings.trust_checkpoint)
        digest = hashlib.sha256(canonical(_plain(config.to_dict()))).hexdigest()
        model = _build(config, checkpoint, settings.torch_device())
    threshold = THRESHOLD if settings.threshold is None else settings.threshold
    with Path(weights).open("rb") as file:
        hashed = hashlib.file_digest(file, "sha256").hexdigest()
    identity = f"mmdet {Path(name).stem} config:{digest[:16]} weights:{hashed[:16]} threshold:{threshold:g}"
    return MMDetection(model, identity, threshold, settings.vocabulary)


class MMDetection:
    """A `Detector`; one with a language model takes words, all others have the classes of their checkpoint.

    Args:
        model: as `mmdet.apis.init_detector` gives it.
        identity: of config, weights and settings.
        threshold: lowest score of a box.
        vocabulary: words where pictures do not bring their own.
    """

    def __init__(self, model: Any, identity: str, threshold: float, vocabulary: tuple[str, ...] | None) -> None:
        from mmcv.transforms import Compose
        from mmdet.utils import get_test_pipeline_cfg

        self.identity = identity
        self._model, self._threshold, self._vocabulary = model, threshold, vocabulary
        self._takes_words = hasattr(model, "language_model")
        steps = get_test_pipeline_cfg(model.cfg.copy())
        steps[0].type = "mmdet.LoadImageFromNDArray"
        self._pipeline = Compose(steps)

    def detect(self, pictures: Sequence[Image.Image], words: Sequence[Sequence[str]] | None) -> list[Detections]:
        """Objects of each RGB picture, best first, xyxy in its float pixels."""
        queries = self._queries(words, len(pictures))
        asked = [index for index, query in enumerate(queries) if query is None or query]
        found = [Detections()] * len(pictures)
        if asked:
            results = self._forward([self._prepared(pictures[i], queries[i]) for i in asked])
            for index, result in zip(asked, results, strict=True):
                found[index] = self._detections(result.pred_instances, queries[index])
        return found

    def _queries(self, words: Sequence[Sequence[str]] | None, count: int) -> list[list[str] | None]:
        """Words of each picture; None for a closed set of classes."""
        if not self._takes_words:
            return [None] * count
        if words is None and self._vocabulary is None:
            raise UsageError(f"{WHAT}: this model looks for words: give --vocabulary or --tagger")
        return [list(one) for one in words] if words is not None else [list(self._vocabulary or ())] * count

    def _prepared(self, picture: Image.Image, query: list[str] | None) -> dict[str, Any]:
        data: dict[str, Any] = {"img": np.ascontiguousarray(np.asarray(picture)[:, :, ::-1]), "img_id": 0}
        if query is not None:
            data |= {"text": " . ".join(query) + " .", "custom_entities": True}
        return self._pipeline(data)

    def _forward(self, prepared: list[dict[str, Any]]) -> list[Any]:
        batch = {key: [one[key] for one in prepared] for key in ("inputs", "data_samples")}
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            return self._model.test_step(batch)

    def _detections(self, found: Any, query: list[str] | None) -> Detections:
        order = torch.argsort(found.scores, descending=True, stable=True)
        order = order[found.scores[order] >= self._threshold]
        names = query if query is not None else self._model.dataset_meta["classes"]
        return Detections(
            boxes=tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in found.bboxes[order].tolist()),
            scores=tuple(found.scores[order].tolist()),
            labels=tuple(str(names[label]) for label in found.labels[order].tolist()),
        )


def _import() -> None:
    """Import MMDetection on mmcv-lite and today's transformers, without its log."""
    for module in ("mmengine", "mmcv", "cv2"):
        require(module, what=WHAT, extra="mmdet")
    mmcv_stand_in.install()
    require("mmdet.apis", what=WHAT, extra="mmdet")
    from mmengine.logging import MMLogger

    from mgtool.detectors import mmdet_transformers

    mmdet_transformers.install()
    if not MMLogger.check_instance_created("mgtool"):
        MMLogger.get_instance("mgtool", log_level="ERROR")
    logging.getLogger("mmengine").setLevel(logging.ERROR)


def _config(name: str) -> Any:
    import mmdet
    from mmengine.config import Config

    path = Path(name)
    if not path.is_file():
        shipped = Path(mmdet.__file__).parent / ".mim" / "configs"
        path = next(iter(sorted(shipped.rglob(f"{path.name.removesuffix('.py')}.py"))), path)
    if not path.is_file():
        raise UsageError(f"{WHAT}:{name}: no such config file, and none of this name ships with MMDetection")
    try:
        return Config.fromfile(str(path))
    except (OSError, SyntaxError, ValueError, KeyError, AttributeError, ImportError) as error:
        raise UsageError(f"{WHAT}:{name}: not a readable config: {error}") from error


def _plain(value: Any) -> Any:
    """A config's values as JSON ones."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, str | int | float | None) else str(value)


def _checkpoint(path: Path, *, trust: bool) -> dict[str, Any]:
    from pickle import UnpicklingError

    if not path.is_file():
        raise UsageError(f"{WHAT}: {path}: no such checkpoint file")
    try:
        # Pickles run code: only where the user said so.
        return torch.load(path, map_location="cpu", weights_only=not trust)
    except UnpicklingError as error:
        advice = "if you trust its source, add --trust-checkpoint"
        raise CheckpointError(f"{path}: holds more than tensors, or is no checkpoint; {advice}") from error
    except (OSError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint: {str(error).splitlines()[0]}") from error


def _build(config: Any, checkpoint: dict[str, Any], device: str) -> Any:
    from mmdet.apis import init_detector

    model = init_detector(config, None, device="cpu")
    meta = {key.lower(): value for key, value in checkpoint.get("meta", {}).items()}
    classes = {key.lower(): value for key, value in meta.get("dataset_meta", {}).items()}.get("classes")
    classes = classes or meta.get("classes")
    if classes:
        model.dataset_meta["classes"] = classes
    weights = checkpoint.get("state_dict", checkpoint)
    weights = {key.removeprefix("module."): value for key, value in weights.items()}
    try:
        missing = model.load_state_dict(weights, strict=False).missing_keys
    except RuntimeError as error:
        raise CheckpointError(f"{WHAT}: the checkpoint does not fit: {str(error).splitlines()[-1].strip()}") from error
    missing = [key for key in missing if not key.endswith(("num_batches_tracked", "position_ids"))]
    if missing:
        raise CheckpointError(f"{WHAT}: the checkpoint lacks {len(missing)} weights of the config, as {missing[0]}")
    return model.to(device).eval()
