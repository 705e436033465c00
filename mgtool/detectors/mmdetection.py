"""Any MMDetection model: a config (file, shipped name, the checkpoint's own) and weights, by its test pipeline."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mgtool.detectors import mmcv_ops
from mgtool.detectors.base import Object, Settings, ranked, refuse_words
from mgtool.detectors.weights_files import CHECKPOINTS, checkpoint_file, hash_files, quiet
from mgtool.errors import CheckpointError, UsageError, require
from mgtool.files import checkpoints
from mgtool.files.hashing import sha256
from mgtool.records import Detections, canonical

THRESHOLD = 0.3
WHAT = "`detector` mmdet"
_TEXT_FILES = (".json", ".txt")


def load(target: str, settings: Settings) -> MMDetection:
    """The model of ``CONFIG:CHECKPOINT``, or of ``CHECKPOINT`` with the config that it carries.

    Raises:
        UsageError: no such config, one that may not be run, no checkpoint, a device that is not there, a narrow number
            format, or a vocabulary for a fixed set of classes.
        MissingExtraError: MMDetection is not installed.
        CheckpointError: weights that cannot be read or do not fit the config, or a language model that is not there.
    """
    settings.refuse_narrow("mmdet")
    name, _, weights = target.partition(":")
    if not weights and Path(name).suffix in CHECKPOINTS:
        name, weights = "", name
    # Recorded as well as ignored: MMDetection sets filters of its own.
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("ignore")
        if name and not settings.trust_config:
            _refuse_foreign(name)
        import_mmdet()
        config, checkpoint = _read(name, weights, trust=settings.trust_checkpoint)
        _set_iou(config, settings.iou)
        if "language_model" not in config.model:
            refuse_words(f"mmdet:{target}", settings.vocabulary)
        digest = sha256(canonical(_plain(config.to_dict())))[:16]
        language = _language_model(config, (Path(weights).parent, Path(name or weights).parent))
        if language is not None:
            quiet()
            place_language_model(config, language)
            digest += f" language:{hash_files(p for p in sorted(language.iterdir()) if p.suffix in _TEXT_FILES)}"
        model = _build(config, checkpoint, settings.devices().name)
    threshold = settings.lowest(THRESHOLD)
    with Path(weights).open("rb") as file:
        hashed = hashlib.file_digest(file, "sha256").hexdigest()
    identity = f"mmdet {Path(name or weights).stem} config:{digest} weights:{hashed[:16]} threshold:{threshold:g}"
    return MMDetection(model, identity, threshold, settings.vocabulary)


class MMDetection:
    """A `Detector`; one with a language model takes words, all others have the classes of their checkpoint.

    Pictures share a forward pass where the test pipeline gives them one size and they are asked for the same words:
    padding would change their boxes, and MMDetection's heads know one list of words a batch.

    Args:
        model: as `mmdet.apis.init_detector` gives it.
        identity: of config, weights and settings.
        threshold: lowest score of a box.
        vocabulary: words where pictures do not bring their own.
    """

    own_threshold = THRESHOLD

    def __init__(self, model: Any, identity: str, threshold: float, vocabulary: tuple[str, ...] | None) -> None:
        from mmcv.transforms import Compose

        self.identity = identity
        self._model, self._threshold, self._vocabulary = model, threshold, vocabulary
        self._takes_words = hasattr(model, "language_model")
        # Its own parts work on one picture at a time; `_parts` has the same borders.
        self._chunk = (model.test_cfg or {}).get("chunked_size", -1) if self._takes_words else -1
        if self._chunk > 0:
            model.test_cfg.chunked_size = -1
        self._pipeline = Compose(_test_steps(model.cfg))

    @property
    def labels(self) -> tuple[str, ...] | None:
        """What it can find; None where the words come picture by picture."""
        return self._vocabulary if self._takes_words else tuple(map(str, self._model.dataset_meta["classes"]))

    def detect(self, pictures: Sequence[Image.Image], words: Sequence[Sequence[str]] | None) -> list[Detections]:
        """Objects of each RGB picture, best first, xyxy in its float pixels; no words, no boxes.

        Raises:
            UsageError: neither words nor a vocabulary, and the model needs them; or an operator that is not there.
        """
        found: list[list[Object]] = [[] for _ in pictures]
        for asked, members in self._groups(pictures, words):
            for part in self.word_parts(asked):
                results = self._forward([data for _, data in members], part)
                for (index, _), result in zip(members, results, strict=True):
                    found[index] += self._objects(result.pred_instances, part)
        return [ranked(objects) for objects in found]

    def draw(self, picture: Image.Image, found: Detections) -> Image.Image:
        """A copy of an RGB picture with its boxes (xyxy in its pixels), by MMDetection's own visualiser."""
        from mmdet.structures import DetDataSample
        from mmdet.visualization import DetLocalVisualizer
        from mmengine.structures import InstanceData

        names = sorted(set(found.labels))
        sample = DetDataSample()
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor(found.boxes, dtype=torch.float32).reshape(-1, 4),
            scores=torch.tensor(found.scores, dtype=torch.float32),
            labels=torch.tensor([names.index(label) for label in found.labels], dtype=torch.int64),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            visualizer = DetLocalVisualizer()
            visualizer.dataset_meta = {"classes": names, "palette": "random"}
            visualizer.add_datasample("", np.array(picture), sample, draw_gt=False, pred_score_thr=0.0)
        return Image.fromarray(visualizer.get_image())

    def _groups(
        self, pictures: Sequence[Image.Image], words: Sequence[Sequence[str]] | None
    ) -> Iterator[tuple[tuple[str, ...], list[tuple[int, dict[str, Any]]]]]:
        """Words, and the pictures that may share a forward pass with them: their indices and prepared data."""
        if self._takes_words and words is None and self._vocabulary is None:
            raise UsageError("detector", "mmdet: this model looks for words: give `vocabulary` or `tagger`")
        groups: dict[tuple[tuple[str, ...], torch.Size], list[tuple[int, dict[str, Any]]]] = {}
        for index, picture in enumerate(pictures):
            asked = (self._vocabulary or () if words is None else tuple(words[index])) if self._takes_words else ()
            if asked or not self._takes_words:
                data = self._prepared(picture)
                groups.setdefault((asked, data["inputs"].shape), []).append((index, data))
        for (asked, _), members in groups.items():
            yield asked, members

    def _prepared(self, picture: Image.Image) -> dict[str, Any]:
        return self._pipeline({"img": np.ascontiguousarray(np.asarray(picture)[:, :, ::-1]), "img_id": 0})

    def word_parts(self, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """The words in as few parts as the text encoder takes; one empty part for a closed set of classes."""
        if not self._takes_words:
            yield ()
            return
        language = self._model.language_model
        part: list[str] = []
        used = 0
        for word in words:
            if not as_phrase(word):
                continue
            length = len(language.tokenizer(f"{as_phrase(word)}. ", add_special_tokens=False).input_ids)
            if part and (used + length > language.max_tokens - 2 or len(part) == self._chunk):
                yield tuple(part)
                part, used = [], 0
            part.append(word)
            used += length
        if part:
            yield tuple(part)

    def _forward(self, prepared: list[dict[str, Any]], words: tuple[str, ...]) -> list[Any]:
        batch = {key: [one[key] for one in prepared] for key in ("inputs", "data_samples")}
        for sample in batch["data_samples"] if words else ():
            sample.set_metainfo({"text": tuple(map(as_phrase, words)), "custom_entities": True})
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            return self._model.test_step(batch)

    def _objects(self, found: Any, words: tuple[str, ...]) -> list[Object]:
        found = found[found.scores >= self._threshold]
        names = words or self._model.dataset_meta["classes"]
        labels = [str(names[label]) if label < len(names) else f"class {label}" for label in found.labels.tolist()]
        boxes = [(x0, y0, x1, y1) for x0, y0, x1, y1 in found.bboxes.float().tolist()]
        return list(zip(found.scores.float().tolist(), boxes, labels, strict=True))


def as_phrase(word: str) -> str:
    """A word as it may stand between full stops; what is in brackets MMDetection leaves out itself."""
    plain = re.sub(r"\(.*\)", "", word).replace("_", " ").replace(".", " ")
    return " ".join(plain.split())


def _test_steps(config: Any) -> list[Any]:
    """The config's test pipeline on arrays in place of files, without annotations."""
    from mmdet.utils import get_test_pipeline_cfg

    steps = get_test_pipeline_cfg(config.copy())
    loading = {"type": "mmdet.LoadImageFromNDArray", "to_float32": bool(steps[0].get("to_float32", False))}
    return [loading, *(step for step in steps[1:] if not str(step.type).endswith("Annotations"))]


def _language_model(config: Any, places: Sequence[Path]) -> Path | None:
    """The folder of a config's language model: as named, beside the checkpoint or config, or in the hub's cache."""
    if "language_model" not in config.model:
        return None
    name = config.model.language_model.name
    for folder in (Path(name), *(place / Path(name).name for place in places)):
        if (folder / "config.json").is_file():
            return folder
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json")
    if not isinstance(cached, str):
        raise CheckpointError(f"{WHAT}: the model reads words with {name}: put its folder into {places[0]}")
    return Path(cached).parent


def place_language_model(config: Any, folder: Path) -> None:
    """Point a config at a folder, and leave out what only training needs."""
    config.model.language_model.name = str(folder)
    if "lang_model_name" in config.model.bbox_head:
        config.model.bbox_head.lang_model_name = str(folder)
    if "num_cp" in config.model.get("encoder", {}):
        config.model.encoder.num_cp = 0


def import_mmdet() -> None:
    """Import MMDetection on mmcv-lite and today's transformers, without its log."""
    _import_opencv()
    for module in ("mmengine", "mmcv"):
        require(module, what=WHAT, extra="mmdet")
    mmcv_ops.install()
    require("mmdet.apis", what=WHAT, extra="mmdet")
    from mmengine.logging import MMLogger

    from mgtool.detectors import mmdet_transformers

    mmdet_transformers.install()
    if not MMLogger.check_instance_created("mgtool"):
        MMLogger.get_instance("mgtool", log_level="ERROR")
    logging.getLogger("mmengine").setLevel(logging.ERROR)


def _import_opencv() -> None:
    """Import what MMEngine needs, or say what is missing of its own.

    Raises:
        MissingExtraError: it is not installed.
        UsageError: it is, and finds no library of the system, as opencv-python in a container without libGL.
    """
    try:
        require("cv2", what=WHAT, extra="mmdet")
    except ModuleNotFoundError:
        raise
    except ImportError as error:
        advice = "pip install --force-reinstall --no-deps opencv-python-headless, which needs no screen"
        raise UsageError("detector", f"mmdet: OpenCV cannot be loaded: {advice} ({_said(error)})") from error


def _read(name: str, weights: str, *, trust: bool) -> tuple[Any, dict[str, Any]]:
    """The config, by name or out of the checkpoint, and the checkpoint."""
    config = read_config(name) if name else None
    if not weights:
        raise UsageError("detector", f"mmdet:{name}: give its weights too: {WHAT}:{name}:CHECKPOINT.pth")
    checkpoint = _checkpoint(checkpoint_file(weights), trust=trust)
    return config if config is not None else _own_config(weights, checkpoint, trust=trust), checkpoint


def _set_iou(config: Any, iou: float | None) -> None:
    """Let the model's own suppression of boxes, of its last stage, take another overlap."""
    if iou is None:
        return
    last = config.model.get("test_cfg") or {}
    last = last.get("rcnn", last)
    if "nms" not in last:
        raise UsageError("iou", ": this model suppresses no boxes itself; `nms` does so with what it finds")
    last.nms.iou_threshold = iou


def _shipped() -> Path | None:
    """The folder of the configs that ship with MMDetection, without importing it; None where it is not installed."""
    spec = importlib.util.find_spec("mmdet")
    places = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(places)), ".mim", "configs").resolve() if places else None


def _refuse_foreign(name: str) -> None:
    """Refuse a config that does not ship with MMDetection: reading it runs it.

    Raises:
        UsageError: naming the option that allows it.
    """
    path, shipped = Path(name), _shipped()
    if path.is_file() and not (shipped is not None and path.resolve().is_relative_to(shipped)):
        advice = "if you trust their source, add `trust_config`"
        detail = f"mmdet:{name}: the config is Python code, and would be run with all files that it names: {advice}"
        raise UsageError("detector", detail)


def _said(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def read_config(name: str) -> Any:
    from mmengine.config import Config

    path = Path(name)
    if not path.is_file():
        found = sorted((_shipped() or path).rglob(f"{path.name.removesuffix('.py')}.py"))
        path = next(iter(found), path)
    if not path.is_file():
        raise UsageError("detector", f"mmdet:{name}: no such config file, and none of this name ships with MMDetection")
    try:
        return Config.fromfile(str(path))
    except Exception as error:
        raise UsageError("detector", f"mmdet:{name}: not a readable config: {_said(error)}") from error


def _own_config(name: str, checkpoint: dict[str, Any], *, trust: bool) -> Any:
    """The config that training left in a checkpoint."""
    from mmengine.config import Config

    meta = checkpoint.get("meta", {})
    text = meta.get("cfg") or meta.get("config")
    if not isinstance(text, str):
        raise UsageError("detector", f"mmdet:{name}: the checkpoint carries no config: give {WHAT}:CONFIG:{name}")
    if not trust:
        # reading a config runs it
        advice = f"give {WHAT}:CONFIG:{name}, or, if you trust its source, add `trust_checkpoint`"
        raise UsageError("detector", f"mmdet:{name}: the config in the checkpoint is Python code: {advice}")
    try:
        return Config.fromstring(text, ".py")
    except Exception as error:
        raise UsageError("detector", f"mmdet:{name}: the checkpoint's config cannot be read: {_said(error)}") from error


def _plain(value: Any) -> Any:
    """A config's values as JSON ones."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, str | int | float | None) else str(value)


def _checkpoint(path: Path, *, trust: bool) -> dict[str, Any]:
    from pickle import UnpicklingError

    if not trust:
        checkpoints.check(path)
    try:
        # Pickles run code: only where the user said so.
        return torch.load(path, map_location="cpu", weights_only=not trust)
    except UnpicklingError as error:
        advice = "if you trust its source, add `trust_checkpoint`"
        raise CheckpointError(f"{path}: holds more than tensors, or is no checkpoint; {advice}") from error
    except (OSError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint: {str(error).splitlines()[0]}") from error


def _build(config: Any, checkpoint: dict[str, Any], device: str) -> Any:
    from mmdet.apis import init_detector

    model = init_detector(config, None, device="cpu")
    model.dataset_meta["classes"] = class_names(config, checkpoint) or model.dataset_meta["classes"]
    weights = checkpoint.get("state_dict", checkpoint)
    weights = {key.removeprefix("module."): value for key, value in weights.items()}
    try:
        missing = model.load_state_dict(weights, strict=False).missing_keys
    except RuntimeError as error:
        raise CheckpointError(f"{WHAT}: the checkpoint does not fit: {str(error).splitlines()[-1].strip()}") from error
    missing = [key for key in missing if not key.endswith(("num_batches_tracked", "position_ids"))]
    if missing:
        raise CheckpointError(f"{WHAT}: the checkpoint lacks {len(missing)} weights of the config, as {missing[0]}")
    _leave_out_masks(model)
    return model.to(device).eval()


def class_names(config: Any, checkpoint: dict[str, Any]) -> Sequence[str] | None:
    """Names from the checkpoint's meta in any of its forms, else from the config's data set."""
    meta = _lowered(checkpoint.get("meta", {}))
    metainfo = _lowered(config.test_dataloader.dataset.get("metainfo") or {})
    return _lowered(meta.get("dataset_meta") or {}).get("classes") or meta.get("classes") or metainfo.get("classes")


def _lowered(values: dict[str, Any]) -> dict[str, Any]:
    return {key.lower(): value for key, value in values.items()}


def _leave_out_masks(model: Any) -> None:
    """Boxes do not need masks, which take most of the time where there are many."""
    head: Any = getattr(model, "roi_head", None)
    if type(head).__name__ in ("StandardRoIHead", "CascadeRoIHead") and head.with_mask:
        head.mask_head = None
