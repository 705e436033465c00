"""What the options stand for: the input's pictures, the finder with its weights, the batch size."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from mgtool import detectors
from mgtool.boxes import coordinates, formats
from mgtool.boxes.filters import Filters
from mgtool.boxes.thresholds import LabelThresholds
from mgtool.detection import labels, replicas
from mgtool.detection.batch_size import BatchSize
from mgtool.detection.finder import Finder
from mgtool.detection.known_boxes import KnownBoxes
from mgtool.detection.options import DetectOptions
from mgtool.detection.picture_loader import Named
from mgtool.detection.views import ViewingDetector
from mgtool.detectors import vocabulary
from mgtool.inputs import line_index, sources
from mgtool.inputs.first_items import refuse_without_pictures
from mgtool.inputs.line_index import LineIndex, Start
from mgtool.media.reading import Place
from mgtool.records import Failure, Item, LeftOut
from mgtool.runs.ray_nodes import Needs
from mgtool.runs.workers import default_workers

_NO_VIDEOS = "this form has no place for videos; jsonl, parquet and mg-llava have"


def named_media(
    inputs: Sequence[str],
    options: DetectOptions,
    stdin: IO[bytes] | None = None,
    left_out: LeftOut | None = None,
) -> Iterator[Named]:
    """Every picture and video of the input, in order; `stdin` is what ``-`` reads, `left_out` as of `read_samples`."""
    samples = _samples(inputs, options, stdin=stdin, left_out=left_out)
    return _media(samples if options.allow_missing else refuse_without_pictures(samples, options.images), options)


def _samples(inputs: Sequence[str], options: DetectOptions, **how: Any) -> Iterator[Item]:
    return sources.read_samples(
        inputs,
        images=options.images,
        allow_absolute=options.allow_absolute,
        allow_remote=options.allow_remote,
        wants_boxes=False,
        **how,
    )


def _media(samples: Iterator[Item], options: DetectOptions) -> Iterator[Named]:
    items = sources.pictures(samples)
    return items if formats.FORMATS[options.format].has_videos else _without_videos(items)


def indexed(path: Path, inputs: Sequence[str], options: DetectOptions, identity: Any) -> LineIndex:
    """An index of the input, by which shares read what is theirs alone; arguments as of `line_index.kept`."""
    return line_index.kept(path, inputs, identity, lambda seen: _media(_samples(inputs, options, seen=seen), options))


def place(options: DetectOptions) -> Place:
    """Where pictures are looked up by the names of their records."""
    return Place.of(options.images, allow_absolute=options.allow_absolute, allow_remote=options.allow_remote)


def named_share(
    inputs: Sequence[str],
    options: DetectOptions,
    stdin: IO[bytes] | None = None,
    left_out: LeftOut | None = None,
    index: LineIndex | None = None,
) -> Iterator[Named]:
    """Those of this run's share of the input; `left_out` is told of all of it. `index` is one of the inputs."""
    if index is None:
        once = iter([left_out])  # a share may go over the input twice
        return options.share.of(lambda: named_media(inputs, options, stdin, next(once, None)))
    if left_out is not None:
        left_out.take(index.left_out)
    return index.stretch(options.share, functools.partial(_media_from, inputs, options))


def _media_from(inputs: Sequence[str], options: DetectOptions, start: Start | None) -> Iterator[Named]:
    """What stands behind a place; what is wrong with the first ones is said from there, too."""
    if start is None:
        return named_media(inputs, options)
    if not options.allow_missing:
        next(named_media(inputs, options), None)
    return _media(_samples(inputs, options, start=start), options)


def _without_videos(items: Iterator[Named]) -> Iterator[Named]:
    for item in items:
        if isinstance(item, tuple) and item[1] is item[0].video:
            yield Failure(id=item[0].id, stage="detect", reason="unsupported", detail=_NO_VIDEOS)
        else:
            yield item


def needs(inputs: Sequence[str], options: DetectOptions) -> Needs:
    """What nodes of a cluster have to see."""
    weights = [piece for spec in (options.detector, options.tagger) for piece in spec.split(":")[1:]]
    words = (options.vocabulary, options.keep, options.drop, options.tag_list, options.tag_thresholds)
    return Needs.of(*inputs, options.images, options.boxes, *weights, *words)


def load_finder(options: DetectOptions) -> Finder:
    """The detector and the tagger, with their weights, and the boxes that are known."""
    kind, _, target = options.detector.partition(":")
    filters = _filters(options)
    if kind == detectors.BOXES:
        alone = KnownBoxes(target, coordinates.named(options.box_format), alone=True)
        labels.note_unknown(options, alone)
        return Finder(None, None, filters, alone)
    known = KnownBoxes(options.boxes, coordinates.named(options.box_format)) if options.boxes else None
    if len(options.devices) > 1:
        load = functools.partial(_on_device, options)
        return replicas.launch(load, options.devices, options.batch_size, filters, known)
    finder = _load(options, filters, known)
    labels.refuse_unknown(options, finder.detector, finder.tagger, known)
    return finder


def _on_device(options: DetectOptions, device: str) -> Finder:
    """What looks at the pictures that are not known; labels of known boxes are not at hand there."""
    finder = _load(replace(options, device=device), _filters(options), None)
    if not options.boxes:
        labels.refuse_unknown(options, finder.detector, finder.tagger, None)
    return finder


def _load(options: DetectOptions, filters: Filters, known: KnownBoxes | None) -> Finder:
    tagger = _load_tagger(options) if options.tagger else None
    detector = None if options.detector == "none" else _load_detector(options)
    if detector is not None and isinstance(options.threshold, LabelThresholds):
        filters = replace(filters, own_threshold=detector.own_threshold)
    return Finder(detector, tagger, filters, known)


def _load_tagger(options: DetectOptions) -> detectors.Tagger:
    return detectors.load_tagger(
        options.tagger,
        device=options.device,
        dtype=options.dtype,
        tag_list=options.tag_list,
        tag_thresholds=options.tag_thresholds,
    )


def _load_detector(options: DetectOptions) -> detectors.Detector:
    detector = detectors.load(
        options.detector,
        threshold=options.threshold,
        device=options.device,
        dtype=options.dtype,
        vocabulary=words(options),
        trust_checkpoint=options.trust_checkpoint,
        trust_config=options.trust_config,
        iou=options.iou,
    )
    return detector if options.views.is_plain else ViewingDetector(detector, options.views, options.merging)


def words(options: DetectOptions) -> tuple[str, ...] | None:
    """The words of the vocabulary; None without one."""
    return vocabulary.read(options.vocabulary) if options.vocabulary else None


def _filters(options: DetectOptions) -> Filters:
    return Filters(
        threshold=options.threshold,
        keep=vocabulary.read(options.keep, option="keep") if options.keep else None,
        drop=vocabulary.read(options.drop, option="drop") if options.drop else (),
        min_size=options.min_size,
        nms=options.nms,
        class_agnostic=options.class_agnostic and options.nms is not None,
        max_boxes=options.max_boxes,
        round=options.round,
    )


def first_batch(options: DetectOptions) -> BatchSize:
    """How many pictures the detector gets at once, to begin with."""
    return BatchSize(options.batch_size or (replicas.BATCH if len(options.devices) > 1 else None))


def decoding_workers(options: DetectOptions) -> int:
    """How many processes decode; 0 for none."""
    return default_workers() if options.workers is None else options.workers
