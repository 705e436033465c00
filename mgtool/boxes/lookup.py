"""Which boxes belong to a picture or video: those of its bytes, else of its sample's id, else of its name.

`detect`, `pack` and `infer` all ask here, so that a sample has the same boxes in each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mgtool.boxes.coordinates import Coordinates, UnscaledRecord
from mgtool.boxes.index import BoxIndex
from mgtool.errors import ItemError
from mgtool.media import images
from mgtool.records import BoxRecord, Detections, FrameDetections, Media, Sample, SampleId

Size = Callable[[], tuple[int, int]]
"""Gives a picture's width and height in pixels."""


def find_picture(
    index: BoxIndex, *, sha256: str, id: SampleId | None = None, name: str = "", size: Size | None = None
) -> Detections | None:
    """The objects of a picture; None where the file does not know it (which is not the same as no objects).

    Args:
        index: of the file.
        sha256: of the picture's bytes.
        id: the sample's, if this is its only picture.
        name: the picture's.
        size: asked where the bytes are not known and the file says how large the picture is, or where it gives boxes
            as parts of a picture whose size it does not know.

    Raises:
        ItemError: ``bad_boxes`` where the picture that the boxes are of has another size, or where the name may be of
            several.
    """
    record = _first(index, sha256, id, name, is_video=False)
    if record is None:
        return None
    if size is not None and record.width and record.sha256 != sha256:
        _refuse_other_size(record, *size())
    if size is not None and isinstance(record, UnscaledRecord):
        record = record.scaled(*size())
    return record.detections


def find_frames(
    index: BoxIndex, *, sha256: str, id: SampleId | None = None, name: str = ""
) -> tuple[FrameDetections, ...] | None:
    """The objects of a video's frames, in order of time; None where the file does not know the video.

    Args:
        index: of the file.
        sha256: of the video's bytes.
        id: the sample's.
        name: the video's.
    """
    record = _first(index, sha256, id, name, is_video=True)
    return None if record is None else record.frames


def _first(index: BoxIndex, sha256: str, id: SampleId | None, name: str, *, is_video: bool) -> BoxRecord | None:
    known = _known(index, sha256, id, name, is_video=is_video)
    return next((one for one in known if one is not None and (one.frames is not None) == is_video), None)


def _known(
    index: BoxIndex, sha256: str, id: SampleId | None, name: str, *, is_video: bool
) -> Iterator[BoxRecord | None]:
    """The rule."""
    yield index.by_bytes(sha256)
    yield index.by_id(id)
    yield index.by_video(name) if is_video else index.by_image(name)


def _refuse_other_size(record: BoxRecord, width: int, height: int) -> None:
    if (record.width, record.height) != (width, height):
        is_of = f"{record.width} x {record.height} pixels, the picture has {width} x {height}"
        raise ItemError("bad_boxes", f"{record.image}: the boxes are of one of {is_of}")


class BoxSource:
    """Where boxes come from: a box file, else what the samples carry; none at all with `off`."""

    def __init__(self, index: BoxIndex | None = None, *, off: bool = False) -> None:
        self.index, self.off = index, off

    @property
    def left_out(self) -> Mapping[str, Any]:
        """What the box file holds that is not used: count and examples by reason."""
        return {} if self.index is None else self.index.left_out.summary()

    def find(self, sample: Sample, media: Media, data: bytes, sha256: str) -> tuple[Detections, ...] | None:
        """The boxes of a picture or of a video's frames; None for those that stand in.

        Args:
            sample: that the picture or video is of.
            media: one of the sample's own.
            data, sha256: its bytes and their hash.

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
            frames = find_frames(index, sha256=sha256, id=sample.id, name=media.name)
            return None if frames is None else tuple(frame.detections for frame in frames)
        found = find_picture(
            index, sha256=sha256, id=sample.picture_id, name=media.name, size=lambda: images.probe(data)
        )
        return None if found is None else (found,)


@contextlib.contextmanager
def opened_boxes(given: str | None, coordinates: Coordinates | None = None) -> Iterator[BoxSource]:
    """Where boxes come from, by what `boxes` says; `coordinates` are of a file's numbers."""
    if given is None or given == "off":
        yield BoxSource(off=given == "off")
        return
    with BoxIndex(given, coordinates) as index:
        yield BoxSource(index)
