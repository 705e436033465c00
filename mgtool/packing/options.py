"""What a packing run is asked for."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from mgtool.errors import UsageError, one_of
from mgtool.files.remote import check_patterns
from mgtool.media.limits import MAX_PIXELS
from mgtool.runs.ray_cluster import OF_A_CLUSTER, Engine, check_actors

MissingBoxes = Literal["fail", "empty", "skip"]
Check = Literal["structure", "decode"]
Exif = Literal["keep", "apply"]

_CHOICES = {"missing_boxes": get_args(MissingBoxes), "check": get_args(Check), "exif": get_args(Exif)}
_CHOICES["engine"] = get_args(Engine)
_LEAST = {"max_pixels": 1, "resize": 0, "min_boxes": 0, "workers": 0}
_REENCODE = re.compile(r"(jpeg|webp):(\d{1,3})|png")
_SPLIT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_FREE = ("allow_absolute", "allow_missing", "allow_remote", "append", "box_format", "energon", "workers", *OF_A_CLUSTER)
"""What changes no byte of a shard, or only through what the input or the boxes are, which are compared."""


@dataclass(frozen=True)
class Size:
    """How much a shard holds: `samples`, or `bytes` of pictures, videos and texts as they come in; the other is 0."""

    samples: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        return f"{self.bytes}B" if self.bytes else str(self.samples)


@dataclass(frozen=True)
class Source:
    """What is packed, with its pictures and boxes.

    Attributes:
        input: a path, URL or pattern of what `mgtool` reads, ``-`` for stdin, or several of these.
        images: folder that relative names of pictures start from; None for the input's own.
        boxes: boxes in any form of `mgtool.boxes.formats`, as they lie, in place of all that the input
            carries; None for these.
    """

    input: str | Path | Sequence[str | Path]
    images: str | Path | None = None
    boxes: str | Path | None = None

    @property
    def inputs(self) -> list[str]:
        """Each input."""
        given = self.input
        return [str(given)] if isinstance(given, str | Path) else [str(one) for one in given]


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """How samples become members, and how they are dealt to shards.

    Attributes:
        allow_absolute: whether a record may name absolute paths of pictures and videos.
        allow_remote: which plain URLs a record may name: each ``SCHEME[:HOST-PATTERN]`` of https, s3, gs or hf.
        allow_missing: go on where `images` is not given and the first hundred items all miss their pictures.
        box_format: what the numbers of box files are, as `mgtool.boxes.coordinates.named` takes it; empty for what the
            kind of file says.
        missing_boxes: what becomes of a picture that `boxes` does not know, whatever boxes the input carries for it.
        shard_size: how much a shard holds.
        shuffle: seed of the order; None for the input's.
        split: share of each split by name; None for one set.
        append: whether a finished run may be added to.
        check: how it is found out that a picture is whole: by its structure, or by decoding it.
        max_pixels: width times height over which a picture is a failure.
        resize: longest side in pixels; larger pictures are made smaller, and their boxes with them. 0: never.
        exif: whether pictures whose EXIF says that they are to be shown turned keep that, with boxes of the pixels as
            they are stored, or are turned by it, and their boxes with them.
        reencode: ``jpeg:QUALITY``, ``webp:QUALITY`` or ``png`` for all pictures; empty: original bytes.
        dedupe: whether samples with the same pictures and conversation as one before are left out.
        min_boxes: samples with fewer are left out.
        where: a condition that samples meet, or empty.
        energon: whether energon's own tool indexes the tars, too.
        workers: processes; 0: one a core. A script that starts several does so below ``if __name__ == "__main__":``.
        engine: ``ray`` has the processes of a Ray cluster do what else those of this machine do.
        ray_address: the cluster; Ray's own search where it is None.
        num_actors: most of its processes at once; None for as many as there is room for.
        cpus_per_actor: cores of each; None for one.
        ray_runtime_env: JSON file of the environment that Ray makes for them; None for that of the nodes.

    Raises:
        UsageError: a value of no known form.
    """

    allow_absolute: bool = False
    allow_remote: list[str] | None = None
    allow_missing: bool = False
    box_format: str = ""
    missing_boxes: MissingBoxes = "fail"
    shard_size: Size = Size(1000)
    shuffle: int | None = None
    split: Mapping[str, float] | None = None
    append: bool = False
    check: Check = "structure"
    max_pixels: int = MAX_PIXELS
    resize: int = 0
    exif: Exif = "keep"
    reencode: str = ""
    dedupe: bool = False
    min_boxes: int = 0
    where: str = ""
    energon: bool = False
    workers: int = 0
    engine: Engine = "local"
    ray_address: str | None = None
    num_actors: int | None = None
    cpus_per_actor: float | None = None
    ray_runtime_env: Path | None = None

    def __post_init__(self) -> None:
        _check_values(self)
        check_actors(self)
        check_patterns(self.allow_remote)
        if self.box_format:
            from mgtool.boxes import coordinates  # heavier than all else here

            coordinates.named(self.box_format)
        _check_size(self.shard_size)
        if self.split is not None:
            _check_split(self.split)
        _ = self.encoding
        if self.where:
            from mgtool.packing.conditions import Condition

            Condition(self.where)

    @property
    def on_cluster(self) -> bool:
        """Whether a Ray cluster packs."""
        return self.engine == "ray"

    @property
    def encoding(self) -> tuple[str, int] | None:
        """Format and quality of `reencode`; None for original bytes."""
        if not self.reencode:
            return None
        match = _REENCODE.fullmatch(self.reencode)
        if match is None or int(match[2] or 0) > 100:
            raise UsageError("reencode", f"{self.reencode}: give jpeg:QUALITY, webp:QUALITY (0 to 100) or png")
        return (match[1] or "png").upper(), int(match[2] or 0)

    @property
    def selects(self) -> bool:
        """Whether samples are left out for what is in them."""
        return bool(self.min_boxes or self.where)

    @property
    def examines(self) -> bool:
        """Whether the plan needs to know what is in the samples."""
        return bool(self.selects or self.split or self.dedupe)

    @property
    def split_names(self) -> list[str]:
        """Names of the splits; one empty name without."""
        return list(self.split or {"": 1.0})

    @property
    def identity(self) -> dict[str, Any]:
        """What the bytes of the tars depend on, for ``run.json``."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        kept = {name: value for name, value in found.items() if name not in _FREE}
        return {**kept, "shard_size": dataclasses.astuple(self.shard_size), "split": dict(self.split or {})}


def _check_values(options: PackOptions) -> None:
    for field, choices in _CHOICES.items():
        if (value := getattr(options, field)) not in choices:
            raise UsageError(field, f"{value}: choose one of {one_of(str(value), choices)}")
    for field, least in _LEAST.items():
        if (value := getattr(options, field)) < least:
            raise UsageError(field, f"{value}: give {least} or more")


def _check_size(size: Size) -> None:
    if type(size) is not Size:
        raise UsageError("shard_size", f"{size!r}: give Size(1000), or Size(bytes=10**9)")
    if (size.samples < 1) == (size.bytes < 1):
        raise UsageError("shard_size", f"{size}: give a number of samples, or one of bytes")


def _check_split(split: Mapping[str, float]) -> None:
    known = all(_SPLIT_NAME.fullmatch(name) for name in split)
    if not known or min(split.values(), default=0) < 0 or not 0.999 <= sum(split.values()) <= 1.001:
        text = ",".join(f"{name}={share:g}" for name, share in split.items())
        raise UsageError("split", f"{text}: give names and shares that add up to 1, for instance train=0.98,val=0.02")
