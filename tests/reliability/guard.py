"""Notes what a process does to the world outside some folders: writing, connecting, starting programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGING = {
    "os.mkdir": 1,
    "os.rename": 2,
    "os.remove": 1,
    "os.rmdir": 1,
    "os.symlink": 2,
    "os.link": 2,
    "os.truncate": 1,
    "shutil.rmtree": 1,
    "os.chmod": 1,
    "os.chown": 1,
}
_NEVER = frozenset(
    {
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.fork",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.bind",
        "webbrowser.open",
        "ftplib.connect",
        "urllib.Request",
    }
)


class Guard:
    """Watches this process from now on: audit hooks stay.

    Args:
        folders: where anything may be written.
        allowed: events that are never wrong, such as the start of a program's own workers.

    Attributes:
        found: what happened outside, in words.
    """

    def __init__(self, folders: Iterable[Path], *, allowed: Iterable[str] = ()) -> None:
        self.found: list[str] = []
        self.is_on = False
        self._never = _NEVER - frozenset(allowed)
        self._folders = tuple(os.path.realpath(folder) for folder in folders)
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event in self._never:
            self.found.append(f"{event} {args[:2]!r:.200}")
        elif event == "open" and isinstance(args[2], int) and args[2] & _WRITING:
            self._check(event, args[:1])
        elif event in _CHANGING and not _is_below_a_folder(args[_CHANGING[event] :]):
            self._check(event, args[: _CHANGING[event]])

    def _check(self, event: str, paths: tuple[Any, ...]) -> None:
        for path in paths:
            if isinstance(path, str | bytes | os.PathLike) and not self._is_inside(os.fsdecode(path)):
                self.found.append(f"{event} {path!r}")

    def _is_inside(self, path: str) -> bool:
        where = str(Path(os.path.realpath(Path(path).parent), Path(path).name))
        return where == os.devnull or any(where == one or where.startswith(f"{one}/") for one in self._folders)


def _is_below_a_folder(more: tuple[Any, ...]) -> bool:
    """Whether a name is one of a folder that is open, which was checked when it was opened."""
    return any(isinstance(place, int) and place >= 0 for place in more)
