"""OWLv2 as the published boxes were made with it: one text query a word, embedded once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mgtool.detectors.base import Settings
from mgtool.detectors.text_embeddings import TextEmbeddings, default_path
from mgtool.detectors.weights_files import hash_folder, load_pretrained, load_processor, model_folder
from mgtool.errors import CheckpointError, UsageError
from mgtool.records import Detections, parse
from mgtool.runs import devices

PROMPT = "a photo of {}"
THRESHOLD = 0.2


def load(target: str, settings: Settings) -> Owlv2Detector:
    """The detector of ``owlv2:PATH``; errors as `Owlv2Detector`."""
    settings.refuse_iou("owlv2")
    chosen = settings.devices()
    return Owlv2Detector(
        target,
        threshold=settings.lowest(THRESHOLD),
        vocabulary=settings.vocabulary,
        device=chosen.name,
        dtype=chosen.dtype,
    )


class Owlv2Detector:
    """Finds objects by name.

    Args:
        folder: a saved ``Owlv2ForObjectDetection`` with its processor.
        threshold: a box is kept when its score is above this.
        vocabulary: words for pictures that bring none.
        cache: file of text embeddings; None for `default_path`.
        device: where it runs.
        dtype: what the picture's tower computes in; scores, boxes and words are float32 always.

    Raises:
        CheckpointError: files that are not there or do not fit.
    """

    own_threshold = THRESHOLD

    def __init__(
        self,
        folder: str | Path,
        *,
        threshold: float = THRESHOLD,
        vocabulary: Sequence[str] | None = None,
        cache: Path | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        from transformers import Owlv2ForObjectDetection, Owlv2Processor

        path = model_folder(str(folder))
        kind = parse((path / "config.json").read_bytes(), dict[str, Any], where=f"{path}/config.json").get("model_type")
        if kind != "owlv2":
            raise CheckpointError(f"{folder}: holds {kind}, not owlv2; try hf:{folder}")
        self.processor = load_processor(Owlv2Processor, path)
        self.model = load_pretrained(Owlv2ForObjectDetection, path, device)
        self.vocabulary = None if vocabulary is None else tuple(vocabulary)
        self._threshold, self._dtype = threshold, dtype
        weights = hash_folder(path)
        self.embeddings = TextEmbeddings(cache or default_path(), weights, PROMPT, self._encode)
        self.identity = f"owlv2 weights={weights} dtype={dtype} threshold={threshold} prompt={PROMPT!r}"

    @property
    def labels(self) -> tuple[str, ...] | None:
        """What it can find; None where the words come picture by picture."""
        return self.vocabulary

    def detect(self, pictures: Sequence[Image.Image], words: Sequence[Sequence[str]] | None) -> list[Detections]:
        """Objects of each picture, best first; boxes are not clipped to the picture.

        Args:
            pictures: RGB, of any sizes.
            words: what to look for, picture by picture; None for the vocabulary. No words, no boxes.

        Raises:
            UsageError: neither words nor a vocabulary.
        """
        asked = self._asked(len(pictures), words)
        busy = [index for index, names in enumerate(asked) if names]
        found = [Detections()] * len(pictures)
        if not busy:
            return found
        self.embeddings.add(word.lower() for index in busy for word in asked[index])
        features, boxes = self.see([pictures[index] for index in busy])
        for row, index in enumerate(busy):
            scores, labels = self._compare(features[row], asked[index])
            found[index] = self._detections(pictures[index].size, asked[index], scores, labels, boxes[row])
        return found

    def _asked(self, count: int, words: Sequence[Sequence[str]] | None) -> Sequence[Sequence[str]]:
        if words is None and self.vocabulary is None:
            raise UsageError("detector", "owlv2 looks for words: give `vocabulary` or `tagger`")
        return [self.vocabulary or ()] * count if words is None else words

    @torch.inference_mode()
    def _encode(self, queries: list[str]) -> Tensor:
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.processor.tokenizer(
            queries, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).to(self.model.device)
        pooled = self.model.owlv2.get_text_features(**tokens).pooler_output
        return (pooled / torch.linalg.norm(pooled, dim=-1, keepdim=True)).cpu()

    @torch.inference_mode()
    def see(self, pictures: list[Image.Image]) -> tuple[Tensor, Tensor]:
        """(b, patches, width) features and (b, patches, 4) cxcywh in parts of the padded square, both float32."""
        device = self.model.device
        pixels = self.processor.image_processor(pictures, return_tensors="pt", device=device).pixel_values
        with devices.computing_in(self._dtype, device.type):
            grid, _ = self.model.image_embedder(pixels.to(device))
        grid = grid.float()
        features = grid.flatten(1, 2)
        return features, self.model.box_predictor(features, grid)

    @torch.inference_mode()
    def _compare(self, features: Tensor, words: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(patches, width) features -> each patch's best score and the index of its word."""
        # one picture at a time: pictures have different numbers of words, and padding them changes what is best
        queries = self.embeddings([word.lower() for word in words]).to(features)
        logits, _ = self.model.class_predictor(features[None], queries[None])
        best = logits[0].max(-1)
        return best.values.sigmoid(), best.indices

    def _detections(
        self, size: tuple[int, int], words: Sequence[str], scores: Tensor, labels: Tensor, boxes: Tensor
    ) -> Detections:
        order = scores.argsort(descending=True, stable=True)
        order = order[scores[order] > self._threshold]
        centre, half = boxes[order, :2], boxes[order, 2:] / 2
        corners = torch.cat([centre - half, centre + half], dim=-1) * max(size)
        return Detections(
            boxes=tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in corners.tolist()),
            scores=tuple(scores[order].tolist()),
            labels=tuple(words[index] for index in labels[order].tolist()),
        )
