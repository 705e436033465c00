"""Folders of models of strangers, before libraries read their configurations."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mgtool.errors import CheckpointError
from mgtool.files.regular import open_regular, refuse_endless

MOST_LAYERS = 10_000
MOST_LABELS = 1 << 20

_SIDE, _ID, _LAYER = (1, 1 << 14), (-(1 << 31), (1 << 31) - 1), (-MOST_LAYERS, MOST_LAYERS)
_OWN: dict[str, dict[str, tuple[float, float]]] = {
    "mg_llava": {
        "box_bins": (1, 1 << 10), "low_layer": _LAYER, "image_token_id": _ID, "high_config.image_size": _SIDE,
        "low_config.image_size": _SIDE, "low_config.patch_size": _SIDE,
        "high_config.widths": (1, 1 << 16), "high_config.strides": (1, 1 << 16),
    },
    "MGLlavaProcessor": {
        "image_size": _SIDE, "vision_tokens": (1, 1 << 20), "image_token_id": _ID,
        "image_mean": (0.0, 1.0), "image_std": (0.001, 1000.0),
    },
}  # fmt: skip
"""Numbers in files of mgtool's own models, which no library looks at, by what says that they are such."""
_LISTS = ("high_config.widths", "high_config.strides", "image_mean", "image_std")
_OPTIONAL = ("high_config.widths", "high_config.strides", "vision_tokens")

_PARTS = ("*", "additional_chat_templates/*")
"""What transformers reads of a folder."""
_LAYERS, _LABELS = re.compile(r"layers$|depths?$", re.IGNORECASE), re.compile(r"num_(labels|classes)")
_MOST_BYTES = {"config.json": 1 << 24, ".json": 1 << 28, ".jinja": 1 << 22, ".txt": 1 << 28}
"""Of files by how their names end: readers make many times as much of them; published ones are a tenth of it."""


def check_files(folder: str | Path) -> None:
    """Refuse a folder in which there is a file that has no end, is too large, or a configuration as of `check_numbers`.

    Raises:
        InputError: naming the file.
    """
    for path in sorted(path for part in _PARTS for path in Path(folder).glob(part)):
        refuse_endless(path)
        _refuse_large(path)
        if path.name.endswith("config.json"):
            check_numbers(path)


def check_numbers(path: Path) -> None:
    """Refuse a configuration with numbers for which libraries make lists before they make a model.

    Args:
        path: of JSON; a file that cannot be read is left to who reads it.

    Raises:
        CheckpointError: naming the number.
    """
    try:
        with open_regular(path) as file:
            whole = json.loads(file.readall() or b"")
    except (OSError, ValueError, RecursionError):
        return
    _check_own(whole, path)
    for key, value in _entries(whole):
        most = MOST_LAYERS if _LAYERS.search(key) else MOST_LABELS if _LABELS.fullmatch(key) else math.inf
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and number > most:
                raise CheckpointError(f"{path}: {key} is {number:.10g}; no model has more than {most:,}")


def _check_own(whole: Any, path: Path) -> None:
    """Refuse a file of mgtool's own models with what is no such number where one belongs."""
    kind = (whole.get("model_type") or whole.get("processor_class")) if isinstance(whole, dict) else None
    for name, (least, most) in _OWN.get(str(kind), {}).items():
        part, _, key = name.rpartition(".")
        among = whole.get(part) if part else whole
        if not isinstance(among, dict) or key not in among:
            continue
        value = among[key]
        if value is None and name in _OPTIONAL:
            continue
        numbers: list[Any] = [value] if name not in _LISTS else value if isinstance(value, list) and value else [None]
        kinds, what = ((int,), "whole numbers") if isinstance(least, int) else ((int, float), "numbers")
        if not all(type(number) in kinds and least <= number <= most for number in numbers):
            raise CheckpointError(f"{path}: {name} is {value!r:.99}; {what} from {least:,} to {most:,} are taken")


def _refuse_large(path: Path) -> None:
    most = next((most for ending, most in _MOST_BYTES.items() if path.name.endswith(ending)), None)
    if most is not None and path.is_file() and (size := path.stat().st_size) > most:
        raise CheckpointError(f"{path}: {size:,} bytes; of such a file {most:,} are read at most")


def _entries(whole: Any) -> Iterator[tuple[str, Any]]:
    """Keys and values of all objects within each other."""
    left = [whole]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield from value.items()
            left += value.values()
        elif isinstance(value, list):
            left += value
