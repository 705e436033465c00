"""Pictures and videos on their way to the model: decoded and placed in threads, or in processes of their own.

Processes import no torch. What they give is 8-bit, a quarter of what the model takes, and comes through a pipe: shared
memory would be copied once less, but containers as a rule have 64 MB of it.
"""

from __future__ import annotations

import queue
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple

from mgtool.boxes.placement import Framed, Framing
from mgtool.errors import ItemError
from mgtool.media import images, videos
from mgtool.media.limits import MAX_PIXELS
from mgtool.records import Detections
from mgtool.runs.workers import SPAWN
from mgtool.runs.workers import begin as begin_worker

if TYPE_CHECKING:
    from mgtool.inference.grouping import Prompt
    from mgtool.model.processor import PlacedPicture

THREADS = 2
"""Threads that decode and place pictures where no processes do; PIL computes without Python's lock."""
AHEAD = 4
"""Pictures that are prepared while the model is busy."""
AHEAD_PER_WORKER = 2
"""More of them for each process: one in work, one that waits for it."""
AHEAD_OF_GPU = 64
"""At least, for a device that sees many at once; each is 7 MB."""


class MediaInput(NamedTuple):
    """A picture's or video's file with the boxes that the model gets; `key` is the same where both are.

    Attributes:
        key: of both together.
        data: the file.
        detections: one entry for a picture, one a frame for a video; None where there are no boxes.
    """

    key: str
    data: bytes
    detections: tuple[Detections, ...] | None
    is_video: bool = False

    @property
    def pictures(self) -> int:
        """How many the model sees."""
        return videos.FRAMES if self.is_video else 1


class PictureLoader:
    """Prepares pictures while the model is busy.

    What a process held that was killed is prepared in this one, and another process takes its place.

    Args:
        processor: the model's.
        workers: processes; with 0, threads of this one.
        pinned: the pixels are for a CUDA device.
        max_pixels: of a picture or video; larger ones are failures.

    Attributes:
        ahead: pictures that may be under way or waiting.
    """

    def __init__(self, processor: Any, workers: int = 0, *, pinned: bool = False, max_pixels: int = MAX_PIXELS) -> None:
        self.processor, self.workers, self.pinned = processor, workers, pinned
        self.max_pixels = max_pixels
        self.ahead = max(AHEAD + AHEAD_PER_WORKER * workers, AHEAD_OF_GPU if pinned else 0)
        self._framing: Framing = processor.framing
        self._idle: queue.SimpleQueue[_PictureProcess | None] = queue.SimpleQueue()  # None: not started
        for _ in range(workers):
            self._idle.put(None)
        # With processes, half of the threads wait for them while the others normalise.
        self._threads = ThreadPoolExecutor(2 * workers or THREADS)

    def __enter__(self) -> PictureLoader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for _ in range(self.workers):
            worker = self._idle.get()
            if worker is not None:
                worker.close()

    def begin(self, prompts: Sequence[Prompt]) -> list[Future[list[PlacedPicture]]]:
        """Begin to prepare the files that some prompts share."""
        return [self.submit(media) for media in prompts[0].media]

    def submit(self, media: MediaInput) -> Future[list[PlacedPicture]]:
        """Begin to prepare a file; its pictures, or an `ItemError`."""
        return self._threads.submit(self._prepare, media)

    def _prepare(self, media: MediaInput) -> list[PlacedPicture]:
        framed = self._fit_elsewhere(media) if self.workers else fit(self._framing, media, self.max_pixels)
        return [self.processor.normalize(one, pinned=self.pinned) for one in framed]

    def _fit_elsewhere(self, media: MediaInput) -> list[Framed]:
        worker = self._idle.get()
        try:
            worker = worker or _PictureProcess()
            return worker.fit(self._framing, media, self.max_pixels)
        except (EOFError, OSError):
            if worker is not None:
                worker.close()
            worker = None
        finally:
            self._idle.put(worker)
        return fit(self._framing, media, self.max_pixels)


class _PictureProcess:
    """A process that prepares one file after another.

    It shares nothing with the others: a `ProcessPoolExecutor` of which a process is killed may leave another behind
    that nobody ends.
    """

    def __init__(self) -> None:
        self._connection, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_serve, args=(theirs,), name="mgtool-pictures", daemon=True)
        self._process.start()
        theirs.close()

    def fit(self, framing: Framing, media: MediaInput, max_pixels: int) -> list[Framed]:
        """As `fit`, there.

        Raises:
            EOFError, OSError: the process was killed.
        """
        self._connection.send((framing, media, max_pixels))
        found = self._connection.recv()
        if isinstance(found, ItemError):
            raise found
        return list(found)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join()
        self._connection.close()


def _serve(connection: Connection) -> None:
    """A process's whole life."""
    begin_worker()
    while True:
        try:
            given = connection.recv()
        except EOFError:
            return
        try:
            connection.send(fit(*given))
        except ItemError as error:
            connection.send(error)


def fit(framing: Framing, media: MediaInput, max_pixels: int = MAX_PIXELS) -> list[Framed]:
    """A file's picture, or a video's frames, with their boxes in the model frame.

    Raises:
        ItemError: what cannot be decoded, or boxes that are not those of the frames.
    """
    try:
        return _fit(framing, media, max_pixels)
    except MemoryError as error:
        raise ItemError("out_of_memory", "the picture does not fit into memory") from error


def _fit(framing: Framing, media: MediaInput, max_pixels: int) -> list[Framed]:
    if not media.is_video:
        found = media.detections[0] if media.detections else None
        return [images.look(media.data, lambda picture: framing.fit(picture, found), max_pixels=max_pixels)]
    frames = videos.with_boxes(videos.decode_frames(media.data, max_pixels=max_pixels), media.detections)
    return [framing.fit(picture, boxes) for picture, boxes in frames]
