"""What one run of `mgtool detect` is asked for, and what it is made of."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

from mgtool.errors import UsageError
from mgtool.runs.shares import Share

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import typer

    from mgtool.boxes.filters import Filters
    from mgtool.detection.batch_size import BatchSize
    from mgtool.detection.finder import Finder
    from mgtool.detection.picture_loader import Named
    from mgtool.runs.run_file import Run

PRESETS: dict[str, dict[str, Any]] = {
    "mg-llava": {
        "tagger": "ram++:ram_plus_swin_large_14m.pth",
        "detector": "owlv2:owlv2-large-patch14-ensemble",
        "threshold": 0.2,
        "dtype": "float32",
        "round": True,
        "format": "mg-llava",
    }
}
"""Name -> values of options that are not given; `mg-llava` is the paper's way to the published box files."""


@dataclass(frozen=True)
class Job:
    """The options of one run; `batch_size`, `workers`, `device` and `share` do not change what comes out."""

    inputs: tuple[str, ...]
    images: str | None
    detector: str
    tagger: str
    tag_list: str | None
    tag_thresholds: str | None
    vocabulary: str
    threshold: float | None
    boxes: str | None
    keep: str
    drop: str
    min_size: float
    nms: float | None
    max_boxes: int | None
    round: bool
    dtype: str | None
    device: str
    trust_checkpoint: bool
    format: str
    shard_size: int
    visualize: int
    frames: int
    batch_size: int | None
    workers: int
    share: Share

    @property
    def devices(self) -> list[str]:
        """Where a process each looks."""
        return self.device.split(",")

    def batch(self) -> BatchSize:
        """How many pictures the detector gets at once."""
        from mgtool.detection import replicas
        from mgtool.detection.batch_size import BatchSize

        return BatchSize(self.batch_size or (replicas.BATCH if len(self.devices) > 1 else None))

    def items(self, stdin: IO[bytes] | None = None) -> Iterator[Named]:
        """Every picture of this run's share of the input, in order; `stdin` is what ``-`` reads."""
        return self.share.of(functools.partial(self.all_items, stdin))

    def all_items(self, stdin: IO[bytes] | None = None) -> Iterator[Named]:
        """Every picture of the input, in order."""
        from mgtool.inputs import sources

        items = sources.pictures(sources.read_samples(self.inputs, images=self.images, stdin=stdin))
        return _without_videos(items) if self.format == "coco" else items

    def run(self, folder: Path, finder: Finder) -> Run:
        """The record of the run that fills a folder."""
        from mgtool.inputs import sources
        from mgtool.inputs.fingerprints import fingerprint
        from mgtool.runs.run_file import RUN_FILE, Run

        names = ("vocabulary", "threshold", "format", "shard_size", "frames")
        return Run(
            folder / RUN_FILE,
            command="detect",
            options={**{name: getattr(self, name) for name in names}, "words": self._words_hash()},
            inputs={"inputs": [fingerprint(given, sources.files) for given in self.inputs], "images": self.images},
            free={"batch_size": self.batch_size or "auto", "workers": self.workers, "device": self.device},
            detector=finder.identity,
            computes=("onnxruntime", "mmdet", "pillow", "numpy"),
        )

    def _words(self) -> tuple[str, ...] | None:
        from mgtool.detectors import vocabulary

        return vocabulary.read(self.vocabulary) if self.vocabulary else None

    def _words_hash(self) -> str | None:
        from mgtool.files.hashing import sha256

        words = self._words()
        return None if words is None else sha256("\n".join(words).encode())[:16]

    def filters(self) -> Filters:
        """Which boxes are kept."""
        from mgtool.boxes.filters import Filters
        from mgtool.detectors import vocabulary

        return Filters(
            threshold=self.threshold,
            keep=vocabulary.read(self.keep, option="--keep") if self.keep else None,
            drop=vocabulary.read(self.drop, option="--drop") if self.drop else (),
            min_size=self.min_size,
            nms=self.nms,
            max_boxes=self.max_boxes,
            round=self.round,
        )

    def finder(self) -> Finder:
        """The detector and the tagger, with their weights, and the boxes that are known."""
        from mgtool import detectors
        from mgtool.detection import replicas
        from mgtool.detection.finder import Finder
        from mgtool.detection.known_boxes import KnownBoxes

        kind, _, target = self.detector.partition(":")
        if kind == detectors.BOXES:
            return Finder(None, None, self.filters(), KnownBoxes(target, alone=True))
        known = KnownBoxes(self.boxes) if self.boxes else None
        if len(self.devices) > 1:
            load = functools.partial(_on_device, replace(self, boxes=None))
            return replicas.launch(load, self.devices, self.batch_size, self.filters(), known)
        tagger = None
        if self.tagger:
            tagger = detectors.load_tagger(
                self.tagger,
                device=self.device,
                dtype=self.dtype,
                tag_list=self.tag_list,
                tag_thresholds=self.tag_thresholds,
            )
        if self.detector == "none":
            return Finder(None, tagger, self.filters(), known)
        detector = detectors.load(
            self.detector,
            threshold=self.threshold,
            device=self.device,
            dtype=self.dtype,
            vocabulary=self._words(),
            trust_checkpoint=self.trust_checkpoint,
        )
        return Finder(detector, tagger, self.filters(), known)

    def check(self) -> None:
        """Refuse what does not go together, before anything is read or loaded."""
        from mgtool import detectors
        from mgtool.boxes import formats
        from mgtool.inputs import sources

        sources.check(self.inputs)
        formats.check(self.format)
        detectors.Settings(self.threshold, self.device, self.dtype)
        self.filters()
        self._words()
        self._check_detector()

    def _check_detector(self) -> None:
        from mgtool import detectors

        kind = self.detector.partition(":")[0]
        if kind == detectors.BOXES and (self.tagger or self.boxes):
            raise UsageError("detector", f"{self.detector}: looks at no picture; leave `tagger` and `boxes` out")
        if kind == "none" and not self.tagger:
            raise UsageError("detector", "none: give a `tagger`, or there is nothing to do")
        if kind in (*detectors.SHIPPED, detectors.BOXES, "none"):
            detectors.refuse_words(self.detector, self.vocabulary)
        if kind == "owlv2" and not (self.vocabulary or self.tagger):
            raise UsageError("detector", "owlv2 looks for words: give `vocabulary` or `tagger`")
        if self.vocabulary and self.tagger:
            raise UsageError("vocabulary", "and `tagger` both say what to look for: leave one out")
        if self.tagger:
            detectors.check_tagger_files(self.tagger)
        if kind != "none":
            detectors.check_files(self.detector)


def preset(name: str, context: typer.Context, out: str) -> dict[str, Any]:
    """A preset's values of the options that are given nowhere."""
    if name and name not in PRESETS:
        raise UsageError("preset", f"{name}: give {', '.join(PRESETS)}")
    values = {key: value for key, value in PRESETS.get(name, {}).items() if out != "-" or key != "format"}
    sources = {key: context.get_parameter_source(key) for key in values}
    return {key: value for key, value in values.items() if (source := sources[key]) and source.name == "DEFAULT"}


def batch_size(text: str) -> int | None:
    """A given size; None where it is to be found."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError("batch_size", f"{text}: give a number from 1 on, or auto")
    return int(text)


def _on_device(job: Job, device: str) -> Finder:
    return replace(job, device=device).finder()


def _without_videos(items: Iterator[Named]) -> Iterator[Named]:
    from mgtool.records import Failure

    detail = "COCO's form has no place for videos; jsonl, parquet and mg-llava have"
    for item in items:
        if isinstance(item, tuple) and item[1] is item[0].video:
            yield Failure(id=item[0].id, stage="detect", reason="unsupported", detail=detail)
        else:
            yield item
