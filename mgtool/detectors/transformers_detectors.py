"""Any object detector of transformers, by its own processor: a fixed set of classes, or words in free text."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mgtool.detectors.base import Object, Settings, ranked, refuse_words
from mgtool.detectors.weights_files import hash_folder, load_pretrained, load_processor, model_folder
from mgtool.errors import CheckpointError, UsageError
from mgtool.files.checkpoints import explained
from mgtool.records import Detections
from mgtool.runs import devices

OWL = ("owlvit", "owlv2")
GROUNDING = ("grounding-dino", "mm-grounding-dino")
PROMPT = "a photo of {}"
"""What OWL-ViT and OWLv2 are asked about a word."""
_HEAD = re.compile(r"(^|[._])((b?box|class|score|labels)_(embed|head|predictor|classifier)|integral)(\.\d+)?$")
"""Names of the modules of transformers' detectors that give scores and boxes."""


def load(target: str, settings: Settings) -> TransformersDetector:
    """The detector of ``hf:PATH``; errors as `TransformersDetector`."""
    settings.refuse_iou("hf")
    chosen = settings.devices()
    return TransformersDetector(
        target,
        threshold=settings.threshold,
        vocabulary=settings.vocabulary,
        device=chosen.name,
        dtype=chosen.dtype,
    )


class TransformersDetector:
    """Runs DETR and its kin, YOLOS, OWL-ViT, OWLv2 or (MM-)Grounding DINO.

    Pictures share a forward pass where they have one size after resizing and the same words: padding or other
    words would change their boxes.

    Args:
        folder: a saved model with its processor.
        threshold: a box is kept when its score is above this; None for what transformers takes for the kind.
        vocabulary: words for pictures that bring none; None for a detector of a fixed set of classes.
        device: where it runs.
        dtype: what the network computes in; its heads, scores and boxes are float32 always.

    Raises:
        CheckpointError: files that are not there, do not fit, or hold no object detector.
        UsageError: a vocabulary for a fixed set of classes.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        threshold: float | None = None,
        vocabulary: Sequence[str] | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        path = model_folder(str(folder))
        self.kind, auto_model, auto_processor = _classes(path)
        self.open_vocabulary = self.kind in OWL + GROUNDING
        if not self.open_vocabulary:
            refuse_words(f"hf:{folder}", vocabulary)
        self.model = load_pretrained(auto_model, path, device)
        self._dtype = dtype
        if dtype != "float32":
            _keep_heads_in_float32(self.model)
        self.processor = load_processor(auto_processor, path)
        defaults = dict.fromkeys(OWL, 0.1) | dict.fromkeys(GROUNDING, 0.25)
        self.own_threshold = defaults.get(self.kind, 0.5)
        self._threshold = Settings(threshold).lowest(self.own_threshold)
        self.vocabulary = None if vocabulary is None else tuple(vocabulary)
        weights = f"weights={hash_folder(path)} dtype={dtype}"
        self.identity = f"hf {self.kind} {weights} threshold={self._threshold}"

    @property
    def labels(self) -> tuple[str, ...] | None:
        """What it can find; None where the words come picture by picture."""
        return self.vocabulary if self.open_vocabulary else tuple(self.model.config.id2label.values())

    def detect(self, pictures: Sequence[Image.Image], words: Sequence[Sequence[str]] | None) -> list[Detections]:
        """Objects of each picture, best first; boxes as the model gives them, not clipped.

        Args:
            pictures: RGB, of any sizes.
            words: what to look for, picture by picture; None for the vocabulary. No words, no boxes. Ignored by a
                detector of a fixed set of classes.

        Raises:
            UsageError: neither words nor a vocabulary, and the model needs them.
        """
        found: list[list[Object]] = [[] for _ in pictures]
        for indices, asked, pixels in self._groups(pictures, words):
            sizes = [(pictures[index].height, pictures[index].width) for index in indices]
            for part in self.word_parts(asked):
                for index, objects in zip(indices, self._run(part, pixels, sizes), strict=True):
                    found[index] += objects
        return [ranked(objects) for objects in found]

    def _groups(
        self, pictures: Sequence[Image.Image], words: Sequence[Sequence[str]] | None
    ) -> Iterator[tuple[list[int], tuple[str, ...], dict[str, Tensor]]]:
        """Pictures that may share a forward pass: their indices, their words, their pixels."""
        if self.open_vocabulary and words is None and self.vocabulary is None:
            raise UsageError("detector", f"hf: {self.kind} looks for words: give `vocabulary` or `tagger`")
        groups: dict[tuple[tuple[str, ...], torch.Size], list[tuple[int, dict[str, Tensor]]]] = {}
        for index, picture in enumerate(pictures):
            asked = (self.vocabulary or () if words is None else tuple(words[index])) if self.open_vocabulary else ()
            if asked or not self.open_vocabulary:
                pixels = self._image_processor(picture, return_tensors="pt")
                groups.setdefault((asked, pixels["pixel_values"].shape), []).append((index, pixels))
        for (asked, _), members in groups.items():
            names = [name for name in ("pixel_values", "pixel_mask") if name in members[0][1]]
            yield [i for i, _ in members], asked, {name: torch.cat([p[name] for _, p in members]) for name in names}

    @property
    def _image_processor(self) -> Any:
        return self.processor.image_processor if self.open_vocabulary else self.processor

    def word_parts(self, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """The words in as few parts as the text encoder takes; only Grounding DINO has a limit."""
        if self.kind not in GROUNDING:
            yield words
            return
        limit = self.model.config.max_text_len - 2
        part: list[str] = []
        used = 0
        for word in words:
            length = len(self.processor.tokenizer(_phrase(word), add_special_tokens=False).input_ids)
            if part and used + length > limit:
                yield tuple(part)
                part, used = [], 0
            part.append(word)
            used += length
        yield tuple(part)

    @torch.inference_mode()
    def _run(
        self, words: tuple[str, ...], pixels: dict[str, Tensor], sizes: list[tuple[int, int]]
    ) -> list[list[Object]]:
        images = {name: value.to(self.model.device) for name, value in pixels.items()}
        if self.kind in GROUNDING:
            return self._run_grounding(words, images, sizes)
        if self.kind in (*OWL, "yolos"):
            images.pop("pixel_mask", None)
        if self.kind in OWL:
            text = self._tokens([PROMPT.format(word.lower()) for word in words] * len(sizes))
            post, names = self.processor.post_process_grounded_object_detection, words
        else:
            text, post, names = {}, self.processor.post_process_object_detection, self.model.config.id2label
        results = post(self._forward(**text, **images), threshold=self._threshold, target_sizes=sizes)
        return [_objects(r["scores"], r["boxes"], [names[i] for i in r["labels"].tolist()]) for r in results]

    def _tokens(self, queries: list[str]) -> dict[str, Tensor]:
        length = self.model.config.text_config.max_position_embeddings
        options = {"padding": "max_length", "truncation": True, "max_length": length}
        return self.processor.tokenizer(queries, return_tensors="pt", **options).to(self.model.device)

    def _forward(self, **inputs: Tensor) -> Any:
        with devices.computing_in(self._dtype, self.model.device.type):
            outputs = self.model(**inputs)
        outputs.logits, outputs.pred_boxes = outputs.logits.float(), outputs.pred_boxes.float()
        return outputs

    def _run_grounding(
        self, words: tuple[str, ...], images: dict[str, Tensor], sizes: list[tuple[int, int]]
    ) -> list[list[Object]]:
        text = "".join(map(_phrase, words))
        tokens = self.processor.tokenizer([text] * len(sizes), return_token_type_ids=True, return_tensors="pt")
        outputs = self._forward(**tokens.to(self.model.device), **images)
        results = self.processor.post_process_grounded_object_detection(
            outputs, tokens["input_ids"], threshold=self._threshold, target_sizes=sizes
        )
        # the processor's labels are fragments of tokens; the word that holds the best token is what was asked for
        owner = self._owners(words).to(self.model.device)
        answers = []
        for result, logits in zip(results, outputs.logits, strict=True):
            kept = logits[logits.sigmoid().max(-1).values > self._threshold][:, : len(owner)]
            best = owner[kept.masked_fill(owner < 0, float("-inf")).argmax(-1)].tolist()
            answers.append(_objects(result["scores"], result["boxes"], [words[index] for index in best]))
        return answers

    def _owners(self, words: tuple[str, ...]) -> Tensor:
        """(tokens,) the index of each token's word; -1 for what belongs to none."""
        tokenizer = self.processor.tokenizer
        owners = [-1]
        for index, word in enumerate(words):
            length = len(tokenizer(_phrase(word), add_special_tokens=False).input_ids)
            owners += [index] * (length - 1) + [-1]
        return torch.tensor([*owners, -1])


def _phrase(word: str) -> str:
    # a full stop ends a phrase, so none may stand inside a word
    return f"{word.lower().replace('.', ' ').strip()}. "


def _classes(path: Path) -> tuple[str, Any, Any]:
    from transformers import (
        AutoConfig,
        AutoImageProcessor,
        AutoModelForObjectDetection,
        AutoModelForZeroShotObjectDetection,
        AutoProcessor,
    )

    with explained(f"{path}/config.json: no configuration that transformers knows"):
        config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    if config.model_type in OWL + GROUNDING:
        return config.model_type, AutoModelForZeroShotObjectDetection, AutoProcessor
    if type(config) in AutoModelForObjectDetection._model_mapping:
        return config.model_type, AutoModelForObjectDetection, AutoImageProcessor
    known = "DETR, RT-DETR, D-FINE, YOLOS, OWL-ViT, OWLv2, Grounding DINO and their kin"
    raise CheckpointError(f"{path}: {config.model_type} is no object detector that mgtool runs ({known})")


def _keep_heads_in_float32(model: Any) -> None:
    """What gives scores and boxes is left out of autocast: narrow formats have too few digits for pixels."""
    for name, module in model.named_modules():
        if _HEAD.search(name) and not isinstance(module, torch.nn.ModuleList):
            module.forward = functools.partial(_in_float32, module.forward, model.device.type)


def _in_float32(forward: Callable[..., Any], device: str, *args: Any, **kwargs: Any) -> Any:
    with torch.autocast(device, enabled=False):
        return forward(*map(_widened, args), **{name: _widened(value) for name, value in kwargs.items()})


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _objects(scores: Tensor, boxes: Tensor, labels: list[str]) -> list[Object]:
    corners = [(x0, y0, x1, y1) for x0, y0, x1, y1 in boxes.tolist()]
    return list(zip(scores.tolist(), corners, labels, strict=True))
