"""Modules that compute by other functions for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

Forward = Callable[[Tensor], Tensor]
Forwards = Sequence[tuple[dict[str, Any], Forward]]
"""Of modules, as `vars` gives their members, and what each computes by."""


@contextlib.contextmanager
def replaced(forwards: Forwards) -> Iterator[None]:
    """Until the end of the block the modules compute in this way; a block within one ends with what was before."""
    before = [members.get("forward") for members, _ in forwards]
    for members, forward in forwards:
        members["forward"] = forward
    try:
        yield
    finally:
        for (members, _), own in zip(forwards, before, strict=True):
            members.pop("forward") if own is None else members.update(forward=own)
