"""Processors of strangers' models, before they see a picture: sizes that would take all memory, whatever it shows."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from mgtool.errors import CheckpointError

MOST_SIDE, MOST_PIXELS, MOST_PARTS, MOST_TOKENS = 1 << 12, 1 << 27, 1 << 15, 1 << 18
"""Of what a picture is resized to, its tiles, crops or frames, and their tokens; published ones stay below a half."""

_LIMITS = (
    (re.compile(r"pixels"), MOST_PIXELS),
    (re.compile(r"tokens|seq_len|queries"), MOST_TOKENS),
    (re.compile(r"patches|tiles|crops|splits|frames|factor|merge|num_"), MOST_PARTS),
    (re.compile(r"size|edge|height|width|pinpoint|resolution"), MOST_SIDE),
)
_SIZES = ("size", "max_image_size", "min_image_size")
_BY_PIXELS, _BY_GRIDS = "smart_resize", "get_all_supported_aspect_ratios"
"""Names in the modules of processors whose size is a number of pixels, and of those that try all grids of tiles."""
_MOST_TILES = 1 << 8


def check_sizes(processor: Any, where: str) -> None:
    """Refuse a processor with a size, or a number of parts, that no picture is brought to.

    Args:
        processor: of transformers, or one with an image processor or a video processor.
        where: of the model, for the message.

    Raises:
        CheckpointError: naming it.
    """
    parts = [getattr(processor, name, None) for name in ("image_processor", "video_processor")]
    for part in [processor, *(one for one in parts if one is not None)]:
        for name, value in vars(part).items():
            limit = _limit(name, sys.modules.get(type(part).__module__))
            for place, number in () if limit == math.inf else _numbers(name, value):
                if math.isnan(number) or number > limit:
                    raise CheckpointError(f"{where}: its processor's {place} is {number:.10g}; no more than {limit:,}")


def _limit(name: str, module: Any) -> float:
    """The largest number in an attribute of a processor of some module."""
    limit = next((most for form, most in _LIMITS if form.search(name)), math.inf)
    if name in _SIZES and hasattr(module, _BY_PIXELS):
        return MOST_PIXELS
    return _MOST_TILES if limit == MOST_PARTS and hasattr(module, _BY_GRIDS) else limit


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """Numbers in a value, with their places."""
    if isinstance(value, int | float):
        yield name, value
    elif isinstance(value, Mapping) or dataclasses.is_dataclass(value):
        entries = value.items() if isinstance(value, Mapping) else vars(value).items()
        for key, entry in entries:
            yield from _numbers(f"{name}.{key}", entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _numbers(name, entry)
