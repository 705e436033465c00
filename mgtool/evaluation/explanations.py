"""What boxes did to answers, as `mgtool infer` with `explain` notes it in their metadata."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from mgtool.scoring.benchmark import Pair


class BoxEffect(msgspec.Struct, frozen=True):
    """One object of a picture.

    Attributes:
        box: xyxy, in pixels of the picture.
        label: its name.
        change: of the answer's log-probability without it; under 0 where it spoke for the answer.
        picture: of several, from 0.
        frame: of a video, from 0; None for a picture.
    """

    box: tuple[float, float, float, float]
    label: str
    change: float
    picture: int = 0
    frame: int | None = None


class _Explanation(msgspec.Struct, frozen=True):
    boxes: list[BoxEffect]


def effects(pairs: Iterable[Pair]) -> dict[str, list[BoxEffect]]:
    """What the objects of each item's first picture did, by the item's id; metadata of another form is not one's own.

    Args:
        pairs: items with their answers.
    """
    found: dict[str, list[BoxEffect]] = {}
    for item, answer in pairs:
        noted: Any = None if answer is None else answer.fields.get("explain")
        try:
            boxes = msgspec.convert(noted, _Explanation).boxes
        except msgspec.ValidationError:
            continue
        found[str(item.id)] = [one for one in boxes if one.picture == 0 and one.frame is None]
    return found
