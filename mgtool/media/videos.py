"""Frames of a video: which ones the model is shown, and their decoding; no bytes are trusted."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from mgtool.errors import ItemError
from mgtool.media import images
from mgtool.media.limits import MAX_PIXELS
from mgtool.records import Detections

FRAMES = 8
"""Frames of a video that the published model is shown."""

_MOST_PIXELS_HELD = 2
"""Of all frames that are decoded together, for each pixel that the limit lets through; more only of what follows."""
_USUAL_FRAMES, _USUAL_PIXELS = 64, 4096 * 2304
"""Frames of this size are decoded, so many of them."""

# playlists and the like would open other files and addresses
_CONTAINERS = "mov,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg"


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Attributes:
        index: its place in the video, from 0.
        time: seconds from the first frame.
        picture: RGB, as stored (rotation ignored), every frame of the size of the first.
    """

    index: int
    time: float
    picture: Image.Image


def frame_indices(total: int, n: int) -> list[int]:
    """The places of `n` frames of `total`, evenly from the first to the last, rounded down.

    A video of fewer than `n` frames shows some of them again, as the published model's input does.

    >>> frame_indices(100, 8), frame_indices(3, 4), frame_indices(9, 1)
    ([0, 14, 28, 42, 56, 70, 84, 99], [0, 0, 1, 2], [0])
    """
    return [int(index) for index in np.linspace(0, total - 1, n, dtype=int)]


def decode_frames(data: bytes, n: int = FRAMES, *, max_pixels: int = MAX_PIXELS) -> list[Frame]:
    """Decode the frames at `frame_indices` of a video's first video stream, in order.

    What a cut file of a streaming container (Matroska, MPEG-TS, ASF) still holds counts as the whole video.

    Args:
        data: the video file's bytes.
        n: number of frames.
        max_pixels: width times height above which the video is refused before it is decoded; of `n` frames together
            no more than twice the usual limit, or this one where it is higher, unless they are as small as 4K ones.

    Raises:
        ItemError: ``empty``, ``corrupt``, ``truncated`` or ``too_many_pixels``.
    """
    max_pixels = min(max_pixels, _most_of_a_frame(n, max_pixels))
    with _explained():
        stamps, keys = _timeline(data, max_pixels)
        found = _by_seeking(data, stamps, keys, n, max_pixels) if stamps else None
        return in_sequence(data, n, max_pixels) if found is None else found


def _most_of_a_frame(n: int, max_pixels: int) -> int:
    """Pixels of each of `n` frames that are decoded together."""
    most = _MOST_PIXELS_HELD * max(max_pixels, MAX_PIXELS) // max(n, 1)
    return max(most, _USUAL_PIXELS) if n <= _USUAL_FRAMES else most


def with_boxes(
    frames: Sequence[Frame], found: Sequence[Detections] | None
) -> list[tuple[Image.Image, Detections | None]]:
    """Each frame's picture with its objects; without them None.

    Raises:
        ItemError: ``bad_boxes`` where they are those of another number of frames.
    """
    boxes: Sequence[Detections | None] = found or (None,) * len(frames)
    if len(boxes) != len(frames):
        raise ItemError("bad_boxes", f"boxes of {len(boxes)} frames; the model is shown {len(frames)}")
    return [(frame.picture, one) for frame, one in zip(frames, boxes, strict=True)]


def check(data: bytes) -> None:
    """Decode the first frame of a video's first video stream.

    Args:
        data: the video file's bytes.

    Raises:
        ItemError: ``empty``, ``corrupt`` or ``too_many_pixels``.
    """
    with _explained(), _opened(data) as (container, stream):
        if next(container.decode(stream), None) is None:
            raise ItemError("corrupt", "no frame can be decoded")


@contextmanager
def _explained() -> Iterator[None]:
    """The decoder's errors as an `ItemError`."""
    import av  # here: FFmpeg takes longer to load than a picture to be looked at

    try:
        yield
    except (av.FFmpegError, ValueError, EOFError) as error:
        text = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
        raise ItemError("corrupt", f"not a video that can be decoded: {text[:200]}") from error


@contextmanager
def _opened(data: bytes, max_pixels: int = MAX_PIXELS) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream."""
    import av

    if not data:
        raise ItemError("empty", "0 bytes")
    with av.open(io.BytesIO(data), options={"format_whitelist": _CONTAINERS}) as container:
        if not container.streams.video:
            raise ItemError("corrupt", "no video stream")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise ItemError("corrupt", "no decoder knows the video stream")
        images.refuse_over(max_pixels, stream.width, stream.height)
        stream.codec_context.options = {"max_pixels": str(max_pixels)}  # frames may be larger than the header says
        yield container, stream


def _timeline(data: bytes, max_pixels: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Time stamps of all frames in order, and (time stamp, where to seek) of those that begin anew.

    Both are empty where the container has no clear time stamps.
    """
    with _opened(data, max_pixels) as (container, stream):
        packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
        if stream.frames and "mov" in container.format.name and len(packets) < stream.frames:
            raise ItemError("truncated", f"{len(packets)} of {stream.frames} frames are there")
    stamps = sorted({packet.pts for packet in packets if packet.pts is not None})
    if len(stamps) < len(packets):
        return [], []
    keys = [(packet.pts, packet.pts if packet.dts is None else packet.dts) for packet in packets if packet.is_keyframe]
    return stamps, sorted(keys)


def _by_seeking(
    data: bytes, stamps: list[int], keys: list[tuple[int, int]], n: int, max_pixels: int
) -> list[Frame] | None:
    """Decode little more than what is wanted; None where the video does not keep to its time stamps."""
    indices = frame_indices(len(stamps), n)
    pictures: dict[int, Image.Image] = {}
    with _opened(data, max_pixels) as (container, stream):
        position: int | None = None
        frames: Iterator[Any] = iter(())
        for index in dict.fromkeys(indices):
            key = bisect_right(keys, stamps[index], key=lambda pair: pair[0]) - 1
            if key < 0:
                return None
            if position is None or keys[key][0] > position:
                container.seek(keys[key][1], stream=stream)
                frames = container.decode(stream)
            frame = next((one for one in frames if one.pts is None or one.pts >= stamps[index]), None)
            if frame is None or frame.pts != stamps[index] or frame.is_corrupt:
                return None
            position = frame.pts
            pictures[index] = _picture(frame, pictures)
        base = float(stream.time_base)
    return [Frame(index, (stamps[index] - stamps[0]) * base, pictures[index]) for index in indices]


def in_sequence(data: bytes, n: int, max_pixels: int = MAX_PIXELS) -> list[Frame]:
    """Decode all frames twice: to count them, and to keep some."""
    with _opened(data, max_pixels) as (container, stream):
        times = [frame.time for frame in container.decode(stream)]
        rate = float(stream.average_rate or stream.guessed_rate or 25)
    if not times:
        raise ItemError("corrupt", "no frame can be decoded")
    indices = frame_indices(len(times), n)
    wanted = set(indices)
    pictures: dict[int, Image.Image] = {}
    with _opened(data, max_pixels) as (container, stream):
        for index, frame in enumerate(container.decode(stream)):
            if index in wanted:
                if frame.is_corrupt:
                    raise ItemError("corrupt", f"frame {index} cannot be decoded whole")
                pictures[index] = _picture(frame, pictures)
    if times[0] is None or None in times:
        times = [index / rate for index in range(len(times))]
    return [Frame(index, times[index] - times[0], pictures[index]) for index in indices]


def _picture(frame: Any, before: dict[int, Image.Image]) -> Image.Image:
    width, height = next(iter(before.values())).size if before else (frame.width, frame.height)
    picture: Image.Image = frame.reformat(width=width, height=height, format="rgb24").to_image()
    return picture
