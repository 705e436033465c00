"""A finder on several devices, a process each; batches go round, and their boxes come back in order."""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from PIL import Image

from mgtool.boxes.filters import Filters
from mgtool.detection.batch_size import BatchSize
from mgtool.detection.finder import Finder
from mgtool.detection.known_boxes import KnownBoxes
from mgtool.errors import ItemError, MgtoolError
from mgtool.records import Detections
from mgtool.runs import workers

Load = Callable[[str], Finder]
"""Device -> what looks there; called in that device's process."""

AHEAD = 2
"""Batches that a process has or that wait for it."""
BATCH = 16
"""Pictures that a process gets at once where no size is given; it looks at as many of them at a time as is fast."""

_served: tuple[Finder, BatchSize]


@dataclass(frozen=True)
class Fleet(Finder):
    """As one finder.

    Attributes:
        processes: device and process.
    """

    processes: tuple[tuple[str, ProcessPoolExecutor], ...] = ()
    _turns: Iterator[tuple[str, ProcessPoolExecutor]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_turns", cycle(self.processes))

    @property
    def identity(self) -> str:
        """What decides the boxes, on whatever device."""
        parts = (self.known.identity if self.known is not None else "", self._ask(_identity))
        return " | ".join(part for part in parts if part)

    @property
    def ahead(self) -> int:
        """How many batches keep all processes busy."""
        return AHEAD * len(self.processes)

    def begin(self, pictures: Sequence[Image.Image], batch: BatchSize) -> Callable[[], list[Detections | ItemError]]:
        """As of one device; the next process in turn looks."""
        if not pictures:
            return list
        device, process = next(self._turns)
        with _watched(device):
            future: Future[list[Detections | ItemError]] = process.submit(_find, pictures)

        def found() -> list[Detections | ItemError]:
            with _watched(device):
                return future.result()

        return found

    def draw(self, picture: Image.Image, found: Detections) -> Image.Image:
        """A copy of an RGB picture with its boxes, as the detector draws them."""
        drawn: Image.Image = self._ask(_draw, picture, found)
        return drawn

    def _ask(self, question: Callable[..., Any], *given: Any) -> Any:
        device, process = self.processes[0]
        with _watched(device):
            return process.submit(question, *given).result()


def launch(
    load: Load, devices: Sequence[str], batch_size: int | None, filters: Filters, known: KnownBoxes | None
) -> Fleet:
    """A process for each device, with its detector loaded.

    Args:
        load: the finder of a device, without known boxes; pickled.
        devices: as the detectors take them; a name may come several times.
        batch_size: most pictures at once; None to find it.
        filters: of the known boxes; `load` brings those of the detector.
        known: boxes that are not looked for.

    Raises:
        MgtoolError: what `load` raises, or that a process was killed.
    """
    context = multiprocessing.get_context("spawn")
    processes = tuple(
        (device, ProcessPoolExecutor(1, mp_context=context, initializer=workers.begin)) for device in devices
    )
    for _, process in processes:
        workers.watch(process)
    fleet = Fleet(None, filters=filters, known=known, processes=processes)
    weakref.finalize(fleet, _end, processes)
    loading = [process.submit(_load, load, device, batch_size, len(devices)) for device, process in processes]
    for device, future in zip(devices, loading, strict=True):
        with _watched(device):
            future.result()
    return fleet


def _end(processes: Sequence[tuple[str, ProcessPoolExecutor]]) -> None:
    for _, process in processes:
        process.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _watched(device: str) -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise MgtoolError(f"the process on {device} was killed: is memory short?") from error


def _load(load: Load, device: str, batch_size: int | None, count: int) -> None:
    """Make this process's finder; the cores are for all processes."""
    global _served  # noqa: PLW0603 - a process of the pool has no other place that outlives a task
    _served = load(device), BatchSize(batch_size)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(max(1, torch.get_num_threads() // count))


def _find(pictures: Sequence[Image.Image]) -> list[Detections | ItemError]:
    finder, batch = _served
    return finder.find(pictures, batch)


def _identity() -> str:
    return _served[0].identity


def _draw(picture: Image.Image, found: Detections) -> Image.Image:
    return _served[0].draw(picture, found)
