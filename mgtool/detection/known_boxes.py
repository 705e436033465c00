"""Boxes that exist already: a box file in a detector's place, and an earlier run's boxes that are used again."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from mgtool.boxes import lookup
from mgtool.boxes.coordinates import Coordinates
from mgtool.boxes.index import BoxIndex
from mgtool.errors import ItemError
from mgtool.records import Detections, SampleId


class KnownBoxes:
    """The boxes of one file or folder, of any form that boxes are read in.

    Args:
        path, coordinates: as of `mgtool.boxes.formats.entries`.
        alone: it stands in for the detector: pictures are also known by their sample's id and by their name, and one
            that it does not know is an error.

    Attributes:
        labels: of its boxes, each once.

    Raises:
        InputError: no such file, or one of no known form.
    """

    def __init__(self, path: str, coordinates: Coordinates | None = None, *, alone: bool = False) -> None:
        self._path, self._alone = path, alone
        self._index = BoxIndex(path, coordinates)
        weakref.finalize(self, self._index.close)
        self.labels = self._index.labels
        self.identity = f"boxes{'' if alone else ' reused'} {self._index.count} records:{self._index.sha256[:16]}"

    @property
    def left_out(self) -> dict[str, Any]:
        """What the file holds that is not used, and what `note` was told."""
        return self._index.left_out.summary()

    def note(self, reason: str, example: str) -> None:
        """Count something that does not fit the file."""
        self._index.left_out.add(reason, example)

    def find(self, sha256: str, name: str, id: SampleId | None, size: tuple[int, int]) -> Detections | ItemError | None:
        """A picture's objects; where the file does not know it an ``ItemError`` or, when not `alone`, None.

        Args:
            sha256, name: of the picture.
            id: the sample's, if this is its only picture.
            size: width and height; boxes of a picture of the same name and another size are an error.
        """
        if not self._alone:
            return lookup.find_picture(self._index, sha256=sha256)
        try:
            found = lookup.find_picture(self._index, sha256=sha256, id=id, name=name, size=lambda: size)
        except ItemError as error:
            return error
        return ItemError("no_boxes", f"{self._path} does not know this picture") if found is None else found

    def find_frames(
        self, sha256: str, name: str, id: SampleId, places: Sequence[int]
    ) -> tuple[Detections, ...] | ItemError | None:
        """The objects of a video's frames at `places`; errors and None as `find`, also where a frame is not known."""
        if self._alone:
            frames = lookup.find_frames(self._index, sha256=sha256, id=id, name=name)
        else:
            frames = lookup.find_frames(self._index, sha256=sha256)
        known = {frame.index: frame for frame in frames or ()}
        if all(place in known for place in places):
            return tuple(known[place].detections for place in places)
        return ItemError("no_boxes", f"{self._path} does not know these frames of the video") if self._alone else None
