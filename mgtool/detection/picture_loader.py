"""Pictures for a detector: read, hashed and decoded by worker processes, in input order, a bounded number ahead."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeAlias

from PIL import Image

from mgtool.detection.options import DetectOptions
from mgtool.errors import ItemError, MgtoolError
from mgtool.files import hashing
from mgtool.media import images, videos
from mgtool.media.names import is_video_name
from mgtool.media.reading import read_bytes
from mgtool.records import Failure, Media, Sample
from mgtool.runs import workers as processes

AHEAD_PER_WORKER = 4
"""Pictures that are decoded or waiting, for each worker, at least."""
AHEAD_BYTES = 1 << 30
"""Memory of decoded pictures that wait, about; at least one a worker may."""
_USUAL_BYTES = 3 * 1_000_000
LARGE_PIXELS = 1 << 25
"""Of a picture that this process decodes itself: handing one over takes three times its memory, and as long."""

Named: TypeAlias = tuple[Sample, Media] | Failure


@dataclass(frozen=True)
class Content:
    """What a file held.

    Attributes:
        sha256: of its bytes; empty where they could not be read.
        pictures: RGB; one of a picture, the distinct frames of a video in order.
        frames: (index, seconds from the start) of each frame that a video shows, repeated ones included.
        error: why there is no picture.
        undecoded: the bytes of a picture that is too large to be handed over.
    """

    sha256: str = ""
    pictures: tuple[Image.Image, ...] = ()
    frames: tuple[tuple[int, float], ...] | None = None
    error: ItemError | None = None
    undecoded: bytes = b""

    @property
    def distinct(self) -> tuple[int, ...]:
        """The index of each of a video's `pictures`."""
        return tuple(dict.fromkeys(index for index, _ in self.frames or ()))

    @property
    def nbytes(self) -> int:
        """Memory of the pictures."""
        return 3 * self.pixels + len(self.undecoded)

    @property
    def pixels(self) -> int:
        """Of all pictures."""
        return sum(picture.width * picture.height for picture in self.pictures)

    def decoded(self, max_pixels: int) -> Content:
        """The same with its picture, of at most so many pixels."""
        if not self.undecoded:
            return self
        try:
            return Content(self.sha256, (images.decode(self.undecoded, max_pixels=max_pixels),))
        except ItemError as error:
            return Content(self.sha256, error=error)

    def close(self) -> None:
        """Let the pixels go, whoever still has the pictures."""
        for picture in self.pictures:
            picture.close()


@dataclass(frozen=True)
class Opened:
    """One picture or video of the input.

    Attributes:
        item: where it comes from.
        content: what its file held; empty where its name came before.
    """

    item: Named
    content: Content = field(default_factory=Content)


def open_pictures(
    items: Iterable[Named],
    *,
    is_new: Callable[[Media], bool],
    workers: int,
    frames: int = DetectOptions.frames,
    batch: Callable[[], int] = lambda: 1,
    max_pixels: int = DetectOptions.max_pixels,
) -> Generator[Opened]:
    """Open pictures and videos in order; the next batch is decoded while the caller is busy with one.

    Args:
        items: pictures by name; failures of the reader pass through.
        is_new: whether to read one; called once for each, in order.
        workers: processes; 0 decodes in this one.
        frames: of a video.
        batch: how many pictures the caller takes at once, now.
        max_pixels: of a picture or video.
    """
    open_one = functools.partial(_open, frames=frames, max_pixels=max_pixels)
    if workers:
        open_there = functools.partial(open_one, largest=LARGE_PIXELS)
        for one in _open_ahead(items, is_new, workers, open_there, batch):
            yield Opened(one.item, one.content.decoded(max_pixels))
        return
    for item in items:
        yield Opened(item) if (work := _work(item, is_new)) is None else Opened(item, open_one(*work))


def _open_ahead(
    items: Iterable[Named],
    is_new: Callable[[Media], bool],
    workers: int,
    open_one: Callable[[Media, bool], Content],
    batch: Callable[[], int],
) -> Generator[Opened]:
    waiting: deque[tuple[Named, Future[Content] | None]] = deque()
    usual = _USUAL_BYTES
    with processes.pool(workers, processes.FORK_SERVER, "decodes pictures") as pool:
        for item in items:
            work = _work(item, is_new)
            waiting.append((item, None if work is None else pool.submit(open_one, *work)))
            while len(waiting) > _ahead(workers, batch(), usual):
                one = _wait(*waiting.popleft())
                if one.content.pictures:
                    usual = max(1, usual + (one.content.nbytes - usual) // 8)
                yield one
        while waiting:
            yield _wait(*waiting.popleft())


def _ahead(workers: int, batch: int, usual: int) -> int:
    """How many may wait: the next batch and some more, within the memory that they may take."""
    return max(workers, min(batch + AHEAD_PER_WORKER * workers, AHEAD_BYTES // usual))


def _work(item: Named, is_new: Callable[[Media], bool]) -> tuple[Media, bool] | None:
    """What there is to open, and whether it is a video."""
    if isinstance(item, Failure) or not is_new(item[1]):
        return None
    sample, media = item
    return media, media is sample.video or is_video_name(media.name)


def _wait(item: Named, future: Future[Content] | None) -> Opened:
    if future is None:
        return Opened(item)
    try:
        return Opened(item, future.result())
    except MgtoolError:
        raise
    except MemoryError:
        return Opened(item, Content(error=ItemError("out_of_memory", "the picture does not fit into memory")))


def _open(media: Media, is_video: bool, *, frames: int, max_pixels: int, largest: int | None = None) -> Content:
    """What a file holds; errors are values, as they cross processes. `largest` is as of `_picture`."""
    digest = ""
    try:
        data = read_bytes(media)
        digest = hashing.sha256(data)
        if not is_video:
            return _picture(digest, data, max_pixels, largest or max_pixels)
        decoded = videos.decode_frames(data, frames, max_pixels=max_pixels)
        distinct = {frame.index: frame.picture for frame in decoded}
        return Content(digest, tuple(distinct.values()), tuple((frame.index, frame.time) for frame in decoded))
    except ItemError as error:
        return Content(digest, error=error)


def _picture(digest: str, data: bytes, max_pixels: int, largest: int) -> Content:
    """A file's picture; of more than the `largest` number of pixels, it is left undecoded."""
    try:
        return Content(digest, (images.decode(data, max_pixels=min(max_pixels, largest)),))
    except ItemError as error:
        if error.reason != "too_many_pixels" or largest >= max_pixels:
            raise
        return Content(digest, undecoded=data)
