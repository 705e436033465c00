"""Which process made something on disk, and whether it still runs: by host, number and start."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_LONGEST_HOST = 24


@dataclass(frozen=True)
class Holder:
    """A process, as another one can tell it from all others.

    Attributes:
        host: of the machine it runs on.
        pid: its number there.
        start: when it began, as that machine counts; numbers come again, starts do not.
    """

    host: str
    pid: int
    start: str

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return self.host == host()

    @property
    def runs(self) -> bool:
        """Whether a process of this machine is there and not merely waiting to be reaped."""
        return start_of(self.pid) == self.start


def holder_of(record: Mapping[str, Any]) -> Holder | None:
    """Whom a record names; None for one of something else."""
    host, pid, start = (record.get(name) for name in ("host", "pid", "start"))
    if isinstance(host, str) and isinstance(pid, int) and isinstance(start, str):
        return Holder(host, pid, start)
    return None


def this_process() -> Holder:
    """The one that asks."""
    return Holder(host(), os.getpid(), start_of(os.getpid()) or "0")


@cache
def host() -> str:
    """This machine's name as it stands in names of files: a long one is shortened, for paths of sockets are short.

    >>> len(host()) <= 24
    True
    """
    name = socket.gethostname().replace("/", "_") or "localhost"
    if len(name) <= _LONGEST_HOST:
        return name
    return f"{name[: _LONGEST_HOST - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def start_of(pid: int) -> str | None:
    """When a process of this machine began; None where there is none but a zombie.

    >>> start_of(os.getpid()) == start_of(os.getpid()) != None
    True
    >>> start_of(10**20) is None
    True
    """
    if not Path("/proc/self/stat").exists():
        return _asked_start_of(pid)
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if status[0] in (b"Z", b"X") else f"{_boot()}{int(status[19])}"


@cache
def _boot() -> str:
    """What tells one run of the machine from the next: ticks are counted from its beginning."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    except OSError:
        return ""


def _asked_start_of(pid: int) -> str | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(int(process.create_time()))
    except (psutil.NoSuchProcess, OverflowError, ValueError):
        return None
    except psutil.AccessDenied:
        return "?"
