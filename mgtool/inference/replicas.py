"""Several devices, a process each: samples are handed out in chunks, results come back as they are final."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import torch

from mgtool import records
from mgtool.boxes.lookup import BoxSource
from mgtool.errors import MgtoolError
from mgtool.inference.output import Result
from mgtool.inference.pipeline import Items, Results, answer_items
from mgtool.inference.plan import InferencePlan as Request
from mgtool.runs import workers

CHUNK, LONGEST_CHUNK = 32, 256
"""Samples of a chunk; more where one picture goes on, up to the second number."""
BACKLOG = 16
"""Chunks that wait for a slow process before others get its share."""
FURTHEST = 1 << 14
"""Samples by which a process may be before the slowest: so many results wait for one in the output at most."""

Numbered = tuple[int, records.Item]


class _Final(NamedTuple):
    position: int
    result: Result


class _Failed(NamedTuple):
    message: str
    is_defect: bool


class _Worker(NamedTuple):
    device: str
    process: BaseProcess
    connection: Connection


_WANTS = "wants"
_DONE = "done"


def answer_on_devices(request: Request, items: Items, boxes: BoxSource) -> Results:
    """As `answered`, with a process for each device of the request, or for each part of a split model.

    Raises:
        MgtoolError: what a process found wrong, or that it was killed.
    """
    is_split = request.tensor_parallel > 1
    started = _start_split(request, boxes) if is_split else _start(request, boxes)
    handing = _Handing(items, len(started), is_split=is_split)
    going = {worker.connection: index for index, worker in enumerate(started)}
    hungry: list[int] = []
    try:
        while going:
            for connection in wait(list(going)):
                assert isinstance(connection, Connection)
                index = going[connection]
                message = _receive(started[index])
                if message == _WANTS:
                    hungry.append(index)
                elif message == _DONE:
                    del going[connection]
                elif index == 0 or not is_split:
                    handing.finish(message.position)
                    yield message.position, message.result
            hungry = [index for index in hungry if not _feed(started[index], handing, index)]
    finally:
        for worker in started:
            worker.process.terminate()
            worker.process.join()
            worker.connection.close()


def _feed(worker: _Worker, handing: _Handing, index: int) -> bool:
    """Give a process its next chunk if that is due."""
    if not handing.is_due(index):
        return False
    with contextlib.suppress(ConnectionError):  # of a killed process, which is noticed where it is listened to
        worker.connection.send(handing.take(index))
    return True


class _Handing:
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
        # Processes with a part of the model each go in step.
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


def _start(request: Request, boxes: BoxSource) -> list[_Worker]:
    devices = request.devices
    return [_launch(replace(request, device=device), boxes, len(devices), {}) for device in devices]


def _start_split(request: Request, boxes: BoxSource) -> list[_Worker]:
    count = request.tensor_parallel
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    parts = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    kind = request.device.partition(":")[0]
    devices = ["cpu" if kind == "cpu" else f"{kind}:{rank}" for rank in range(count)]
    return [
        _launch(replace(request, device=device), boxes, count, part)
        for device, part in zip(devices, parts, strict=True)
    ]


def _launch(request: Request, boxes: BoxSource, processes: int, environment: Mapping[str, str]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    own, theirs = context.Pipe()
    threads = max(1, torch.get_num_threads() // processes)
    process = context.Process(target=_serve, args=(theirs, request, boxes, threads, dict(environment)))
    process.start()
    theirs.close()
    return _Worker(request.device, process, own)


def _receive(worker: _Worker) -> Any:
    try:
        message = worker.connection.recv()
    except (EOFError, ConnectionResetError) as error:
        worker.process.join()
        code = worker.process.exitcode
        raise MgtoolError(f"the process on {worker.device} was killed (exit code {code}): is memory short?") from error
    if not isinstance(message, _Failed):
        return message
    if message.is_defect:
        raise RuntimeError(f"on {worker.device}: {message.message}")
    raise MgtoolError(message.message)


def _serve(
    connection: Connection, request: Request, boxes: BoxSource, threads: int, environment: dict[str, str]
) -> None:
    """A worker's whole life."""
    workers.begin()
    os.environ.update(environment)
    torch.set_num_threads(threads)
    lock = threading.Lock()

    def send(message: Any) -> None:
        with lock:
            connection.send(message)

    def received() -> Iterable[Numbered]:
        while True:
            send(_WANTS)
            chunk = connection.recv()
            if chunk is None:
                return
            yield from chunk

    try:
        answer_items(request, received(), boxes, lambda position, result: send(_Final(position, result)))
        send(_DONE)
    except MgtoolError as error:
        send(_Failed(str(error), is_defect=False))
    except Exception as error:  # noqa: BLE001 - the parent shows it as what it is: a defect
        send(_Failed(f"{type(error).__name__}: {error}", is_defect=True))
