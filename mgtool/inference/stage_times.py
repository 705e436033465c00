"""Where a run's time goes: waiting for pictures, towers, prefill, decoding, and what is left for the host."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar, get_args

import torch
from torch.profiler import record_function

from mgtool.inference.scheduler import Group

Item = TypeVar("Item")
Stage = Literal["pictures", "towers", "prefill", "decode", "host"]
STAGES: tuple[Stage, ...] = get_args(Stage)
_ON_HOST = ("pictures", "host")
_PENDING = 256
"""Stretches of a GPU's time that are not looked at yet; looking at one that is not over would wait for it."""


class Clock(Protocol):
    """Marks moments, and tells the seconds between two of them once both are over."""

    def mark(self) -> Any: ...

    def is_over(self, moment: Any) -> bool: ...

    def between(self, begin: Any, end: Any) -> float: ...


class HostClock:
    """Of the processor."""

    def mark(self) -> float:
        """Now."""
        return time.perf_counter()

    def is_over(self, moment: float) -> bool:
        """Always."""
        return True

    def between(self, begin: float, end: float) -> float:
        """Seconds."""
        return end - begin


class GpuClock:
    """Of a GPU, which computes later than it is told to: events of its own stream, which nothing waits for."""

    def mark(self) -> Any:
        """When the GPU has done what it was told so far."""
        event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def is_over(self, moment: Any) -> bool:
        """Whether it has done it."""
        return bool(moment.query())

    def between(self, begin: Any, end: Any) -> float:
        """Seconds."""
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1000


@dataclass
class StageTimes:
    """What was measured so far; stretches within others count once, for the inner stage.

    Attributes:
        clock: of the device that computes.
        seconds: by stage.
        pictures: that the towers saw.
        prefilled: tokens of prompts.
        tokens: that were made.
        steps: of decoding.
        cached: tokens whose keys and values were read, summed over the steps.
    """

    clock: Clock = field(default_factory=HostClock)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    pictures: int = 0
    prefilled: int = 0
    tokens: int = 0
    steps: int = 0
    cached: int = 0
    _began: float = field(default_factory=time.perf_counter)
    _last: Any = None
    _inside: list[str] = field(default_factory=list)
    _pending: deque[tuple[str, str | None, Any, Any]] = field(default_factory=deque)

    @contextlib.contextmanager
    def of(self, stage: Stage) -> Iterator[None]:
        """Count what is done in the block for a stage, whose name a trace shows, too."""
        clock = HostClock() if stage in _ON_HOST else self.clock
        outer = self._inside[-1] if self._inside else None
        self._inside.append(stage)
        begin = clock.mark()
        try:
            with record_function(f"mgtool: {stage}"):
                yield
        finally:
            self._inside.pop()
            end = clock.mark()
            if stage in _ON_HOST:
                self._take(stage, outer, clock.between(begin, end))
            else:
                self._pending.append((stage, outer, begin, end))
                self._look(_PENDING)

    def drawing(self, items: Iterable[Item]) -> Iterator[Item]:
        """The same items; the time that it takes to make them is the host's."""
        supply = iter(items)
        while True:
            with self.of("host"):
                try:
                    item = next(supply)
                except StopIteration:
                    return
            yield item

    def began(self, prompt: Group, visual: int) -> None:
        """Count the tokens of a prompt, and of its pictures; what it shares with the one before counts once."""
        place = prompt.key, prompt.shared
        is_shared = prompt.shared is not None and place == self._last
        self._last = place
        own = len(prompt.prompts[0])
        self.prefilled += own - prompt.common if is_shared else own + visual

    def stepped(self, rows: int, cached: int) -> None:
        """Count a step of decoding of so many rows over so many tokens."""
        self.steps, self.tokens, self.cached = self.steps + bool(rows), self.tokens + rows, self.cached + cached

    def add(self, other: Mapping[str, Any], processes: int) -> None:
        """Count what another process measured, as of `measured`; stages last as long as in the mean of all of them."""
        for name, value in other["seconds"].items():
            self.seconds[name] += value / processes
        for name in _COUNTED:
            setattr(self, name, getattr(self, name) + other[name])

    def measured(self) -> dict[str, Any]:
        """All of it, for `add`."""
        self._look(0)
        return {"seconds": dict(self.seconds), **{name: getattr(self, name) for name in _COUNTED}}

    def summary(self) -> dict[str, Any]:
        """Seconds by stage, `host` for all that is in no other, and what was done a second; empty where nothing was."""
        found = self.measured()["seconds"]
        if not found:
            return {}
        whole = time.perf_counter() - self._began
        stages: dict[str, float] = {stage: found.get(stage, 0.0) for stage in STAGES if stage != "host"}
        rates = {
            "pictures": _rate(self.pictures, stages["towers"]),
            "prompt_tokens": _rate(self.prefilled, stages["prefill"]),
            "tokens": _rate(self.tokens, stages["decode"]),
        }
        seconds = {**stages, "host": max(0.0, whole - sum(stages.values()))}
        return {
            "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
            "per_second": {name: rate for name, rate in rates.items() if rate is not None},
        }

    def _look(self, most: int) -> None:
        """Take in what is over, and all but `most` of the rest."""
        while self._pending and (len(self._pending) > most or self.clock.is_over(self._pending[0][3])):
            stage, outer, begin, end = self._pending.popleft()
            self._take(stage, outer, self.clock.between(begin, end))

    def _take(self, stage: str, outer: str | None, seconds: float) -> None:
        self.seconds[stage] += seconds
        if outer is not None:
            self.seconds[outer] -= seconds


_COUNTED = ("pictures", "prefilled", "tokens", "steps", "cached")


def _rate(count: int, seconds: float) -> float | None:
    return round(count / seconds, 1) if count and seconds > 0 else None


def for_device(device: str) -> StageTimes:
    """Nothing measured yet, on a device as torch names it."""
    return StageTimes(GpuClock() if device.startswith("cuda") else HostClock())
