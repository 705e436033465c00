"""Where outputs go: a file system of this machine, shared with others or not."""

from __future__ import annotations

import re
from pathlib import Path

from mgtool.errors import UsageError

# `Path` makes one slash of the two.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)


def refuse_url(option: str, target: str | Path) -> None:
    """Refuse a URL where something is to be written: as a path it would be a folder of its scheme's name.

    Raises:
        UsageError: naming the option.
    """
    found = _URL.fullmatch(str(target))
    if found is not None:
        scheme, rest = found.groups()
        url, way_out = f"{scheme}://{rest}", "write to a folder that all machines see, and copy it from there"
        if scheme.lower() == "file":
            url, way_out = f"{scheme}:///{rest}", f"leave the scheme out: /{rest}"
        raise UsageError(option, f"{url}: outputs are written to a file system, not to a URL; {way_out}")
