"""What lies below a folder, however deep; deeper than Python goes is one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mgtool.errors import InputError


def named_below(folder: Path, pattern: str) -> list[Path]:
    """What lies below a folder under a name that fits, in order of the names.

    Raises:
        InputError: more folders lie within each other than are read.
    """
    with of_readable_depth(folder):
        return sorted(folder.rglob(pattern))


@contextlib.contextmanager
def of_readable_depth(folder: Path | str) -> Iterator[None]:
    """For a walk through folders by Python or a library, which has no other end; errors as of `named_below`."""
    try:
        yield
    except RecursionError as error:
        raise InputError(f"{folder}: more folders within each other than are read") from error
