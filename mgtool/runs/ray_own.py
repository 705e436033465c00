"""A Ray cluster of this machine: one that runs here already, or one that begins here and that nobody else can reach."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mgtool.files import temporary

_LOOPBACK = "127.0.0.1"
_KNOCKS_FOR_S = 2.0
_PATH_MOST = 107 - len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
"""Bytes of a folder's path below which Ray can bind its sockets."""


def running_here() -> str | None:
    """The address of the cluster that `ray start` began on this machine; None where none answers.

    Ray itself would look for it in TMPDIR, which is a folder of this run's own.
    """
    note = Path(os.environ.get("RAY_TMPDIR") or temporary.users_place(), "ray", "ray_current_cluster")
    try:
        address = note.read_text(encoding="utf-8").strip()
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=_KNOCKS_FOR_S).close()
    except (OSError, ValueError):
        return None
    return address


def begin(ray: Any, **options: Any) -> None:
    """Begin a cluster of this machine alone, which listens on loopback; its files lie in this process's folder.

    Args:
        ray: the module.
        options: of ``ray.init``.
    """
    own = temporary.short_folder(_PATH_MOST)
    place = {} if len(os.fsencode(own)) > _PATH_MOST else {"_temp_dir": str(own / "ray")}
    with _staying_on_loopback():
        ray.init(address="local", include_dashboard=False, _node_ip_address=_LOOPBACK, **place, **options)


@contextlib.contextmanager
def _staying_on_loopback() -> Iterator[None]:
    """Ray puts the address of a network card in place of 127.0.0.1, and then listens on all of them."""
    from ray._private import services

    before = services.resolve_ip_for_localhost
    services.resolve_ip_for_localhost = lambda host: host
    try:
        yield
    finally:
        services.resolve_ip_for_localhost = before
