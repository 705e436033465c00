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

_PARTS = ("*", "additional_chat_templates/*")
"""What transformers reads of a folder."""
_LAYERS, _LABELS = re.compile(r"layers$|depths?$", re.IGNORECASE), re.compile(r"num_(labels|classes)")
_MOST_BYTES = 1 << 26


def check_files(folder: str | Path) -> None:
    """Refuse a folder in which there is a file that has no end, or a configuration as of `check_numbers`.

    Raises:
        InputError: naming the file.
    """
    for path in sorted(path for part in _PARTS for path in Path(folder).glob(part)):
        refuse_endless(path)
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
            whole = json.loads(file.read(_MOST_BYTES) or b"")
    except (OSError, ValueError, RecursionError):
        return
    for key, value in _entries(whole):
        most = MOST_LAYERS if _LAYERS.search(key) else MOST_LABELS if _LABELS.fullmatch(key) else math.inf
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and number > most:
                raise CheckpointError(f"{path}: {key} is {number:.10g}; no model has more than {most:,}")


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
