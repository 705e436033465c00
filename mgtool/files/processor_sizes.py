"""Processors of strangers' models, before they see a picture: sizes that would take all memory, whatever it shows."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from mgtool.errors import CheckpointError

MOST_SIDE, MOST_PIXELS, MOST_PARTS = 1 << 12, 1 << 27, 1 << 12
"""Of what a picture is resized to, and tiles, crops or frames of one; published processors stay below a half."""

_LIMITS = (
    (re.compile(r"pixels"), MOST_PIXELS),
    (re.compile(r"patches|tiles|crops|splits|frames|factor|merge"), MOST_PARTS),
    (re.compile(r"size|edge|height|width|pinpoint|resolution"), MOST_SIDE),
)
_BY_PIXELS = "smart_resize"
"""A name in the modules of those processors whose size is a number of pixels."""


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
        is_by_pixels = hasattr(sys.modules.get(type(part).__module__), _BY_PIXELS)
        for name, value in vars(part).items():
            limit = next((most for form, most in _LIMITS if form.search(name)), math.inf)
            limit = MOST_PIXELS if is_by_pixels and name == "size" else limit
            for place, number in () if limit == math.inf else _numbers(name, value):
                if math.isnan(number) or number > limit:
                    raise CheckpointError(f"{where}: its processor's {place} is {number:.10g}; no more than {limit:,}")


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
