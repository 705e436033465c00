"""One writer an output: a lock that ends with its process, and says who holds it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mgtool.errors import OutputError
from mgtool.files.holders import holder_of, this_process
from mgtool.files.local import refuse_url

kept_elsewhere: dict[Path, Callable[[str, bool], contextlib.AbstractContextManager[None]]] = {}
"""What keeps other machines from a share of an output that is here as a copy; by the copy's path."""

BEATS_EVERY_S = 10.0
STALE_AFTER_S = 60.0
"""How old the last sign of life of a holder on another machine may be."""
_LOOKS_EVERY_S = 0.2
_MOST_NAMELESS_LOOKS = 10
LOCK_SUFFIX = ".mgtool.lock"
_CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS)
_WITHOUT_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


class HeldError(OutputError):
    """Another run writes."""


@contextlib.contextmanager
def one_writer(out: Path, *, is_file: bool = False, share: str = "", wait: bool = False) -> Iterator[None]:
    """Write an output while no other run does.

    Shares of one run do not hinder each other; a share and a run over all of the input do.

    Args:
        out: the output.
        is_file: it is no folder that grows, but a file, or a folder that appears when it is whole.
        share: the name of the share of the run that writes; empty for a run over all of the input.
        wait: wait for the other run to end.

    Raises:
        UsageError: `out` is a URL.
        HeldError: another run writes, and is not waited for.
        OutputError: nobody can.
    """
    refuse_url("out", out)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_held(out, lock_file(out, "", is_file=is_file), shared=bool(share), wait=wait))
        if share:
            stack.enter_context(one_share(out, share, is_file=is_file, wait=wait))
        yield


@contextlib.contextmanager
def one_share(out: Path, share: str, *, is_file: bool = False, wait: bool = False) -> Iterator[None]:
    """Write one share of an output whose run is held elsewhere; arguments and errors as of `one_writer`."""
    kept = kept_elsewhere.get(Path(os.path.abspath(out)))  # noqa: PTH100 - of links, the names
    with (
        contextlib.nullcontext() if kept is None else kept(share, wait),
        _held(out, lock_file(out, share, is_file=is_file), shared=False, wait=wait),
    ):
        yield


def lock_file(out: Path, share: str = "", *, is_file: bool = False) -> Path:
    """The file that is there while an output is held; arguments as of `one_writer`."""
    out, share = Path(os.path.abspath(out)), f".{share}" if share else ""  # noqa: PTH100 - of links, the names
    return out.with_name(f".{out.name}{share}{LOCK_SUFFIX}") if is_file else out / f"{share}{LOCK_SUFFIX}"


@contextlib.contextmanager
def _held(out: Path, path: Path, *, shared: bool, wait: bool) -> Iterator[None]:
    lock, made = _Lock(path, shared=shared), list[Path]()
    try:
        try:
            _take(out, lock, made, wait=wait)
        except OSError as error:
            # Where no lock can be written, no output can: what is complete there may still be looked at.
            if error.errno not in _CANNOT_WRITE or not path.parent.is_dir() or os.access(path.parent, os.W_OK):
                raise OutputError(f"{path.parent}: cannot be written: {error.strerror or error}") from error
        yield
    finally:
        try:
            lock.release()
        finally:
            for folder in reversed(made):  # where nothing came of it, nothing is left
                with contextlib.suppress(OSError):
                    folder.rmdir()


def _take(out: Path, lock: _Lock, made: list[Path], *, wait: bool) -> None:
    while True:
        _make_folder(lock.path.parent, made)
        if lock.take():
            return
        if lock.held_for_certain and not wait:
            raise HeldError(
                f"{out} is being written by another run ({lock.holder}): add `wait` to wait for it, "
                "or choose another `out`"
            )
        time.sleep(_LOOKS_EVERY_S)


def _make_folder(folder: Path, made: list[Path]) -> None:
    if folder.is_dir():
        return
    if folder.parent != folder:
        _make_folder(folder.parent, made)
    with contextlib.suppress(FileExistsError):  # of another run, or a file, which is noticed when it is opened
        folder.mkdir()
        made.append(folder)


class _Lock:
    """A file that is locked while its holder lives; it has the holder's name in it, and its time is a sign of life.

    On some file systems a lock holds on its own machine alone, on some nowhere: there the holder's name and the sign
    of life decide.

    Attributes:
        path: of the file; it is removed in the end.
        holder: who has it, in words, after `take` was refused.
        held_for_certain: False as long as it may be that the holder was on a machine that is gone.
    """

    def __init__(self, path: Path, *, shared: bool) -> None:
        self.path, self.holder, self.held_for_certain = path, "", True
        self._nameless_looks = 0
        self._shared, self._handle = shared, -1
        self._last_beat, self._seen_since = -1, 0.0
        self._released = threading.Event()

    def take(self) -> bool:
        """Whether it is this process's now."""
        try:
            return self._try()
        except KeyboardInterrupt:
            self._remove_unheld()  # which was perhaps just made
            raise

    def release(self) -> None:
        """Let go; the last to do so removes the file, be it that an interrupt comes meanwhile."""
        try:
            self._let_go()
        except KeyboardInterrupt:
            self._let_go()
            raise

    def _try(self) -> bool:
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            if not self._lock(handle):
                record = _read(handle)
                self._nameless_looks += not record  # the name is written a moment after the lock is taken
                self.holder = told_holder(record)
                self.held_for_certain = bool(record) or self._nameless_looks > _MOST_NAMELESS_LOOKS
            elif self._is_file_of(handle) and not self._is_held_elsewhere(handle):
                self._begin(handle)
                return True
            return False
        finally:
            if handle != self._handle:  # be it that an interrupt came in between
                os.close(handle)

    def _let_go(self) -> None:
        if self._handle < 0:
            return
        self._released.set()
        with contextlib.suppress(OSError):
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._is_file_of(self._handle):
                self.path.unlink()
        _held_here.discard(self._handle)
        handle, self._handle = self._handle, -1
        os.close(handle)

    def _remove_unheld(self) -> None:
        """Remove the file where nobody has it and it says of nobody that he had."""
        with contextlib.suppress(OSError):
            handle = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not os.fstat(handle).st_size and self._is_file_of(handle):
                    self.path.unlink()
            finally:
                os.close(handle)

    def _lock(self, handle: int) -> bool:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
        return True

    def _is_file_of(self, handle: int) -> bool:
        """Whether the file still has its name: who had it may have removed it since it was opened."""
        try:
            return os.path.samestat(os.fstat(handle), self.path.stat())
        except FileNotFoundError:
            return False

    def _is_held_elsewhere(self, handle: int) -> bool:
        """Whether the file's last holder is alive in spite of the lock that was given."""
        record = _read(handle)
        holder = holder_of(record)
        if holder is None or (self._shared and record.get("shared")) or holder == this_process():
            return False
        self.holder, self.held_for_certain = told_holder(record), True
        if holder.is_here:
            return holder.runs
        return self._is_alive(os.fstat(handle).st_mtime_ns, self._now(handle))

    def _is_alive(self, beat: int, now: int) -> bool:
        """Whether a sign of life is not too old, be it that a clock was set back since and it lies in the future."""
        self.held_for_certain = self._last_beat not in (-1, beat)
        if beat != self._last_beat:
            self._last_beat, self._seen_since = beat, time.monotonic()
        return now - beat <= STALE_AFTER_S * 1e9 and time.monotonic() - self._seen_since <= STALE_AFTER_S

    def _now(self, handle: int) -> int:
        """The time by the clock that file times are of, which is a server's on a shared disk."""
        probe = self.path.with_name(f"{self.path.name}-{os.getpid()}")
        try:
            probe.touch()
            return probe.stat().st_mtime_ns
        finally:
            probe.unlink(missing_ok=True)

    def _begin(self, handle: int) -> None:
        self._handle = handle
        record = {**vars(this_process()), "shared": self._shared, "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(record).encode() + b"\n", 0)
        _held_here.add(handle)
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        while not self._released.wait(BEATS_EVERY_S):
            with contextlib.suppress(OSError):
                os.utime(self.path)


def _read(handle: int) -> dict[str, Any]:
    try:
        record = json.loads(os.pread(handle, 4096, 0))
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def told_holder(record: dict[str, Any]) -> str:
    """Who holds a lock, in words."""
    holder = holder_of(record)
    return f"process {holder.pid} on {holder.host}, since {record.get('since')}" if holder else "its name is not known"


_held_here: set[int] = set()


def _forget() -> None:
    """In a forked process, which must not keep its parent's locks when that one is gone."""
    for handle in _held_here:
        with contextlib.suppress(OSError):
            os.close(handle)
    _held_here.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
