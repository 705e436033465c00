"""Pictures for a detector: read, hashed and decoded by worker processes, in input order, a bounded number ahead."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

from PIL import Image

from mgtool import images
from mgtool.errors import ItemError, MgtoolError
from mgtool.records import Failure, Media, Sample
from mgtool.sources import VIDEO_EXTENSIONS, read_bytes
from mgtool.workers import begin as begin_worker

AHEAD_PER_WORKER = 4
"""Pictures that are decoded or waiting, for each worker; bounds memory."""

Named: TypeAlias = tuple[Sample, Media] | Failure


@dataclass(frozen=True)
class Opened:
    """One picture of the input, or why there is none.

    Attributes:
        item: where it comes from.
        sha256: of its bytes; empty where they could not be read.
        picture: RGB.
        error: why there is no picture; both are None for a name that came before.
    """

    item: Named
    sha256: str = ""
    picture: Image.Image | None = None
    error: ItemError | None = None


def open_pictures(items: Iterable[Named], *, known: set[str], workers: int) -> Generator[Opened]:
    """Open pictures in order; one whose `uri` is `known` (or came before) is not read again.

    Args:
        items: pictures by name; failures of the reader pass through.
        known: URIs not to read; those that are read are added.
        workers: processes; 0 decodes in this one.
    """
    if workers == 0:
        for item in items:
            yield _open_here(item) if _is_new(item, known) else Opened(item)
        return
    context = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=begin_worker)
    waiting: deque[tuple[Named, Future[tuple[str, Image.Image | None, ItemError | None]] | None]] = deque()
    try:
        for item in items:
            new = _is_new(item, known)
            waiting.append((item, pool.submit(_open, item[1]) if new and isinstance(item, tuple) else None))
            if len(waiting) >= workers * AHEAD_PER_WORKER:
                yield _wait(*waiting.popleft())
        while waiting:
            yield _wait(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _is_new(item: Named, known: set[str]) -> bool:
    if isinstance(item, Failure):
        return False
    media = item[1]
    if media.data is None:
        if media.uri in known:
            return False
        known.add(media.uri)
    return True


def _wait(item: Named, future: Future[tuple[str, Image.Image | None, ItemError | None]] | None) -> Opened:
    if future is None:
        return Opened(item)
    try:
        return Opened(item, *future.result())
    except MgtoolError:
        raise
    except MemoryError:
        return Opened(item, error=ItemError("out_of_memory", "the picture does not fit into memory"))


def _open_here(item: Named) -> Opened:
    return Opened(item) if isinstance(item, Failure) else Opened(item, *_open(item[1]))


def _open(media: Media) -> tuple[str, Image.Image | None, ItemError | None]:
    """Hash and picture, or hash (where there are bytes) and error; errors are values, as they cross processes."""
    digest = ""
    try:
        if os.path.splitext(media.name)[1].lower() in VIDEO_EXTENSIONS:  # noqa: PTH122 - a name, perhaps of a URL
            raise ItemError("unsupported", "a video; give its frames as pictures")
        data = read_bytes(media)
        digest = images.sha256(data)
        return digest, images.decode(data), None
    except ItemError as error:
        return digest, None, error
