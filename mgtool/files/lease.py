"""One writer an output in a store: an object that is written only where it is absent or as it was, and renewed."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from mgtool.errors import OutputError
from mgtool.files.holders import holder_of, this_process
from mgtool.files.lock import BEATS_EVERY_S, LOCK_SUFFIX, STALE_AFTER_S, HeldError, told_holder
from mgtool.files.store import Store, bare

_LOOKS_EVERY_S = 1.0


class Leases:
    """Who writes an output in a store, and its shares.

    A run over all of the input and shares of a run hinder each other; two shares do not.

    Args:
        store: where the output lies.
        stem: how the leases' names begin.
        are_of_shares: shares are taken while the run over all of the input, whose they are, is held elsewhere.
    """

    def __init__(self, store: Store, stem: str, *, are_of_shares: bool = False) -> None:
        self._store, self._stem, self._are_of_shares = store, stem, are_of_shares

    def name(self, share: str) -> str:
        """The object of a share, or, where it is empty, of all of the input."""
        return f".{'.'.join(filter(None, (self._stem, share)))}{LOCK_SUFFIX}".replace("..", ".")

    @contextlib.contextmanager
    def hold(self, share: str, *, wait: bool = False) -> Iterator[None]:
        """Write while nobody else does.

        Raises:
            HeldError: another run writes, and is not waited for.
            OutputError: the store cannot be asked, or another run took over while this one stood still.
        """
        lease = _Lease(self._store, self.name(share))
        while not self._take(lease, share):
            if lease.held_for_certain and not wait:
                where = f"{self._store.url} is being written by another run ({lease.holder})"
                raise HeldError(f"{where}: add `wait` to wait for it, or choose another `out`")
            time.sleep(_LOOKS_EVERY_S)
        try:
            yield
        finally:
            lease.release()
        if lease.is_lost:
            raise OutputError(f"{self._store.url}: another run took over while this one stood still")

    def _take(self, lease: _Lease, share: str) -> bool:
        if not lease.take():
            return False
        for name in self._rivals(share):
            rival = _Lease(self._store, name)
            if rival.is_held():
                lease.release()
                lease.holder, lease.held_for_certain = rival.holder, True
                return False
        return True

    def _rivals(self, share: str) -> list[str]:
        """Leases that this one does not go together with."""
        if share:
            return [] if self._are_of_shares else [self.name("")]
        start = self.name("").removesuffix(LOCK_SUFFIX)
        names = (name for name in self._store.files() if name.endswith(LOCK_SUFFIX) and name.startswith(start))
        return [name for name in names if name != self.name("")]


class _Lease:
    """One object; `holder` and `held_for_certain` as of a lock on disk."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self.holder, self.held_for_certain, self.is_lost = "", True, False
        self._tag: str | None = None
        self._seen: str | None = None
        self._released = threading.Event()
        self._beating = threading.Thread()

    def take(self) -> bool:
        """Whether it is this process's now."""
        found = self._store.read(self._name)
        if found is not None and self._is_alive(*found):
            return False
        self._tag = self._store.put_if(self._name, _signed(), None if found is None else found[1])
        if self._tag is None:
            return False
        self._released.clear()
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()
        return True

    def is_held(self) -> bool:
        """Whether somebody has it."""
        found = self._store.read(self._name)
        return found is not None and self._is_alive(*found)

    def release(self) -> None:
        """Let go."""
        if self._tag is None:
            return
        self._released.set()
        self._beating.join()
        found = self._store.read(self._name)
        if found is None or found[1] != self._tag:
            self.is_lost = True
        else:
            self._store.remove([self._name])
        self._tag = None

    def _is_alive(self, content: bytes, tag: str) -> bool:
        record = _parsed(content)
        holder = holder_of(record)
        self.holder, self.held_for_certain = told_holder(record), True
        if holder is not None and holder.is_here:
            return holder.runs
        about = self._store.about(self._name)
        if about is None or about.tag != bare(tag):
            return about is not None
        if self._now() - about.modified > STALE_AFTER_S:
            return False
        self.held_for_certain = self._seen not in (None, tag)
        self._seen = tag
        return True

    def _now(self) -> float:
        """The time by the store's clock."""
        probe = f"{self._name}-{os.getpid()}"
        self._store.put(probe, b"")
        about = self._store.about(probe)
        self._store.remove([probe])
        return time.time() if about is None else about.modified

    def _beat(self) -> None:
        while not self._released.wait(BEATS_EVERY_S):
            with contextlib.suppress(OutputError):  # out of reach: the next beat may come through
                tag = self._tag
                renewed = None if tag is None else self._store.put_if(self._name, _signed(), tag)
                if renewed is None and not self._released.is_set():
                    self.is_lost = True
                    return
                self._tag = renewed


def _signed() -> bytes:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return json.dumps({**vars(this_process()), "since": since, "beat": time.time_ns()}).encode()


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
