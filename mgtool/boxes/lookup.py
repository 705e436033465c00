"""Which boxes belong to a picture."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from mgtool.boxes.index import BoxIndex
from mgtool.errors import ItemError
from mgtool.media import images
from mgtool.records import Detections, Media, Sample


class BoxSource:
    """Where boxes come from: a box file, else what the samples carry; none at all with `off`."""

    def __init__(self, index: BoxIndex | None = None, *, off: bool = False) -> None:
        self.index, self.off = index, off

    def find(self, sample: Sample, media: Media, data: bytes, sha256: str) -> tuple[Detections, ...] | None:
        """The boxes of a picture or of a video's frames; None for those that stand in.

        Raises:
            ItemError: ``no_boxes`` where a box file does not know the picture or video, ``bad_boxes`` where it has
                one of the same name and another size.
        """
        if self.off:
            return None
        if self.index is None:
            return media.detections or None
        found = self._look_up(self.index, sample, media, data, sha256)
        if found is None:
            raise ItemError("no_boxes", f"the box file knows neither {media.name} nor question {sample.id}")
        return found

    def _look_up(
        self, index: BoxIndex, sample: Sample, media: Media, data: bytes, sha256: str
    ) -> tuple[Detections, ...] | None:
        if media is sample.video:
            by_id = index.find_video(id=sample.id)
            return by_id or index.find_video(sha256=sha256, video=media.name)
        found = index.find(id=sample.picture_id)
        found = found or index.find(sha256=sha256, image=media.name, size=lambda: images.probe(data))
        return None if found is None else (found,)


@contextlib.contextmanager
def opened_boxes(given: str | None) -> Iterator[BoxSource]:
    """Where boxes come from, by what `--boxes` says."""
    if given is None or given == "off":
        yield BoxSource(off=given == "off")
        return
    with BoxIndex(given) as index:
        yield BoxSource(index)
