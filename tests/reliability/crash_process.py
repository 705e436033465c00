"""A command line in a process that stops or is killed at named points, forked off this one or begun from nothing."""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONGEST_S = 300
KILLED, STOPPED, TOLD = signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM


@dataclass(frozen=True)
class End:
    """How a process ended: its exit code, negative for a signal, and what it said on stderr."""

    code: int
    said: str


@dataclass
class Points:
    """Named points of a process: before and after a file is put on disk, renamed, appended to or locked.

    Attributes:
        at: the number of the point, from 1, at which the process sends itself a signal; 0 for none, -1 to count them.
        tell: where the process writes the point's name, or how many it passed.
        signal: that it sends itself.
        modules: where the process writes which modules it has loaded in the end.
    """

    at: int
    tell: Path
    signal: int = KILLED
    modules: Path | None = None

    def put_in(self) -> None:
        """Put the points into this process."""
        import fcntl

        from mgtool.files.journal import Journal

        self.pid, self.count = os.getpid(), 0
        owners = ((os, "fsync"), (os, "replace"), (os, "rename"), (fcntl, "flock"), (Journal, "append"))
        for owner, name in owners if self.at else ():
            setattr(owner, name, self._around(name, getattr(owner, name)))

    def note_modules(self) -> None:
        """Write what is loaded."""
        if self.modules:
            self.modules.write_text(json.dumps(list(sys.modules)))

    def _around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def around(*args: Any, **options: Any) -> Any:
            self._pass(f"before {name}")
            result = function(*args, **options)
            self._pass(f"after {name}")
            return result

        return around

    def _pass(self, what: str) -> None:
        if os.getpid() != self.pid:
            return
        self.count += 1
        if self.at < 0:
            self.tell.write_text(str(self.count))
        elif self.count == self.at:
            self.tell.write_text(what)
            os.kill(os.getpid(), self.signal)


class Process:
    """A command line in a session of its own, with TMPDIR in a folder.

    Args:
        words: of the command line.
        folder: holds ``tmp`` and what the process says.
        points: put into the process before the command begins.
        from_nothing: it is begun as a shell begins it, not forked off this one.
    """

    def __init__(
        self, words: list[str], folder: Path, points: Points | None = None, *, from_nothing: bool = False
    ) -> None:
        self.said = folder / "stderr"
        (folder / "tmp").mkdir(exist_ok=True)
        sys.stdout.flush()
        points = points or Points(0, folder / "point")
        self.said.touch()  # a process may be killed before it says anything
        if from_nothing:
            self.pid = self._begun(words, folder, points)
            return
        self.pid = os.fork()
        if not self.pid:
            self._become(words, folder, points)

    def _begun(self, words: list[str], folder: Path, points: Points) -> int:
        line = [sys.executable, __file__, str(points.at), str(points.tell), str(int(points.signal)), *words]
        with self.said.open("wb") as said:
            process = subprocess.Popen(
                line, start_new_session=True, stdout=said, stderr=said, env={**os.environ, "TMPDIR": f"{folder}/tmp"}
            )
        process.returncode = 0  # it is waited for here
        return process.pid

    def _become(self, words: list[str], folder: Path, points: Points) -> None:
        from mgtool.commands import console

        code = 1
        try:
            os.setsid()
            with self.said.open("wb") as file:
                os.dup2(file.fileno(), 2)
                os.dup2(file.fileno(), 1)
            os.environ["TMPDIR"] = str(folder / "tmp")
            tempfile.tempdir = None
            console.err.file = sys.stderr
            code = _end_of(words, points)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            from multiprocessing import util

            util._exit_function()
            points.note_modules()
            os._exit(code)

    def send(self, signal_: int) -> None:
        """Send it a signal, if it is still there."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal_)

    def wait(self, seconds: float = LONGEST_S) -> End:
        """Its end, or that it stopped itself, as the code -SIGSTOP; one that lasts too long is killed."""
        limit = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                return End(-STOPPED, "")
            if pid:
                break
            if time.monotonic() > limit:
                os.killpg(self.pid, KILLED)
                os.waitpid(self.pid, 0)
                return End(-999, "hangs: " + self.said.read_text(errors="replace")[-600:])
            time.sleep(0.002)
        _gone(self.pid)
        return End(os.waitstatus_to_exitcode(status), self.said.read_text(errors="replace"))


def load() -> None:
    """Import what commands import, so that a forked process begins at once."""
    import mgtool.commands.main
    import mgtool.detectors
    import mgtool.report.boxes_page
    import mgtool.report.scores_page
    import mgtool.stages.detect
    import mgtool.stages.evaluate
    import mgtool.stages.import_model
    import mgtool.stages.infer
    import mgtool.stages.pack
    import mgtool.stages.train
    import mgtool.stages.unpack  # noqa: F401


def load_more(modules: Path) -> None:
    """Import what a forked process had to load, and let forked ones share all of it."""
    for name in json.loads(modules.read_text()):
        if name not in sys.modules and not name.startswith("__"):
            with suppress(ImportError):
                importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _end_of(words: list[str], points: Points) -> int:
    """Run the command line in this process; gives its exit code."""
    from mgtool.commands.main import main as command_line

    sys.argv = ["mgtool", *words]
    points.put_in()
    try:
        command_line()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _gone(group: int, seconds: float = 20.0) -> None:
    """Wait for the workers of a process that has ended, which follow it by themselves."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.01)


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parent))
    sys.exit(_end_of(sys.argv[4:], Points(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
