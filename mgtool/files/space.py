"""Whether a disk has room for what is about to be written, before hours go into the part that fits."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from mgtool.errors import OutputError


def check_space(folder: Path, needed: int, way_out: str) -> None:
    """Refuse to begin what will not fit.

    Args:
        folder: where it goes; need not be there yet.
        needed: bytes, as an estimate that is rather low than high.
        way_out: what the user can do, as of an error.

    Raises:
        OutputError: saying how much is needed, and how much is free.
    """
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        free = shutil.disk_usage(place).free
    except OSError:
        return  # whoever writes there says what is wrong
    if free < needed:
        raise OutputError(f"{folder}: about {_told(needed)} do not fit into {_told(free)} that are free: {way_out}")


def size_on_disk(paths: Iterable[str | Path]) -> int:
    """Bytes of local files, and of those that lie in folders; of whatever else, 0."""
    total = 0
    for path in paths:
        if "://" in str(path):
            continue
        try:
            found = os.stat(path)  # noqa: PTH116 - a name may be any text
            if stat.S_ISDIR(found.st_mode):
                total += size_on_disk(entry.path for entry in os.scandir(path) if entry.is_file())
            else:
                total += found.st_size
        except (OSError, ValueError):
            continue
    return total


def _told(count: int) -> str:
    """A number of bytes.

    >>> _told(1_500_000_000), _told(2048)
    ('1.50 GB', '2,048 bytes')
    """
    return f"{count / 1e9:,.2f} GB" if count >= 10_000_000 else f"{count:,} bytes"
