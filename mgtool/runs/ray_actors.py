"""Actors of a Ray cluster that hold what they need, a model perhaps, and do one unit after the other as they come free.

Ray Core and not Ray Data: what is handed out is a stretch of the input that an actor reads by itself, and its result a
file; Ray Data would carry pictures through the object store to give back what is on the disk already.
"""

from __future__ import annotations

import contextlib
import errno
import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from mgtool.errors import OutputError
from mgtool.files.temporary import sweep, temporary_folder, users_place
from mgtool.runs import ray_nodes
from mgtool.runs.ray_head import HeadGoneError, HeadWatch
from mgtool.runs.ray_nodes import Needs, NodeWork


class Unit(Protocol):
    """A piece of work; it can be pickled."""

    @property
    def name(self) -> str:
        """Its own; the cluster shows it."""


U = TypeVar("U", bound=Unit)
R = TypeVar("R")
Make = Callable[..., Callable[[Any], R]]
"""Makes what does units, in the process that will, of the copies of files that it is given; can be pickled."""
RETRIES = 3
"""How often a unit is taken up again whose actor or node went away; a share goes on where it stopped."""
EACH = 4
"""Shares for each actor that there is room for: the slowest decides over no more than one of them."""
MOST_WAITING = 64
"""Actors that may wait for nodes to come."""
_MOST_NAMES = 1000
"""Units that the dashboard shows by name: Ray keeps what it counts of each name for as long as the run lasts."""
_OTHERS_COME_IN_S = 60.0
"""How long other nodes are waited for where those that are there have full disks."""
_LOOKS_EVERY_S = 1.0
"""How often it is looked whether the head is there while nothing is done."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PIECE = 64 << 20
"""Bytes of a file that travel as one object."""


class NodeFullError(OutputError):
    """A disk of one node is full; others may go on."""


class UnitActor(Generic[R]):
    """One process on some node.

    Args:
        make: gives what it does.
        needs: what has to be there.
        files: references to the pieces of each file that `make` gets a copy of.
    """

    def __init__(self, make: Make[R], needs: Needs, files: Sequence[Sequence[Any]] = ()) -> None:
        self._make, self._needs, self._files = make, needs, files
        self._do: Callable[[Any], R] | None = None
        self._kept = contextlib.ExitStack()

    def ready(self) -> str:
        """Load what is needed, once the actor has a place; gives the node's name. Errors reach the driver."""
        self._needs.insist()
        sweep(users_place())  # of actors that were killed here
        with _full_disk_told():
            self._do = self._make(*self._copies())
        return ray_nodes.here()

    def unit(self, unit: Any) -> tuple[R, int]:
        """Do one; gives the number of items that it did, too."""
        assert self._do is not None, "ready comes first"
        before = ray_nodes.done_here.done
        with _full_disk_told():
            return self._do(unit), ray_nodes.done_here.done - before

    def _copies(self) -> list[Path]:
        if not self._files:
            return []
        import ray

        folder = self._kept.enter_context(temporary_folder("carried"))
        copies = [folder / str(number) for number in range(len(self._files))]
        for copy, pieces in zip(copies, self._files, strict=True):
            with copy.open("wb") as file:
                for piece in pieces:
                    file.write(ray.get(piece))
        return copies


@dataclass
class _Worker:
    """An actor, and the name of its node once it has a place."""

    actor: Any
    node: str = ""


class Crew(Generic[U, R]):
    """The driver's side: actors, and the units that they are at.

    Args:
        ray: connected.
        make: as of `UnitActor`.
        wanted: what each actor asks for.
        name: of the run, as the dashboard shows it.
        most: actors that work, or wait for nodes to come.
        files: of this machine; `make` is given the path of a copy of each.
        loaded: what an actor is given for a unit, made when it is.
        needs: what each node has to have; None for nothing but the folder here.
        head: of the cluster; None for one that is not watched.
        work: told how many items of `ray_nodes.done_here` each node does.
    """

    def __init__(
        self,
        ray: Any,
        make: Make[R],
        wanted: Mapping[str, float],
        name: str,
        *,
        most: int = MOST_WAITING,
        files: Sequence[Path] = (),
        loaded: Callable[[U], Any] = lambda unit: unit,
        needs: Needs | None = None,
        head: HeadWatch | None = None,
        work: NodeWork | None = None,
    ) -> None:
        self._ray, self._name, self._make, self._most, self._loaded = ray, name, make, most, loaded
        self._needs, self._head, self._work = needs or Needs.of(), head, work or NodeWork()
        kind = ray.remote(type(name, (UnitActor,), {}))  # the dashboard shows its name
        self._kind = kind.options(scheduling_strategy="SPREAD", max_restarts=0, **wanted)
        self._files = [[ray.put(piece) for piece in _pieces(file)] for file in files]
        self._starting: dict[Any, _Worker] = {}
        self._working: dict[Any, tuple[_Worker, U]] = {}
        self._lost, self._given, self._done = Counter[str](), 0, 0
        self._barred, self._why_barred = list[_Worker](), Exception()

    def do(self, units: Iterable[U]) -> Generator[tuple[U, R]]:
        """Do all units; gives each with what came of it, in the order in which they are done.

        Raises what an actor raises, Ray's own error of a lost one, or a `HeadGoneError`. Closing it ends the actors.
        """
        waiting = _Waiting(units)
        try:
            self._begin_for(waiting)
            while self._working or waiting.are_more_than(0):
                yield from self._heard(self._news(), waiting)
        except HeadGoneError as error:
            raise HeadGoneError(f"{error}; {self._done:,} units of work are done and kept") from None
        finally:
            for worker in [*self._starting.values(), *(at for at, _ in self._working.values()), *self._barred]:
                self._end(worker)

    def _news(self) -> Any:
        """What is done next; raises what is known of the barred nodes where no other comes, and where the head goes."""
        alone = bool(self._barred) and not self._working
        until = time.monotonic() + _OTHERS_COME_IN_S if alone else math.inf
        while time.monotonic() < until:
            self._insist_on_head()
            news, _ = self._ray.wait([*self._starting, *self._working], timeout=min(_LOOKS_EVERY_S, until))
            if news:
                return news[0]
        raise self._why_barred

    def _insist_on_head(self) -> None:
        if self._head is not None:
            self._head.insist()

    def _begin_for(self, waiting: _Waiting[U]) -> None:
        """An actor for each unit that waits, as many as may be."""
        while len(self._starting) + len(self._working) < self._most and waiting.are_more_than(len(self._starting)):
            actor = self._kind.remote(self._make, self._needs, self._files)
            self._starting[actor.ready.remote()] = _Worker(actor)

    def _heard(self, news: Any, waiting: _Waiting[U]) -> Iterable[tuple[U, R]]:
        worker, unit = self._working.pop(news, None) or (self._starting.pop(news), None)
        try:
            result = self._got(news)
        except self._ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, NodeFullError):
                raise
            self._bar(worker, unit, waiting, error)
            return []
        except self._ray.exceptions.RayError:
            self._lose(unit, waiting)
            return []
        if unit is None:
            worker.node = result
        else:
            self._done += 1
            result, items = result
            self._work.does(worker.node, items)
        if waiting.are_more_than(0):
            self._give(worker, waiting.take())
        else:
            self._end(worker)  # so that its node may go
        return [] if unit is None else [(unit, result)]

    def _got(self, news: Any) -> Any:
        """What an actor gave, which may lie on another node."""
        while True:
            try:
                return self._ray.get(news, timeout=_LOOKS_EVERY_S)
            except self._ray.exceptions.GetTimeoutError:
                self._insist_on_head()

    def _bar(self, worker: _Worker, unit: U | None, waiting: _Waiting[U], error: Exception) -> None:
        """Leave the work to other nodes; the actor keeps its place, so that none begins there again."""
        self._barred.append(worker)
        self._why_barred = error
        if unit is not None:
            waiting.put_back(unit)
        if not self._starting and not self._working:
            raise error

    def _lose(self, unit: U | None, waiting: _Waiting[U]) -> None:
        """Another actor in place of one that is gone with its node or alone; within an `except`."""
        name = "" if unit is None else unit.name
        self._lost[name] += 1
        if self._lost[name] > RETRIES:
            raise  # noqa: PLE0704 - Ray's error, which is being handled
        if unit is not None:
            waiting.put_back(unit)
        self._begin_for(waiting)

    def _give(self, worker: _Worker, unit: U) -> None:
        self._given += 1
        name = unit.name if self._given <= _MOST_NAMES else "unit"
        call = worker.actor.unit.options(name=f"{self._name} {name}")
        self._working[call.remote(self._loaded(unit))] = (worker, unit)
        self._work.begins(worker.node)

    def _end(self, worker: _Worker) -> None:
        if self._head is not None and self._head.is_gone:  # nobody is there to hear it
            return
        with contextlib.suppress(Exception):  # it is gone already
            self._ray.kill(worker.actor)


class _Waiting(Generic[U]):
    """Units that are read as they are needed, after those that are to be done again."""

    def __init__(self, units: Iterable[U]) -> None:
        self._next, self._rest = list[U](), iter(units)

    def are_more_than(self, count: int) -> bool:
        while len(self._next) <= count:
            try:
                self._next.append(next(self._rest))
            except StopIteration:
                return False
        return True

    def take(self) -> U:
        return self._next.pop(0)

    def put_back(self, unit: U) -> None:
        self._next.insert(0, unit)


@contextlib.contextmanager
def _full_disk_told() -> Iterator[None]:
    try:
        yield
    except (OSError, OutputError) as error:
        if not _is_of_full_disk(error):
            raise
        raise NodeFullError(f"on the node {ray_nodes.here()}: {error}") from None


def _is_of_full_disk(error: BaseException | None) -> bool:
    while error is not None and not (isinstance(error, OSError) and error.errno in _FULL):
        error = error.__cause__
    return error is not None


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
