"""Work for several processes: units go to whoever is free, a bounded number to each; results come as they are there."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from multiprocessing import util
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple, Protocol

from mgtool.errors import MgtoolError
from mgtool.runs import workers

Work = Callable[[Iterator[Any], Callable[[Any], None]], None]
"""A process's whole life: takes units, gives results; is pickled."""


class Supply(Protocol):
    """Where units come from."""

    def is_due(self, index: int) -> bool:
        """Whether the process of that number can be given a unit, or the end, now."""

    def take(self, index: int) -> Any:
        """Its next unit; None at the end of all work."""


class _Failed(NamedTuple):
    error: MgtoolError | str
    """What was found wrong, or a defect in words: not every exception can be pickled."""


class _Says(Enum):
    WANTS = "a unit"
    DONE = "everything"


class HandOut:
    """Processes that work side by side; they end with the block, with this object, and with its process.

    Args:
        works: what each process is called in errors, as a rule its device, and what it does.
        ahead: units that a process has at once: one that it works at, others that wait for it.
    """

    def __init__(self, works: Sequence[tuple[str, Work]], *, ahead: int = 1) -> None:
        self._processes: list[_Process] = []
        # Without a priority the interpreter would, at its end, wait for the processes before it ends them.
        self._end = util.Finalize(self, _end, (self._processes,), exitpriority=10)
        for name, work in works:
            self._processes.append(_Process(name, work, ahead))
        self._going = {process.connection: index for index, process in enumerate(self._processes)}

    def __enter__(self) -> HandOut:
        return self

    def __exit__(self, *raised: object) -> None:
        self._end()

    @property
    def is_over(self) -> bool:
        """Whether every process came to the end of its work."""
        return not self._going

    def exchange(self, supply: Supply, timeout: float | None = None) -> Iterator[tuple[int, Any]]:
        """Give units to the processes that want some, hear what there is to hear, and give again.

        Args:
            supply: where units come from; may grow while results are looked at.
            timeout: seconds to wait for the first news; None for as long as it takes.

        Returns:
            Results, each with the number of its process; it is over when all is said and given.

        Raises:
            MgtoolError: what a process found wrong, or that it was killed.
            RuntimeError: a defect that showed in a process.
        """
        self._feed(supply)
        for connection in wait(list(self._going), timeout):
            assert isinstance(connection, Connection)
            index = self._going[connection]
            for result in self._heard(index):
                yield index, result
        self._feed(supply)

    def _feed(self, supply: Supply) -> None:
        """Unit by unit to the process that wants most."""
        while free := [at for at in self._going.values() if self._processes[at].wants and supply.is_due(at)]:
            index = max(free, key=lambda at: self._processes[at].wants)
            self._processes[index].give(supply.take(index))

    def _heard(self, index: int) -> Iterator[Any]:
        process = self._processes[index]
        while True:
            message = process.receive()
            if message is _Says.DONE:
                del self._going[process.connection]
                return
            if message is _Says.WANTS:
                process.wants += 1
            else:
                yield message
            if not process.connection.poll():
                return


class _Process:
    """One process, at the other end of a pipe.

    Attributes:
        wants: units that it waits for.
    """

    def __init__(self, name: str, work: Work, ahead: int) -> None:
        self.name, self.wants = name, 0
        self.connection, theirs = workers.SPAWN.Pipe()
        self._process = workers.SPAWN.Process(target=_live, args=(theirs, work, ahead))
        self._process.start()
        theirs.close()
        # A large unit is only through when the process reads it, so that a thread writes it.
        self._post: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        self._poster = threading.Thread(target=_write, args=(self.connection, self._post), daemon=True)
        self._poster.start()

    def give(self, unit: Any) -> None:
        """Send a unit, or None."""
        self.wants -= 1
        self._post.put(ForkingPickler.dumps(unit))

    def receive(self) -> Any:
        """What it says next; raises what it failed with."""
        try:
            message = self.connection.recv()
        except (EOFError, ConnectionError) as error:
            self._process.join()
            code = self._process.exitcode
            how = "was killed: is memory short?" if code == -signal.SIGKILL else f"ended with exit code {code}"
            raise MgtoolError(f"the process on {self.name} {how}") from error
        if not isinstance(message, _Failed):
            return message
        if isinstance(message.error, MgtoolError):
            raise message.error
        raise RuntimeError(f"on {self.name}: {message.error}")

    def end(self) -> None:
        """Stop it, whatever it is at."""
        self._process.terminate()
        self._process.join()
        self._post.put(None)
        self._poster.join()
        self.connection.close()


def _write(connection: Connection, post: queue.SimpleQueue[memoryview | None]) -> None:
    with contextlib.suppress(OSError):  # of a killed process, which is noticed where it is listened to
        while (data := post.get()) is not None:
            connection.send_bytes(data)


def _end(processes: Sequence[_Process]) -> None:
    for process in processes:
        process.end()


def _live(connection: Connection, work: Work, ahead: int) -> None:
    """A process's whole life; results may come from any of its threads."""
    workers.begin()
    lock = threading.Lock()

    def send(message: Any) -> None:
        with lock:
            connection.send(message)

    def units() -> Iterator[Any]:
        for _ in range(ahead):
            send(_Says.WANTS)
        while (unit := connection.recv()) is not None:
            yield unit
            send(_Says.WANTS)

    with contextlib.suppress(ConnectionError):  # of a parent that is gone
        try:
            work(units(), send)
            send(_Says.DONE)
        except MgtoolError as error:
            send(_Failed(error))
        except Exception as error:  # noqa: BLE001 - the parent shows it as what it is: a defect
            send(_Failed(f"{type(error).__name__}: {error}"))
