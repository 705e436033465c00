"""A finder on several devices, a process each; whichever is free takes the next batch, and boxes come back in order."""

from __future__ import annotations

import functools
import itertools
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from mgtool.boxes.filters import Filters
from mgtool.detection.batch_size import BatchSize
from mgtool.detection.finder import Finder
from mgtool.detection.known_boxes import KnownBoxes
from mgtool.errors import ItemError
from mgtool.records import Detections
from mgtool.runs.hand_out import HandOut

Load = Callable[[str], Finder]
"""Device -> what looks there; called in that device's process."""

AHEAD = 2
"""Batches that a process has or that wait for it."""
BATCH = 16
"""Pictures that a process gets at once where no size is given; it looks at as many of them at a time as is fast."""


@dataclass(frozen=True, kw_only=True)
class Replicas(Finder):
    """As one finder.

    Attributes:
        questions: go to the processes.
    """

    questions: Questions

    @property
    def identity(self) -> str:
        """What decides the boxes, on whatever device."""
        parts = (self.known.identity if self.known is not None else "", self.questions.identity)
        return " | ".join(part for part in parts if part)

    @property
    def ahead(self) -> int:
        """How many batches keep all processes busy."""
        return AHEAD * self.questions.processes

    def begin(self, pictures: Sequence[Image.Image], batch: BatchSize) -> Callable[[], list[Detections | ItemError]]:
        """As of one device; the first process that is free looks."""
        return self.questions.ask(_find, pictures) if pictures else list

    def draw(self, picture: Image.Image, found: Detections) -> Image.Image:
        """A copy of an RGB picture with its boxes, as the detector draws them."""
        drawn: Image.Image = self.questions.ask(_draw, picture, found)()
        return drawn


class Questions:
    """Calls of functions in processes with a finder each, and what they gave: a `Supply`.

    Attributes:
        processes: how many there are.
        identity: of their finders.
    """

    def __init__(self, hands: HandOut, processes: int) -> None:
        self.processes = processes
        self._hands = hands
        self._numbers = itertools.count()
        self._waiting: deque[tuple[int, Callable[..., Any], tuple[Any, ...]]] = deque()
        self._answers: dict[int, Any] = {}
        loaded: dict[int, str] = {}
        while len(loaded) < processes:
            loaded |= self._hands.exchange(self)
        self.identity = loaded[0]

    def is_due(self, index: int) -> bool:
        """See `Supply`."""
        return bool(self._waiting)

    def take(self, index: int) -> Any:
        """See `Supply`."""
        return self._waiting.popleft()

    def ask(self, function: Callable[..., Any], *given: Any) -> Callable[[], Any]:
        """Begin to call a function of a finder, a batch size and what is `given`; gives what waits for the answer."""
        number = next(self._numbers)
        self._waiting.append((number, function, given))
        self._exchange(0)

        def answer() -> Any:
            while number not in self._answers:
                self._exchange(None)
            return self._answers.pop(number)

        return answer

    def _exchange(self, timeout: float | None) -> None:
        self._answers.update(answer for _, answer in self._hands.exchange(self, timeout))


def launch(
    load: Load, devices: Sequence[str], batch_size: int | None, filters: Filters, known: KnownBoxes | None
) -> Replicas:
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
    works = [(device, functools.partial(_look, load, device, batch_size, len(devices))) for device in devices]
    questions = Questions(HandOut(works, ahead=AHEAD), len(devices))
    return Replicas(detector=None, filters=filters, known=known, questions=questions)


def _look(
    load: Load,
    device: str,
    batch_size: int | None,
    processes: int,
    questions: Iterator[tuple[int, Callable[..., Any], tuple[Any, ...]]],
    give: Callable[[Any], None],
) -> None:
    """What a process does; its first result is the finder's identity, the others are questions' numbers and answers."""
    finder, batch = load(device), BatchSize(batch_size)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))  # the cores are for all processes
    give(finder.identity)
    for number, function, given in questions:
        give((number, function(finder, batch, *given)))


def _find(finder: Finder, batch: BatchSize, pictures: Sequence[Image.Image]) -> list[Detections | ItemError]:
    return finder.find(pictures, batch)


def _draw(finder: Finder, batch: BatchSize, picture: Image.Image, found: Detections) -> Image.Image:
    return finder.draw(picture, found)
