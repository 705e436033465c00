"""A trace of a run's first steps, for a browser's tracing page."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from mgtool.files.atomic import write_bytes

STEPS = 200
"""Steps that are recorded; a trace of more is larger than browsers open."""


class Trace:
    """Records what a process computes until `STEPS` were done.

    Args:
        path: of the trace, Chrome's JSON, packed where it ends in ``.gz``; written once it is whole. None for none.
    """

    def __init__(self, path: Path | None) -> None:
        self.path, self._steps = path, 0
        self._profile: profile | None = None
        if path is not None:
            self._profile = self._started()

    @staticmethod
    def _started() -> profile:
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it would say on stderr that there is no GPU
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        found = profile(activities=kinds)
        found.start()
        return found

    def stepped(self) -> None:
        """Count a step."""
        self._steps += 1
        if self._steps == STEPS:
            self.close()

    def close(self) -> None:
        """Write what was recorded, once.

        Raises:
            OutputError: it cannot be written.
        """
        ended, self._profile = self._profile, None
        if ended is None or self.path is None:
            return
        ended.stop()
        with tempfile.TemporaryDirectory() as folder:
            aside = Path(folder) / f"trace.json{'.gz' * (self.path.suffix == '.gz')}"
            ended.export_chrome_trace(str(aside))
            write_bytes(self.path, aside.read_bytes())


@contextlib.contextmanager
def traced(path: Path | None) -> Iterator[Trace]:
    """A trace for as long as the block runs, or until enough steps were done."""
    trace = Trace(path)
    try:
        yield trace
    finally:
        trace.close()
