"""What one run of `detect` is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mgtool.errors import UsageError, one_of
from mgtool.files.remote import check_patterns
from mgtool.media.limits import MAX_PIXELS
from mgtool.runs.ray_cluster import Engine, check_engine
from mgtool.runs.shares import Share, check_share, share_of

if TYPE_CHECKING:
    from mgtool.boxes.merging import Merging
    from mgtool.detection.views import Views

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "mg-llava": {
            "tagger": "ram++:ram_plus_swin_large_14m.pth",
            "detector": "owlv2:owlv2-large-patch14-ensemble",
            "threshold": 0.2,
            "dtype": "float32",
            "round": True,
            "format": "mg-llava",
        }
    }
)
"""Name -> values of options that are not given; `mg-llava` is the paper's way to the published box files."""

_LEAST = {"batch_size": 1, "workers": 0, "frames": 1, "shard_size": 1, "visualize": 0, "max_pixels": 1}


@dataclass(frozen=True, kw_only=True)
class DetectOptions:
    """The options of one run; from `batch_size` on all but `dtype` and `max_pixels` change no byte of the output.

    Attributes:
        images: folder or URL that names in the input start from.
        allow_absolute: whether a record may name absolute paths of pictures and videos.
        allow_remote: which plain URLs a record may name: each ``SCHEME[:HOST-PATTERN]`` of https, s3, gs or hf.
        allow_missing: go on where `images` is not given and the first hundred items all miss their pictures.
        detector: ``nanodet``, ``tiny``, ``mmdet:[CONFIG:]CHECKPOINT``, ``owlv2:PATH``, ``hf:PATH``, ``boxes:PATH``, or
            ``none`` for tags alone.
        tagger: ``ram++:CHECKPOINT``, which gives the detector its words picture by picture; empty for none.
        tag_list: file with the tagger's tags, one a line.
        tag_thresholds: file with the tags' thresholds, one a line.
        vocabulary: the detector's words: a shipped list's name, a text file or a comma list; empty for its own.
        preset: name in `PRESETS`, whose values come in place of defaults; empty once they have.
        boxes: box file whose pictures, by hash, are not detected again.
        box_format: what the numbers of known boxes are, one of `mgtool.boxes.coordinates.NAMES`; empty for what the
            kind of file says.
        trust_checkpoint: run code that a checkpoint brings.
        trust_config: run the Python of an MMDetection config that does not ship with MMDetection, and of its bases.
        threshold: lowest score, 0 to 1, or `LabelThresholds`; the detector's own where it is None.
        iou: overlap above which the detector's own suppression drops the lesser box; its own where it is None.
        slice: side of the squares that pictures are cut into, beside being looked at as a whole; 0 for the whole alone.
        overlap: of neighbouring squares, in parts of their side.
        scales: sizes in which pictures are looked at, in parts of their own, with commas; empty for their own.
        max_size: longest side in pixels at which pictures are looked at; 0 for any.
        merge: what becomes of boxes that several looks have of one object, as `Merging.parse` takes it.
        keep: labels to keep, given as `vocabulary`.
        drop: labels to drop, given as `vocabulary`.
        min_size: pixels of a box's shorter side, at least.
        nms: a box that overlaps a better one of its label by more than this IoU is dropped.
        class_agnostic: whether boxes of different labels are dropped, and merged, too.
        max_boxes: the best so many of a picture.
        round: whole pixels, towards zero.
        frames: of a video, evenly spaced.
        format: ``jsonl``, ``coco``, ``yolo``, ``voc``, ``mg-llava`` or ``parquet``.
        shard_size: pictures of a JSON lines shard.
        visualize: number of pictures to draw.
        batch_size: pictures at once; the size that is fastest and fits where it is None.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``; ``cuda:0,cuda:1`` is a process each.
        dtype: as `mgtool.runs.devices.choose` takes it.
        workers: decoding processes, 0 for none; one a core where it is None.
        max_pixels: width times height over which a picture or video is a failure, before it is decoded.
        rank: this run's share, from 0, ``any`` for whichever are free, or ``slurm`` or ``torchrun``, whose variables
            say both numbers.
        world_size: number of shares; each run writes one of them.
        engine: ``ray`` makes every share a task of a Ray cluster.
        ray_address: the cluster; Ray's own search where it is None.
        num_actors: most processes of the cluster that work at once; None for as many as there is room for.
        gpus_per_actor: of each, parts of one allowed; None for one where there are any.
        cpus_per_actor: cores of each; None for one beside a GPU, else all of the smallest node.
        ray_runtime_env: JSON file of the environment that Ray makes for them; None for that of the nodes.
    """

    images: str | None = None
    allow_absolute: bool = False
    allow_remote: list[str] | None = None
    allow_missing: bool = False
    detector: str = "nanodet"
    tagger: str = ""
    tag_list: str | None = None
    tag_thresholds: str | None = None
    vocabulary: str = ""
    preset: str = ""
    boxes: str | None = None
    box_format: str = ""
    trust_checkpoint: bool = False
    trust_config: bool = False
    threshold: float | None = None
    iou: float | None = None
    slice: int = 0
    overlap: float = 0.2
    scales: str = ""
    max_size: int = 0
    merge: str = "greedy"
    keep: str = ""
    drop: str = ""
    min_size: float = 0
    nms: float | None = None
    class_agnostic: bool = False
    max_boxes: int | None = None
    round: bool = False
    frames: int = 8
    format: str = "jsonl"
    shard_size: int = 1000
    visualize: int = 0
    batch_size: int | None = None
    device: str = "auto"
    dtype: str | None = None
    workers: int | None = None
    max_pixels: int = MAX_PIXELS
    rank: str = "0"
    world_size: int = 1
    engine: Engine = "local"
    ray_address: str | None = None
    num_actors: int | None = None
    gpus_per_actor: float | None = None
    cpus_per_actor: float | None = None
    ray_runtime_env: Path | None = None

    def __post_init__(self) -> None:
        if self.preset:
            for name, value in _preset(self.preset).items():
                if getattr(self, name) == getattr(DetectOptions, name):
                    object.__setattr__(self, name, value)
            object.__setattr__(self, "preset", "")
        check_patterns(self.allow_remote)

    @classmethod
    def of_preset(cls, name: str, **given: Any) -> DetectOptions:
        """Options with a preset's values in place of those that are not given; what is given may be a default.

        >>> DetectOptions.of_preset("mg-llava", format="jsonl").format
        'jsonl'

        Raises:
            UsageError: no preset has this name.
        """
        return cls(**{**_preset(name), **given})

    @property
    def views(self) -> Views:
        """How pictures are looked at; errors as of `Views`."""
        from mgtool.detection.views import Views, scales_of

        return Views(self.slice, self.overlap, scales_of(self.scales), self.max_size)

    @property
    def merging(self) -> Merging:
        """The rule of `merge`; errors as of `Merging.parse`."""
        from mgtool.boxes.merging import Merging

        return Merging.parse(self.merge, class_agnostic=self.class_agnostic)

    @property
    def devices(self) -> list[str]:
        """Where a process each detects."""
        return self.device.split(",")

    @property
    def share(self) -> Share:
        """What of the input this run takes; errors as `share_of`."""
        return share_of(self.rank, self.world_size)

    def check(self, inputs: Sequence[str] = (), out: str = "") -> None:
        """Refuse what does not go together, before anything is read or loaded.

        Args:
            inputs, out: of the run; ``-`` for stdin and stdout.

        Raises:
            UsageError: naming the option.
            InputError: an input that is not there.
            CheckpointError: weights that are not there.
        """
        from mgtool.boxes import coordinates, formats
        from mgtool.inputs import sources

        check_engine(self, out=out, inputs=inputs)
        check_share(self.share, out, inputs)
        sources.check(inputs)
        formats.check(self.format)
        coordinates.named(self.box_format)
        self._check_numbers()
        self._check_words()
        self._check_detector()

    def _check_numbers(self) -> None:
        from mgtool import detectors
        from mgtool.boxes.filters import Filters

        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(name, f"{value}: give a number from {least} on")
        detectors.Settings(self.threshold, self.device, self.dtype, iou=self.iou)
        _ = self.views, self.merging
        Filters(min_size=self.min_size, nms=self.nms, max_boxes=self.max_boxes)

    def _check_words(self) -> None:
        from mgtool.detectors import vocabulary

        for name in ("keep", "drop", "vocabulary"):
            if spec := getattr(self, name):
                vocabulary.read(spec, option=name)

    def _check_detector(self) -> None:
        from mgtool import detectors

        kind = self.detector.partition(":")[0]
        self._check_looks(kind)
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

    def _check_looks(self, kind: str) -> None:
        if kind in ("boxes", "none") and (self.iou is not None or not self.views.is_plain):
            name = "iou" if self.iou is not None else "slice"
            raise UsageError(name, f": `detector` {self.detector} looks at no picture")
        if self.class_agnostic and self.nms is None and self.views.is_plain:
            raise UsageError("class_agnostic", ": give `nms`, `slice` or `scales`, or nothing is compared")


def _preset(name: str) -> Mapping[str, Any]:
    if name not in PRESETS:
        raise UsageError("preset", f"{name}: give {one_of(name, PRESETS)}")
    return PRESETS[name]
