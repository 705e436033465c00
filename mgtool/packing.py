"""A sample's members in a tar: the same parts for every sample of a data set, by a layout found in a first pass."""

from __future__ import annotations

import hashlib
import io
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from PIL import Image

from mgtool import images, sources
from mgtool.boxfiles import BoxIndex
from mgtool.errors import InputError, ItemError
from mgtool.records import Detections, Failure, Media, Sample, Turn, dumps
from mgtool.tars import FORMAT, PackedBoxes, PackedPicture, PackedSample

MissingBoxes = Literal["fail", "empty", "skip"]
Items: TypeAlias = Callable[[], Iterator[sources.Item]]
Parts: TypeAlias = dict[str, bytes]

_JPEG_QUALITY = 95
_EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
_OTHERWISE = "PNG"
"""Format of a data set whose first picture is of none that every reader decodes; it loses nothing."""


@dataclass(frozen=True)
class Layout:
    """What all samples have in common, found in a first pass over the input.

    Attributes:
        samples, failures: numbers of input items.
        pictures: most pictures that one sample has.
        format: Pillow's name of the one picture format.
        video: ending of the one video part, or empty.
        boxes: whether samples carry boxes.
        input_sha256: of ids, names, conversations and carried bytes.
    """

    samples: int
    failures: int
    pictures: int
    format: str
    video: str
    boxes: bool
    input_sha256: str

    def shard_count(self, shard_size: int) -> int:
        """Shards for all items, failed ones included."""
        return -(-(self.samples + self.failures) // shard_size)


@dataclass(frozen=True)
class Packer:
    """Makes samples' parts: everything a worker needs.

    Attributes:
        layout: what all samples have in common.
        boxes: where boxes are looked up; None where the input's own are taken.
        missing_boxes: what becomes of a picture that `boxes` does not know.
    """

    layout: Layout
    boxes: BoxIndex | None = None
    missing_boxes: MissingBoxes = "fail"

    def parts(self, sample: Sample) -> Parts:
        """The members of a sample by part name, the same set for every sample.

        Raises:
            ItemError: a picture, video or box that cannot be used.
            Skipped: a picture without boxes that is to be left out.
        """
        checked = [self._picture(media) for media in sample.images]
        shas = [about.sha256 for about, _ in checked]
        video = self._video(sample.video) if sample.video is not None else b""
        found, times = self._detections(sample, shas, video)
        parts = {"json": dumps(_about(sample, [about for about, _ in checked], times))}
        if self.layout.pictures:
            blank = _encode(Image.new("RGB", (1, 1)), self.layout.format)
            data = [data for _, data in checked]
            for slot in range(self.layout.pictures):
                name = _EXTENSIONS[self.layout.format] if not slot else f"{slot}.{_EXTENSIONS[self.layout.format]}"
                parts[name] = data[slot] if slot < len(data) else blank
        if self.layout.video:
            parts[self.layout.video] = video
        if self.layout.boxes:
            parts |= _box_parts(found)
        return parts

    def _picture(self, media: Media) -> tuple[PackedPicture, bytes]:
        """Decode the whole picture; its own bytes where it is of the data set's format."""
        data = sources.read_bytes(media)
        width, height, stored = images.probe(data, with_format=True)
        picture = images.decode(data)
        converted = stored != self.layout.format
        about = PackedPicture(
            name=media.name,
            sha256=images.sha256(data),
            width=width,
            height=height,
            converted_from=stored if converted else "",
        )
        return about, _encode(picture, self.layout.format) if converted else data

    def _video(self, media: Media) -> bytes:
        import av

        data = sources.read_bytes(media)
        if not data:
            raise ItemError("empty", "0 bytes")
        try:
            with av.open(io.BytesIO(data)) as container:
                next(container.decode(video=0))
        except (av.FFmpegError, StopIteration, IndexError, ValueError) as error:
            raise ItemError("corrupt", f"{media.name}: no frame can be decoded: {error}") from error
        return data

    def _detections(self, sample: Sample, shas: list[str], video: bytes) -> tuple[list[Detections], tuple[float, ...]]:
        """The objects of each picture or frame, and the frames' times."""
        if sample.video is not None:
            return self._frames(sample, sample.video, images.sha256(video))
        own_id = sample.id if len(sample.images) == 1 else None
        pairs = zip(sample.images, shas, strict=True)
        return [self._of_picture(media, sha, own_id) for media, sha in pairs], ()

    def _of_picture(self, media: Media, sha: str, id: Any) -> Detections:
        found = self.boxes.find(sha256=sha, image=media.name, id=id) if self.boxes is not None else None
        if found is not None:
            return found
        if media.detections:
            return media.detections[0]
        return self._unknown(media.name)

    def _frames(self, sample: Sample, media: Media, sha: str) -> tuple[list[Detections], tuple[float, ...]]:
        if self.boxes is not None:
            record = self.boxes.find_record(sha256=sha, video=media.name, id=sample.id)
            if record is not None and record.frames is not None:
                frames = record.frames
                found = [Detections(frame.boxes, frame.scores, frame.labels) for frame in frames]
                return found, tuple(frame.time for frame in frames)
        if media.detections is not None:
            return list(media.detections), media.frame_times or (0.0,) * len(media.detections)
        self._unknown(media.name)
        return [], ()

    def _unknown(self, name: str) -> Detections:
        if self.boxes is not None and self.missing_boxes == "fail":
            raise ItemError("no_boxes", f"the box file does not know {name}; --missing-boxes empty packs it without")
        if self.boxes is not None and self.missing_boxes == "skip":
            raise Skipped
        return Detections()


class Skipped(Exception):  # noqa: N818 - no error
    """A sample that is to be left out without being a failure."""


def survey(items: Items, *, boxes: bool) -> Layout:
    """The first pass: what the samples have in common, without decoding a picture.

    Raises:
        InputError: no item at all.
    """
    samples = failures = most = 0
    common = video = ""
    content = hashlib.sha256()
    for item in items():
        _digest(content, item)
        if isinstance(item, Failure):
            failures += 1
            continue
        samples += 1
        most = max(most, len(item.images))
        common = common or _format_of(item.images)
        if item.video is not None:
            video = video or posixpath.splitext(item.video.name)[1][1:].lower() or "mp4"
            boxes = boxes or item.video.detections is not None
        boxes = boxes or any(media.detections is not None for media in item.images)
    if not samples and not failures:
        raise InputError("the input holds no sample")
    return Layout(samples, failures, most, common or _OTHERWISE, video, boxes, content.hexdigest())


def _digest(content: Any, item: sources.Item) -> None:
    if isinstance(item, Failure):
        content.update(dumps(item) + b"\n")
        return
    media = [*item.images, *([item.video] if item.video is not None else [])]
    for one in media:
        bare = msgspec.structs.replace(one, data=None, uri="")
        content.update(dumps(bare) + images.sha256(one.data or b"").encode())
    content.update(dumps((item.id, len(item.images), item.turns, item.metadata)) + b"\n")


def _format_of(pictures: tuple[Media, ...]) -> str:
    """The format that the first readable picture gives to the whole data set; empty where none can be read."""
    for media in pictures:
        try:
            stored = images.probe(sources.read_bytes(media), with_format=True)[2]
        except ItemError:
            continue
        return stored if stored in _EXTENSIONS else _OTHERWISE
    return ""


def _encode(picture: Image.Image, format: str) -> bytes:
    buffer = io.BytesIO()
    options: dict[str, Any] = {"quality": _JPEG_QUALITY, "subsampling": 0} if format == "JPEG" else {}
    if format == "WEBP":
        options = {"lossless": True}
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def _about(sample: Sample, pictures: list[PackedPicture], times: tuple[float, ...]) -> PackedSample:
    return PackedSample(
        format=FORMAT,
        id=str(sample.id),
        numeric_id=isinstance(sample.id, int),
        image=pictures[0].name if pictures else "",
        pictures=len(pictures),
        images=tuple(pictures) or (PackedPicture(),),
        turns=len(sample.turns),
        conversations=sample.turns or (Turn("human", ""),),
        video=sample.video.name if sample.video is not None else "",
        frames=len(times),
        frame_times=times or (0.0,),
        metadata=dumps(sample.metadata).decode(),
    )


def _box_parts(found: list[Detections]) -> Parts:
    boxes = [box for one in found for box in one.boxes]
    rows = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    if not np.isfinite(rows).all():
        raise ItemError("bad_boxes", "a box that is not finite")
    tagged = any(one.tags is not None for one in found)
    about = PackedBoxes(
        scores=tuple(score for one in found for score in one.scores) or (0.0,),
        labels=tuple(label for one in found for label in one.labels) or ("",),
        pictures=tuple(index for index, one in enumerate(found) for _ in one.boxes) or (0,),
        tags=dumps([one.tags for one in found]).decode() if tagged else "",
    )
    buffer = io.BytesIO()
    np.save(buffer, rows)
    return {"boxes.npy": buffer.getvalue(), "boxes.json": dumps(about)}
