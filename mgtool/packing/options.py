"""What a packing run is asked for."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import msgspec

from mgtool.errors import UsageError
from mgtool.media import images
from mgtool.packing.conditions import Condition

MissingBoxes = Literal["fail", "empty", "skip"]


Check = Literal["structure", "decode"]


_REENCODE = re.compile(r"(jpeg|webp):(\d{1,3})|png")


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a sample; a part of a run's identity.

    Attributes:
        missing_boxes: what becomes of a picture that the boxes do not know.
        check: how it is found out that a picture is whole: by its structure, or by decoding it.
        max_pixels: width times height over which a picture is a failure.
        resize: longest side in pixels; larger pictures are made smaller, and their boxes with them. 0: never.
        reencode: ``jpeg:QUALITY``, ``webp:QUALITY`` or ``png`` for all pictures; empty: original bytes.
        min_boxes: samples with fewer are left out.
        where: a condition that samples meet, or empty.
    """

    missing_boxes: MissingBoxes = "fail"
    check: Check = "structure"
    max_pixels: int = images.MAX_PIXELS
    resize: int = 0
    reencode: str = ""
    min_boxes: int = 0
    where: str = ""

    @property
    def encoding(self) -> tuple[str, int] | None:
        """Format and quality of `reencode`; None for original bytes.

        Raises:
            UsageError: text of no known form.
        """
        if not self.reencode:
            return None
        match = _REENCODE.fullmatch(self.reencode)
        if match is None or int(match[2] or 0) > 100:
            raise UsageError("reencode", f"{self.reencode}: give jpeg:QUALITY, webp:QUALITY (0 to 100) or png")
        return (match[1] or "png").upper(), int(match[2] or 0)

    def validate(self) -> None:
        """Look at the options that are texts.

        Raises:
            UsageError: one of no known form.
        """
        _ = self.encoding
        if self.where:
            Condition(self.where)

    @property
    def selects(self) -> bool:
        """Whether samples are left out for what is in them."""
        return bool(self.min_boxes or self.where)


class Size(NamedTuple):
    """How much a shard holds: `samples`, or `bytes` of pictures, videos and texts as they come in; the other is 0."""

    samples: int = 0
    bytes: int = 0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """How samples are dealt to shards; a part of a run's identity.

    Attributes:
        shard_size: samples of a shard, or bytes.
        shuffle: seed of the order; None for the input's.
        split: share of each split by name; empty for one set.
        dedupe: whether samples with the same pictures and conversation as one before are left out.
    """

    shard_size: Size = Size(1000)
    shuffle: int | None = None
    split: dict[str, float] = {}
    dedupe: bool = False

    @property
    def names(self) -> list[str]:
        """Names of the splits; one empty name without."""
        return list(self.split) or [""]
