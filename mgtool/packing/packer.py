"""A sample's members in a tar: the same parts for every sample of a data set, by a layout found in a first pass."""

from __future__ import annotations

import functools
import io
import itertools
from typing import Any, NamedTuple

from PIL import Image

from mgtool.boxes import lookup
from mgtool.boxes.index import BoxIndex
from mgtool.boxes.shrinking import Shrinking
from mgtool.boxes.turning import Turning
from mgtool.errors import ItemError
from mgtool.files import hashing
from mgtool.media import images
from mgtool.media.placeholders import BOTH
from mgtool.media.recent import RecentFiles
from mgtool.packing.conditions import Condition
from mgtool.packing.layout import EXTENSIONS, Layout
from mgtool.packing.options import PackOptions
from mgtool.records import Detections, Media, Sample, Turn, dumps, media_of
from mgtool.tars.box_parts import PackedBoxes, write_boxes
from mgtool.tars.samples import FORMAT, PackedPicture, PackedSample

_JPEG_QUALITY = 95


class Skipped(Exception):  # noqa: N818 - no error
    """A sample that is to be left out without being a failure."""


class SampleMembers(NamedTuple):
    """A sample's members, and what identifies its pictures and video.

    Attributes:
        parts: members by part name.
        hashes: SHA-256 of the original bytes of each picture, then of the video; hexadecimal.
        size: width and height of the first picture in pixels; zeros without one.
        boxes: their number.
        turned: pictures whose EXIF says that they are to be shown turned.
    """

    parts: dict[str, bytes]
    hashes: tuple[str, ...]
    size: tuple[int, int]
    boxes: int
    turned: int = 0


class _StoredPicture(NamedTuple):
    """A picture's part: what is said of it, its bytes, and how boxes come from the original to it."""

    about: PackedPicture
    data: bytes
    turning: Turning
    shrinking: Shrinking

    def move_boxes(self, detections: Detections) -> Detections:
        """The same objects in pixels of the part."""
        return self.shrinking.move_boxes(self.turning.move_boxes(detections))


class Packer:
    """Makes samples' parts: everything a worker needs.

    Args:
        layout: what all samples have in common.
        options: what becomes of a sample.
        boxes: where boxes are looked up, by number of the input; None where an input's own are taken.
    """

    def __init__(self, layout: Layout, options: PackOptions, boxes: tuple[BoxIndex | None, ...] = (None,)) -> None:
        self.layout, self.options, self.boxes = layout, options, boxes
        self._encoding = options.encoding
        self._condition = Condition(options.where) if options.where else None

    @functools.cached_property
    def _files(self) -> RecentFiles:
        """Of this process."""
        return RecentFiles()

    def announce(self, sample: Sample) -> None:
        """Let the system begin to read the pictures of a sample that is packed soon."""
        for media in media_of(sample):
            self._files.announce(media)

    def close(self) -> None:
        """Close what was announced and is not packed after all."""
        self._files.close()

    def pack(self, sample: Sample, source: int = 0) -> SampleMembers:
        """The members of a sample, the same set for every sample.

        Args:
            sample: of the input.
            source: number of the input that it comes from.

        Raises:
            ItemError: a picture, video or box that cannot be used.
            Skipped: a picture without boxes that is to be left out.
        """
        self._refuse_misfit(sample)
        pictures = [self._picture(media) for media in sample.images]
        hashes = [picture.about.sha256 for picture in pictures]
        video = self._video(sample.video) if sample.video is not None else b""
        if sample.video is not None:
            hashes.append(hashing.sha256(video))
        sizes = [(picture.turning.width, picture.turning.height) for picture in pictures]
        found, times = self._detections(sample, hashes, sizes, source)
        parts = {"json": dumps(_about(sample, [picture.about for picture in pictures], times))}
        parts |= self._media_parts(pictures, video, found)
        size = (pictures[0].about.width, pictures[0].about.height) if pictures else (0, 0)
        boxes, turned = sum(len(one.boxes) for one in found), sum(one.about.orientation != 1 for one in pictures)
        return SampleMembers(parts, tuple(hashes), size, boxes, turned)

    def examine(self, sample: Sample, source: int = 0) -> tuple[bool, tuple[str, ...]]:
        """Whether a sample is one of those asked for, and the hashes of its pictures and video.

        Raises:
            ItemError, Skipped: as `pack`, and where the condition cannot be asked.
        """
        if not self.options.selects:
            return True, tuple(hashing.sha256(self._files.read(one)) for one in media_of(sample))
        data = [self._files.read(one) for one in media_of(sample)]
        pictures = data[: len(sample.images)]
        sizes = [images.probe(one) for one in pictures]
        hashes = [hashing.sha256(one) for one in data]
        found, _ = self._detections(sample, hashes, sizes, source)
        if sum(len(one.boxes) for one in found) < self.options.min_boxes:
            return False, tuple(hashes)
        if self._condition is None:
            return True, tuple(hashes)
        shown = [self._turning(*size, images.orientation(one)).size for size, one in zip(sizes, pictures, strict=True)]
        return self._condition.holds(_facts(sample, sum(map(len, data)), shown, found)), tuple(hashes)

    def _refuse_misfit(self, sample: Sample) -> None:
        """Tars that a later run adds to keep the layout of the first."""
        if sample.images and sample.video is not None:
            raise ItemError("unsupported", BOTH)
        if len(sample.images) > self.layout.pictures:
            detail = f"{len(sample.images)} pictures, the samples of these tars have at most {self.layout.pictures}"
            raise ItemError("unsupported", detail)
        if sample.video is not None and not self.layout.video:
            raise ItemError("unsupported", "a video, the samples of these tars have none")

    def _picture(self, media: Media) -> _StoredPicture:
        """The file's own bytes where it is of the data set's format and nothing is to be done to it."""
        data = self._files.read(media)
        examine = images.check if self.options.check == "structure" else _decoded
        width, height, stored = examine(data, max_pixels=self.options.max_pixels)
        said = images.orientation(data)
        turning = self._turning(width, height, said)
        shrinking = Shrinking(*turning.size, self.options.resize or max(width, height))
        kept = turning.orientation == 1 and shrinking.size == turning.size
        same = kept and stored == self.layout.format and self._encoding is None
        about = PackedPicture(
            name=media.name,
            sha256=hashing.sha256(data),
            width=shrinking.size[0],
            height=shrinking.size[1],
            converted_from="" if same else stored,
            orientation=said if same else 1,
            turned_from=turning.orientation,
        )
        if not same:
            picture = images.decode(data, max_pixels=self.options.max_pixels)
            data = self._encode(shrinking.move_picture(turning.move_picture(picture)))
        return _StoredPicture(about, data, turning, shrinking)

    def _turning(self, width: int, height: int, orientation: int) -> Turning:
        return Turning(width, height, orientation if self.options.exif == "apply" else 1)

    def _media_parts(self, pictures: list[_StoredPicture], video: bytes, found: list[Detections]) -> dict[str, bytes]:
        """The parts beside the JSON, whatever of these the sample has."""
        parts = self._picture_parts(pictures) if self.layout.pictures else {}
        if self.layout.video:
            parts[self.layout.video] = video
        if self.layout.boxes:
            moved = [picture.move_boxes(one) for picture, one in zip(pictures, found, strict=False)]
            parts |= _box_parts(moved or found)
        return parts

    def _picture_parts(self, pictures: list[_StoredPicture]) -> dict[str, bytes]:
        extension = EXTENSIONS[self.layout.format]
        names = [extension, *(f"{slot}.{extension}" for slot in range(1, self.layout.pictures))]
        data = [picture.data for picture in pictures]
        if len(data) < len(names):
            data += [self._blank] * (len(names) - len(data))
        return dict(zip(names, data, strict=True))

    @functools.cached_property
    def _blank(self) -> bytes:
        """What stands where a sample has fewer pictures than others."""
        return self._encode(Image.new("RGB", (1, 1)))

    def _encode(self, picture: Image.Image) -> bytes:
        buffer = io.BytesIO()
        options: dict[str, Any] = {}
        if self._encoding is not None and self.layout.format != "PNG":
            options = {"quality": self._encoding[1]}
        elif self.layout.format == "WEBP":
            options = {"lossless": True}
        elif self.layout.format == "JPEG":
            options = {"quality": _JPEG_QUALITY, "subsampling": 0}
        try:
            picture.save(buffer, self.layout.format, **options)
        except (OSError, ValueError) as error:
            size = f"{picture.width} x {picture.height}"
            raise ItemError("unsupported", f"{size} cannot be stored as {self.layout.format}: {error}") from error
        return buffer.getvalue()

    def _video(self, media: Media) -> bytes:
        from mgtool.media import videos

        data = self._files.read(media)
        try:
            videos.check(data)
        except ItemError as error:
            raise ItemError(error.reason, f"{media.name}: {error.detail}") from error
        return data

    def _detections(
        self, sample: Sample, hashes: list[str], sizes: list[tuple[int, int]], source: int
    ) -> tuple[list[Detections], tuple[float, ...]]:
        """The objects of each picture or frame, and the frames' times."""
        boxes = self.boxes[source]
        if sample.video is not None:
            return self._frames(sample, sample.video, hashes[-1], boxes)
        pictures = zip(sample.images, hashes, sizes, strict=True)
        return [self._of_picture(media, sha, size, sample.picture_id, boxes) for media, sha, size in pictures], ()

    def _of_picture(self, media: Media, sha: str, size: tuple[int, int], id: Any, boxes: BoxIndex | None) -> Detections:
        if boxes is None:
            return media.detections[0] if media.detections else Detections()
        found = lookup.find_picture(boxes, sha256=sha, id=id, name=media.name, size=lambda: size)
        if found is None:
            self._refuse_unknown(media.name)
        return found or Detections()

    def _frames(
        self, sample: Sample, media: Media, sha: str, boxes: BoxIndex | None
    ) -> tuple[list[Detections], tuple[float, ...]]:
        if boxes is None:
            carried = list(media.detections or ())
            return carried, media.frame_times or (0.0,) * len(carried)
        frames = lookup.find_frames(boxes, sha256=sha, id=sample.id, name=media.name)
        if frames is None:
            self._refuse_unknown(media.name)
        return [frame.detections for frame in frames or ()], tuple(frame.time for frame in frames or ())

    def _refuse_unknown(self, name: str) -> None:
        """What the box file lacks has no boxes; those that the input carries are of another detector."""
        if self.options.missing_boxes == "fail":
            raise ItemError("no_boxes", f"the box file does not know {name}; `missing_boxes` empty packs it without")
        if self.options.missing_boxes == "skip":
            raise Skipped


def _decoded(data: bytes, *, max_pixels: int) -> tuple[int, int, str]:
    images.decode(data, max_pixels=max_pixels)
    return images.probe(data, with_format=True)


def _facts(sample: Sample, bytes: int, sizes: list[tuple[int, int]], found: list[Detections]) -> dict[str, Any]:
    """What a condition may speak of, `conditions.NAMES`, of one sample."""
    return {
        "id": sample.id,
        "image": sample.images[0].name if sample.images else "",
        "width": sizes[0][0] if sizes else 0,
        "height": sizes[0][1] if sizes else 0,
        "bytes": bytes,
        "pictures": len(sample.images),
        "boxes": sum(len(one.boxes) for one in found),
        "labels": tuple(label for one in found for label in one.labels),
        "turns": len(sample.turns),
        "video": sample.video is not None,
        "metadata": sample.metadata,
    }


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


def _box_parts(found: list[Detections]) -> dict[str, bytes]:
    chained = itertools.chain.from_iterable
    rows = write_boxes(chained(one.boxes for one in found))
    tagged = any(one.tags is not None for one in found)
    about = PackedBoxes(
        scores=tuple(chained(one.scores for one in found)) or (0.0,),
        labels=tuple(chained(one.labels for one in found)) or ("",),
        pictures=tuple(chained([index] * len(one.boxes) for index, one in enumerate(found))) or (0,),
        tags=dumps([one.tags for one in found]).decode() if tagged else "",
    )
    return {"boxes.npy": rows, "boxes.json": dumps(about)}
