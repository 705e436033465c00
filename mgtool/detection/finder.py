"""Objects of many pictures: in batches of a size that suits the machine, a bad picture costing only itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from PIL import Image

from mgtool.boxes import drawing
from mgtool.boxes.filters import Filters
from mgtool.detection.batch_size import BatchSize
from mgtool.detection.known_boxes import KnownBoxes
from mgtool.detection.picture_loader import Opened
from mgtool.detectors.base import Detector, Tagger
from mgtool.errors import ItemError, MgtoolError
from mgtool.records import Detections, Failure

Found = tuple[Detections, ...] | ItemError
"""Objects of a picture (one entry) or of each distinct frame of a video, or why there are none."""


@dataclass(frozen=True)
class Finder:
    """A detector, a tagger that gives it its words, or either alone; boxes that are known go before both.

    Attributes:
        filters: which boxes are kept, wherever they come from.
    """

    detector: Detector | None
    tagger: Tagger | None = None
    filters: Filters = field(default_factory=Filters)
    known: KnownBoxes | None = None

    @property
    def left_out(self) -> dict[str, Any]:
        """What the file of known boxes holds that is not used."""
        return {} if self.known is None else self.known.left_out

    @property
    def ahead(self) -> int:
        """How many batches to begin before the first is asked for its boxes."""
        return 0

    @property
    def identity(self) -> str:
        """What decides the boxes."""
        parts = (self.known, self.tagger, self.detector, self.filters)
        return " | ".join(part.identity for part in parts if part is not None and part.identity)

    def submit(self, opened: Sequence[Opened], batch: BatchSize) -> Callable[[], list[Found]]:
        """Begin to detect the objects of some pictures and videos.

        Returns:
            Gives the objects of each; one picture or frame that fails, fails what it belongs to.
        """
        recalled = [self._recall(one) for one in opened]
        rest = [one for one, known in zip(opened, recalled, strict=True) if known is None]
        finding = self.begin([picture for one in rest for picture in one.content.pictures], batch)

        def found() -> list[Found]:
            results = iter(finding())
            return [
                _together([next(results) for _ in one.content.pictures]) if known is None else known
                for one, known in zip(opened, recalled, strict=True)
            ]

        return found

    def begin(self, pictures: Sequence[Image.Image], batch: BatchSize) -> Callable[[], list[Detections | ItemError]]:
        """As `find`, for those that can compute while something else is done."""
        return lambda: self.find(pictures, batch)

    def find(self, pictures: Sequence[Image.Image], batch: BatchSize) -> list[Detections | ItemError]:
        """Objects of each picture (RGB)."""
        found: list[Detections | ItemError] = []
        while len(found) < len(pictures):
            found += self._find(pictures[len(found) : len(found) + batch.now], batch)
        return found

    def draw(self, picture: Image.Image, found: Detections) -> Image.Image:
        """A copy of an RGB picture with its boxes, by the detector's own visualiser where it has one."""
        own: drawing.Draw = getattr(self.detector, "draw", drawing.draw)
        return own(picture, found)

    def _recall(self, one: Opened) -> Found | None:
        """Objects that are known; None for a picture or video that the detector must see."""
        if self.known is None or isinstance(one.item, Failure):
            return None
        (sample, media), content = one.item, one.content
        if content.frames is not None:
            known = self.known.find_frames(content.sha256, media.name, sample.id, content.distinct)
        else:
            single = self.known.find(content.sha256, media.name, sample.picture_id, content.pictures[0].size)
            known = (single,) if isinstance(single, Detections) else single
        try:
            return tuple(map(self.filters, known)) if isinstance(known, tuple) else known
        except ItemError as error:
            return error

    def _find(self, pictures: Sequence[Image.Image], batch: BatchSize) -> list[Detections | ItemError]:
        """One batch; when it fails, its halves."""
        began = time.perf_counter()
        try:
            found = self._run(pictures)
        except MgtoolError as error:
            if not isinstance(error, ItemError):
                raise
            failed = error
        except Exception as error:  # noqa: BLE001 - whatever a model raises on a picture becomes that picture's failure
            failed = _model_error(error)
        else:
            batch.ran(len(pictures), time.perf_counter() - began)
            return list(found)
        if failed.reason == "out_of_memory":
            _release_memory()
            batch.did_not_fit(len(pictures))
        if len(pictures) == 1:
            return [failed]
        half = len(pictures) // 2
        return self._find(pictures[:half], batch) + self._find(pictures[half:], batch)

    def _run(self, pictures: Sequence[Image.Image]) -> list[Detections]:
        tags = None if self.tagger is None else self.tagger.tag(pictures)
        found = [Detections()] * len(pictures) if self.detector is None else self.detector.detect(pictures, tags)
        found = [self.filters(one) for one in found]
        if tags is None:
            return found
        return [msgspec.structs.replace(one, tags=tuple(words)) for one, words in zip(found, tags, strict=True)]


def _together(parts: Sequence[Detections | ItemError]) -> Found:
    """All frames' objects, or the first error."""
    errors = [part for part in parts if isinstance(part, ItemError)]
    return errors[0] if errors else tuple(part for part in parts if isinstance(part, Detections))


def _model_error(error: Exception) -> ItemError:
    text = (str(error) or "no message").splitlines()[0][:200]
    return ItemError("out_of_memory" if _is_out_of_memory(error) else "model_error", f"{type(error).__name__}: {text}")


def _is_out_of_memory(error: Exception) -> bool:
    """Torch and onnxruntime say it with errors of their own, some only in words."""
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
        return True
    words = ("out of memory", "not enough memory", "can't allocate memory", "failed to allocate memory", "bad_alloc")
    return any(word in str(error).lower() for word in words)


def _release_memory() -> None:
    """Give back what torch keeps of an accelerator's memory."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
