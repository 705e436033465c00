"""Several devices, a process each: samples are handed out in chunks, results come back as they are final."""

from __future__ import annotations

import functools
import itertools
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from mgtool import records
from mgtool.boxes.lookup import BoxSource
from mgtool.inference.pipeline import Items, Results, answered
from mgtool.inference.plan import InferencePlan
from mgtool.inference.stage_times import StageTimes, for_device
from mgtool.runs.hand_out import HandOut, Work

CHUNK, LONGEST_CHUNK = 32, 256
"""Samples of a chunk; more where one picture goes on, up to the second number."""
BACKLOG = 16
"""Chunks that wait for a slow process before others get its share."""
FURTHEST = 1 << 14
"""Samples by which a process may be before the slowest: so many results wait for one in the output at most."""

_TIMES = -1
"""In place of a position, with how long the stages of a process took."""

Numbered = tuple[int, records.Item]


def answer_on_devices(plan: InferencePlan, items: Items, boxes: BoxSource, times: StageTimes | None = None) -> Results:
    """As `answered`, with a process for each device of the plan, or for each part of a split model.

    Raises:
        MgtoolError: what a process found wrong, or that it was killed.
    """
    is_split = plan.tensor_parallel > 1
    works = _parts(plan, boxes) if is_split else _replicas(plan, boxes)
    chunks = Chunks(items, len(works), is_split=is_split)
    with HandOut(works) as hands:
        while not hands.is_over:
            for index, (position, result) in hands.exchange(chunks):
                if position == _TIMES:
                    (times or StageTimes()).add(result, len(works))
                elif index == 0 or not is_split:
                    chunks.finish(position)
                    yield position, result


class Chunks:
    """Chunks for each process in turn; every chunk for every process where each has a part of the model."""

    def __init__(self, items: Items, count: int, *, is_split: bool) -> None:
        self.chunks, self.is_split = chunked(items), is_split
        self.first: int | None = None
        self.finished: set[int] = set()
        self.turns = itertools.cycle(range(count))
        self.waiting: list[deque[list[Numbered]]] = [deque() for _ in range(count)]

    def is_due(self, index: int) -> bool:
        """Whether a process's next chunk, or the end, is not too far from the first sample without a result."""
        own = self._supplied(index)
        # processes with a part of the model each go in step
        return self.is_split or not own or self.first is None or own[0][0][0] < self.first + FURTHEST

    def take(self, index: int) -> list[Numbered] | None:
        """The next chunk of a process; None at the end."""
        own = self._supplied(index)
        return own.popleft() if own else None

    def finish(self, position: int) -> None:
        """Note that there is a result."""
        self.finished.add(position)
        while self.first in self.finished:
            self.finished.remove(self.first)
            self.first += 1

    def _supplied(self, index: int) -> deque[list[Numbered]]:
        """The chunks that wait for a process, one at least but at the end."""
        own = self.waiting[index]
        while not own:
            chunk = next(self.chunks, None)
            if chunk is None:
                break
            self.first = chunk[0][0] if self.first is None else self.first
            if self.is_split:
                for queue in self.waiting:
                    queue.append(chunk)
                continue
            turn = self.waiting[next(self.turns)]
            (own if len(turn) >= BACKLOG else turn).append(chunk)
        return own


def chunked(items: Items) -> Iterator[list[Numbered]]:
    """Stretches of items; a picture's questions stay together where they follow each other."""
    chunk: list[Numbered] = []
    for key, stretch in itertools.groupby(items, key=lambda numbered: _pictures(numbered[1])):
        for numbered in stretch:
            chunk.append(numbered)
            if len(chunk) >= (LONGEST_CHUNK if key else CHUNK):
                yield chunk
                chunk = []
        if len(chunk) >= CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _pictures(item: records.Item) -> tuple[str, ...]:
    return tuple(media.name for media in getattr(item, "images", ()))


def _replicas(plan: InferencePlan, boxes: BoxSource) -> list[tuple[str, Work]]:
    devices = plan.devices
    works = []
    for device in devices:
        variables = seen_alone(device, os.environ) if plan.backend == "vllm" else {}
        own = replace(plan, device="cuda" if variables else device)
        works.append((device, _work(own, boxes, len(devices), variables)))
    return works


def seen_alone(device: str, environment: Mapping[str, str]) -> dict[str, str]:
    """What a process's environment needs for it to see one GPU alone, as its first.

    >>> seen_alone("cuda:1", {}), seen_alone("cuda:1", {"CUDA_VISIBLE_DEVICES": "4,6"}), seen_alone("cpu", {})
    ({'CUDA_VISIBLE_DEVICES': '1'}, {'CUDA_VISIBLE_DEVICES': '6'}, {})
    """
    kind, _, index = device.partition(":")
    if kind != "cuda" or not index:
        return {}
    visible = environment.get("CUDA_VISIBLE_DEVICES", "")
    return {"CUDA_VISIBLE_DEVICES": visible.split(",")[int(index)] if visible else index}


def _parts(plan: InferencePlan, boxes: BoxSource) -> list[tuple[str, Work]]:
    count = plan.tensor_parallel
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    kind = plan.device.partition(":")[0]
    works = []
    for rank in range(count):
        device = "cpu" if kind == "cpu" else f"{kind}:{rank}"
        variables = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        works.append((device, _work(replace(plan, device=device), boxes, count, variables)))
    return works


def _work(plan: InferencePlan, boxes: BoxSource, processes: int, variables: Mapping[str, str]) -> Work:
    threads = max(1, torch.get_num_threads() // processes)
    return functools.partial(_answer, plan, boxes, threads, dict(variables))


def _answer(
    plan: InferencePlan,
    boxes: BoxSource,
    threads: int,
    variables: Mapping[str, str],
    chunks: Iterator[list[Numbered]],
    give: Callable[[Any], None],
) -> None:
    """What a process does; its results are positions and what became of the items there."""
    os.environ.update(variables)
    torch.set_num_threads(threads)
    times = for_device(plan.device)
    for found in answered(plan, itertools.chain.from_iterable(chunks), boxes, times):
        give(found)
    give((_TIMES, times.measured()))
