"""Whether a Ray cluster answers at an address: asked in a process of its own, which can be ended.

Ray itself tries on for minutes where something else listens, in C++ that nothing stops, and writes to stderr.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from typing import IO

from mgtool.errors import UsageError

TIMEOUT_S = 10.0
"""How long a cluster has to answer, once Ray itself is loaded."""
_LOADS_IN_S = 60.0
_PROBE = """
import os, sys
import ray
os.write(1, b"loaded")
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
except Exception as error:
    sys.exit(" ".join(str(error).split()))
os.write(1, b"answers")
os._exit(0)
"""
_PLACE = re.compile(r"\[[^\]]*\] (?:\S+:\d+: )?")
_VERSIONS = re.compile(r"Ray: (\S+) Python: (\S+)")
"""As Ray tells that they differ: those of the cluster first."""
_PIPE = subprocess.PIPE
_PORTS = "give the port of `ray start --head`, 6379 unless another one was chosen, or ray:// and the client's port"


def asked_address(address: str | None) -> str | None:
    """The address that a run would knock at; None where Ray looks for itself, or begins a cluster here."""
    wanted = address or os.environ.get("RAY_ADDRESS") or None
    return None if wanted == "local" else wanted


def insist(address: str) -> None:
    """Ask for a cluster.

    Raises:
        UsageError: none answers; with what Ray says of it.
    """
    command = [sys.executable, "-c", _PROBE, address]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=_PIPE, stderr=_PIPE) as probe:  # noqa: S603 - our own
        assert probe.stdout is not None
        assert probe.stderr is not None
        said = _Lines(probe.stderr)
        try:
            in_time = _hears(probe, probe.stdout, _LOADS_IN_S) and _hears(probe, probe.stdout, TIMEOUT_S)
        finally:
            probe.kill()
        if not in_time:
            raise UsageError("ray_address", f"{address}: {_explained(said.reason())}")


def _explained(reason: str) -> str:
    if len(versions := _VERSIONS.findall(reason)) == 2:
        cluster, ours = (f"Ray {ray} and Python {python}" for ray, python in versions)
        return f"the cluster has {cluster}, this machine has {ours}: install the cluster's versions here"
    return f"no Ray cluster answers there{f': {reason}' if reason else ''}; {_PORTS}"


def _hears(probe: subprocess.Popen[bytes], stdout: IO[bytes], seconds: float) -> bool:
    """Whether the next word comes in time; a process that waits too long is ended."""
    timer = threading.Timer(seconds, probe.kill)
    timer.start()
    try:
        return bool(os.read(stdout.fileno(), 16))
    finally:
        timer.cancel()


class _Lines:
    """What a process writes to stderr, read on so that it never waits."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._last = file, ""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(ValueError, OSError):
            for line in self._file:
                self._last = line.decode("utf-8", "replace").strip() or self._last

    def reason(self) -> str:
        """The last line, without the place in Ray's sources that it begins with."""
        self._thread.join(1.0)
        return _PLACE.sub("", self._last).rstrip(".")
