"""Whether the head of a Ray cluster is there: its port is knocked at, beside the work.

Ray's own client waits for a head for a minute, and then ends the process from C++ with a line of its own. A head that
stands still is not gone: its system goes on answering for it.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from typing import Any

from mgtool.errors import OutputError

_RAY_WAITS = "RAY_gcs_rpc_server_reconnect_timeout_s"
"""What says how long Ray's client waits, where it is not this:"""
_RAY_WAITS_S = 60.0
_PART = 2 / 3
"""Of that: a run has to end in order before Ray ends its process."""
_EVERY_S, _LONGEST_KNOCK_S = 2.0, 5.0
_OUR_OWN = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL)
"""Errors that tell nothing of the other side."""


class HeadGoneError(OutputError):
    """The head of the cluster has not answered for long."""


class HeadWatch:
    """Knocks at a head while it is open.

    Args:
        address: host and port of the head.
        patience_s: how long it may be away; None for a part of what Ray's client waits.
    """

    def __init__(self, address: str, *, patience_s: float | None = None) -> None:
        self._address, self._patience = address, _patience() if patience_s is None else patience_s
        self._away_since, self._why = 0.0, ""
        self._over = threading.Event()
        if self._knock():  # what never answers is no place to knock at
            threading.Thread(target=self._watch, name="knocks at the head", daemon=True).start()

    @property
    def is_gone(self) -> bool:
        """Whether it has been away for too long."""
        return bool(self._away_since) and time.monotonic() - self._away_since >= self._patience

    def insist(self) -> None:
        """Raise a `HeadGoneError` where it is gone."""
        if self.is_gone:
            seconds = time.monotonic() - self._away_since
            raise HeadGoneError(
                f"the head of the Ray cluster, {self._address}, is gone ({self._why}, for {seconds:.0f} s)"
            )

    def close(self) -> None:
        """Knock no more."""
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_S):
            began = time.monotonic()
            if self._knock():
                self._away_since = 0.0
            elif not self._away_since:
                self._away_since = began

    def _knock(self) -> bool:
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_LONGEST_KNOCK_S).close()
        except ValueError:
            return False
        except OSError as error:
            if error.errno in _OUR_OWN:
                return True
            self._why = (error.strerror or str(error)).lower()
            return False
        return True


def watch(ray: Any, address: str | None) -> HeadWatch:
    """Watch the head of the cluster that Ray is connected to; `address` is the one that was asked for."""
    client = "ray://"
    if address is not None and address.startswith(client):
        return HeadWatch(address.removeprefix(client))
    return HeadWatch(ray.get_runtime_context().gcs_address)


def _patience() -> float:
    try:
        return float(os.environ[_RAY_WAITS]) * _PART
    except (KeyError, ValueError):
        return _RAY_WAITS_S * _PART
