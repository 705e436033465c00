"""Objects of many pictures, which a file has in any order, in little memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

from mgtool.boxes import check
from mgtool.records import Box, LeftOut

_NUMBERS = 5
"""Of an object: its box and its score."""


class Best(NamedTuple):
    """A picture's objects, best first, in the file's order where scores are equal.

    Attributes:
        boxes: four numbers each, as they were given.
        beyond: how many more there are than are used.
    """

    boxes: tuple[Box, ...] = ()
    scores: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    beyond: int = 0

    def tell(self, left_out: LeftOut, name: str) -> None:
        """Tell of the objects of a picture that are not used."""
        if self.beyond:
            left_out.take({check.MANY: {"count": self.beyond, "examples": [name]}})


class Grouped:
    """Objects by picture: 48 bytes each, and 24 more while they are sorted."""

    def __init__(self) -> None:
        self._places, self._labels, self._numbers = array("i"), array("i"), array("d")
        self._names = dict[str, int]()

    def add(self, place: int, label: str, box: Box, score: float) -> None:
        """Take an object of the picture that is number `place`, from 0."""
        self._places.append(place)
        self._labels.append(self._names.setdefault(label, len(self._names)))
        self._numbers.extend((*box, score))

    def pictures(self, count: int) -> Iterator[Best]:
        """The objects of each of so many pictures, in their order."""
        import numpy as np  # here: processes that pack need it seldom

        numbers = np.frombuffer(self._numbers, dtype=np.float64).reshape(-1, _NUMBERS)
        places, labels = (np.frombuffer(one, dtype=np.int32) for one in (self._places, self._labels))
        order = np.lexsort((-numbers[:, 4], places))
        ends = np.cumsum(np.bincount(places, minlength=count))
        names, begin = list(self._names), 0
        for end in ends.tolist():
            rows = order[begin : min(end, begin + check.MOST_BOXES)]
            boxes, scores = numbers[rows, :4].tolist(), numbers[rows, 4].tolist()
            named = tuple(names[label] for label in labels[rows].tolist())
            yield Best(tuple(map(tuple, boxes)), tuple(scores), named, end - begin - len(rows))
            begin = end
