"""With which code a command ends, and how many items may fail before that is no success."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mgtool.commands.console import short
from mgtool.errors import UsageError

DONE, DEFECT, WRONG_USAGE, ITEMS_FAILED, INTERRUPTED = 0, 1, 2, 3, 130
READER_LEFT = 141
"""As a shell says it of a program that SIGPIPE ended."""


def allowed_failures(text: str, total: int) -> int:
    """How many failures `--allow-failures` accepts.

    >>> allowed_failures("3", 100), allowed_failures("2.5%", 1000), allowed_failures("0", 5)
    (3, 25, 0)
    """
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)%|([0-9]{1,15})", text.strip())
    if match is None:
        raise UsageError("allow_failures", f"{short(text)}: give a number (10) or a share (1%)")
    return int(total * float(match[1]) / 100) if match[1] else int(match[2])


def exit_code(failures: int, total: int, allow: str, *, unused: Mapping[str, Any] | None = None) -> int:
    """0 when at most the allowed number of items failed and nothing is `unused` that has to be used, else 3."""
    return DONE if failures <= allowed_failures(allow, total) and not unused else ITEMS_FAILED


def allows_missing(allow_failures: str) -> bool:
    """Whether a run may go on where none of the first hundred items has its picture: where all of them may fail.

    >>> allows_missing("100%"), allows_missing("10%")
    (True, False)
    """
    from mgtool.inputs.first_items import MOST

    return allowed_failures(allow_failures, MOST) >= MOST
