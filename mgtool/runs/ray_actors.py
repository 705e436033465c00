"""Actors of a Ray cluster that hold a model and do one share of a run after the other, as they come free.

Ray Core and not Ray Data: what is handed out is a stretch of the input that an actor reads by itself, and its result a
file; Ray Data would carry pictures through the object store to give back what is on the disk already.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from mgtool.errors import InputError
from mgtool.runs.shares import Share

R = TypeVar("R")
Make = Callable[[], Callable[[Share], R]]
"""Makes what does shares, in the process that will; it and what it gives can be pickled."""
RETRIES = 3
"""How often a share is taken up again whose actor or node went away; it goes on where it stopped."""
EACH = 4
"""Shares for each actor that there is room for: the slowest decides over no more than one of them."""
MOST_WAITING = 64
"""Actors that may wait for nodes to come."""


class ShareActor(Generic[R]):
    """One process on some node.

    Args:
        make: gives what it does.
        folder: that relative names start from, as the driver means them.
    """

    def __init__(self, make: Make[R], folder: str) -> None:
        self._make, self._folder = make, folder
        self._do: Callable[[Share], R] | None = None

    def ready(self) -> None:
        """Load what is needed, once the actor has a place; errors here reach the driver as they are."""
        try:
            os.chdir(self._folder)
        except OSError as error:
            where = f"{self._folder}, on the node {socket.gethostname()}"
            raise InputError(f"{where}: {error.strerror}: all nodes see the same files") from error
        self._do = self._make()

    def share(self, share: Share) -> R:
        """Do one."""
        assert self._do is not None, "ready comes first"
        return self._do(share)


class Crew(Generic[R]):
    """The driver's side: actors, and the shares that they are at.

    Args:
        ray: connected.
        make: as of `ShareActor`.
        wanted: what each actor asks for.
        name: of the run, as the dashboard shows it.
        most: actors that work, or wait for nodes to come.
    """

    def __init__(
        self, ray: Any, make: Make[R], wanted: Mapping[str, float], name: str, *, most: int = MOST_WAITING
    ) -> None:
        self._ray, self._name, self._make, self._most = ray, name, make, most
        kind = ray.remote(type(name, (ShareActor,), {}))  # the dashboard shows its name
        self._kind = kind.options(scheduling_strategy="SPREAD", max_restarts=0, **wanted)
        self._starting: dict[Any, Any] = {}
        self._working: dict[Any, tuple[Any, Share]] = {}
        self._lost: Counter[Share | None] = Counter()

    def do(self, shares: Iterable[Share], advance: Callable[[int], None]) -> dict[Share, R]:
        """Do all shares; `advance` is told of each. Raises what an actor raises, or Ray's own error of a lost one."""
        waiting, done = deque(shares), dict[Share, R]()
        count = len(waiting)
        try:
            for _ in range(min(count, self._most)):
                self._begin()
            while len(done) < count:
                [news], _ = self._ray.wait([*self._starting, *self._working])
                for share, result in self._heard(news, waiting):
                    done[share] = result
                    advance(1)
        finally:
            for actor in [*self._starting.values(), *(actor for actor, _ in self._working.values())]:
                self._end(actor)
        return done

    def _begin(self) -> None:
        actor = self._kind.remote(self._make, os.getcwd())  # noqa: PTH109 - a name
        self._starting[actor.ready.remote()] = actor

    def _heard(self, news: Any, waiting: deque[Share]) -> Iterable[tuple[Share, R]]:
        actor, share = self._working.pop(news, None) or (self._starting.pop(news), None)
        try:
            result = self._ray.get(news)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError:
            self._lose(share, waiting)
            return []
        if waiting:
            self._give(actor, waiting.popleft())
        else:
            self._end(actor)  # so that its node may go
        return [] if share is None else [(share, result)]

    def _lose(self, share: Share | None, waiting: deque[Share]) -> None:
        """Another actor in place of one that is gone with its node or alone; within an `except`."""
        self._lost[share] += 1
        if self._lost[share] > RETRIES:
            raise  # noqa: PLE0704 - Ray's error, which is being handled
        if share is not None:
            waiting.appendleft(share)
        if waiting:
            self._begin()

    def _give(self, actor: Any, share: Share) -> None:
        call = actor.share.options(name=f"{self._name} {share.name}")
        self._working[call.remote(share)] = (actor, share)

    def _end(self, actor: Any) -> None:
        with contextlib.suppress(Exception):  # it is gone already
            self._ray.kill(actor)
