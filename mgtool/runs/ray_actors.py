"""Actors of a Ray cluster that hold what they need, a model perhaps, and do one unit after the other as they come free.

Ray Core and not Ray Data: what is handed out is a stretch of the input that an actor reads by itself, and its result a
file; Ray Data would carry pictures through the object store to give back what is on the disk already.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from mgtool.errors import InputError, OutputError
from mgtool.files.temporary import sweep, temporary_folder, users_place


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
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PIECE = 64 << 20
"""Bytes of a file that travel as one object."""


class NodeFullError(OutputError):
    """A disk of one node is full; others may go on."""


class UnitActor(Generic[R]):
    """One process on some node.

    Args:
        make: gives what it does.
        folder: that relative names start from, as the driver means them.
        files: references to the pieces of each file that `make` gets a copy of.
    """

    def __init__(self, make: Make[R], folder: str, files: Sequence[Sequence[Any]] = ()) -> None:
        self._make, self._folder, self._files = make, folder, files
        self._do: Callable[[Any], R] | None = None
        self._kept = contextlib.ExitStack()

    def ready(self) -> None:
        """Load what is needed, once the actor has a place; errors here reach the driver as they are."""
        try:
            os.chdir(self._folder)
        except OSError as error:
            where = f"{self._folder}, on the node {socket.gethostname()}"
            raise InputError(f"{where}: {error.strerror}: all nodes see the same files") from error
        sweep(users_place())  # of actors that were killed here
        with _full_disk_told():
            self._do = self._make(*self._copies())

    def unit(self, unit: Any) -> R:
        """Do one."""
        assert self._do is not None, "ready comes first"
        with _full_disk_told():
            return self._do(unit)

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
    ) -> None:
        self._ray, self._name, self._make, self._most, self._loaded = ray, name, make, most, loaded
        kind = ray.remote(type(name, (UnitActor,), {}))  # the dashboard shows its name
        self._kind = kind.options(scheduling_strategy="SPREAD", max_restarts=0, **wanted)
        self._files = [[ray.put(piece) for piece in _pieces(file)] for file in files]
        self._starting: dict[Any, Any] = {}
        self._working: dict[Any, tuple[Any, U]] = {}
        self._lost, self._given = Counter[str](), 0
        self._barred, self._why_barred = list[Any](), Exception()

    def do(self, units: Iterable[U]) -> Generator[tuple[U, R]]:
        """Do all units; gives each with what came of it, in the order in which they are done.

        Raises what an actor raises, or Ray's own error of a lost one. Closing it ends the actors.
        """
        waiting = _Waiting(units)
        try:
            self._begin_for(waiting)
            while self._working or waiting.are_more_than(0):
                yield from self._heard(self._news(), waiting)
        finally:
            working = [actor for actor, _ in self._working.values()]
            for actor in [*self._starting.values(), *working, *self._barred]:
                self._end(actor)

    def _news(self) -> Any:
        """What is done next; raises what is known of the barred nodes where no other comes."""
        alone = bool(self._barred) and not self._working
        news, _ = self._ray.wait([*self._starting, *self._working], timeout=_OTHERS_COME_IN_S if alone else None)
        if not news:
            raise self._why_barred
        return news[0]

    def _begin_for(self, waiting: _Waiting[U]) -> None:
        """An actor for each unit that waits, as many as may be."""
        while len(self._starting) + len(self._working) < self._most and waiting.are_more_than(len(self._starting)):
            actor = self._kind.remote(self._make, os.getcwd(), self._files)  # noqa: PTH109 - a name
            self._starting[actor.ready.remote()] = actor

    def _heard(self, news: Any, waiting: _Waiting[U]) -> Iterable[tuple[U, R]]:
        actor, unit = self._working.pop(news, None) or (self._starting.pop(news), None)
        try:
            result = self._ray.get(news)
        except self._ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, NodeFullError):
                raise
            self._bar(actor, unit, waiting, error)
            return []
        except self._ray.exceptions.RayError:
            self._lose(unit, waiting)
            return []
        if waiting.are_more_than(0):
            self._give(actor, waiting.take())
        else:
            self._end(actor)  # so that its node may go
        return [] if unit is None else [(unit, result)]

    def _bar(self, actor: Any, unit: U | None, waiting: _Waiting[U], error: Exception) -> None:
        """Leave the work to other nodes; the actor keeps its place, so that none begins there again."""
        self._barred.append(actor)
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

    def _give(self, actor: Any, unit: U) -> None:
        self._given += 1
        name = unit.name if self._given <= _MOST_NAMES else "unit"
        call = actor.unit.options(name=f"{self._name} {name}")
        self._working[call.remote(self._loaded(unit))] = (actor, unit)

    def _end(self, actor: Any) -> None:
        with contextlib.suppress(Exception):  # it is gone already
            self._ray.kill(actor)


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
        raise NodeFullError(f"on the node {socket.gethostname()}: {error}") from None


def _is_of_full_disk(error: BaseException | None) -> bool:
    while error is not None and not (isinstance(error, OSError) and error.errno in _FULL):
        error = error.__cause__
    return error is not None


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
