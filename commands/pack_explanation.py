"""What `mgtool pack --explain` says, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mgtool.inputs.explain import Explained


def lines(one: Explained) -> Iterator[str]:
    """What an input is taken for and why, then what its records are, what fails and what is left out."""
    for taken in one.taken_for:
        yield f"{taken.input}: {taken.kind}, as {taken.why}"
    of = "" if one.is_whole else f" in the first {one.records:,} records"
    counts = {"samples": one.samples, "pictures": one.pictures, "videos": one.videos, "turns": one.turns}
    yield f"  {', '.join(f'{count:,} {what}' for what, count in counts.items())}{of}"
    for name, found in one.layouts.items():
        yield f"  {found['count']:,} x {name}, by {found['told_by']}"
    for what, left in (("failed", one.failures), ("left out", one.left_out)):
        for reason, found in left.items():
            yield f"  {what}: {found['count']:,} x {reason}"
            yield from (f"    {example}" for example in found["examples"])
