"""Where outputs go: a file system of this machine, shared with others or not."""

from __future__ import annotations

import re
from pathlib import Path

from mgtool.errors import UsageError
from mgtool.files.store import is_store

# `Path` makes one slash of the two.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)


def refuse_url(option: str, target: str | Path, *, allows_stores: bool = False) -> None:
    """Refuse a URL where something is to be written: as a path it would be a folder of its scheme's name.

    Args:
        option: that names the target.
        target: a path, or what looks like none.
        allows_stores: URLs of object stores are written.

    Raises:
        UsageError: naming the option.
    """
    found = _URL.fullmatch(str(target))
    if found is not None and not (allows_stores and is_store(target)):
        scheme, rest = found.groups()
        url, way_out = f"{scheme}://{rest}", "write to a folder that all machines see, and copy it from there"
        if scheme.lower() == "file":
            url, way_out = f"{scheme}:///{rest}", f"leave the scheme out: /{rest}"
        raise UsageError(option, f"{url}: outputs are written to a file system, not to a URL; {way_out}")
