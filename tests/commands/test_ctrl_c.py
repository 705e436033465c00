"""Ctrl-C at any moment ends a command without a traceback, as 130 to a shell."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mgtool.commands import signals

PHOTOS = Path(__file__).parents[2] / "examples/photos/images"
OURS = re.compile(r"commands/(?!entry)|Exception ignored")
"""In a traceback that mgtool could have spared; Python's own beginning is nobody's."""


@pytest.fixture
def as_begun() -> Iterator[None]:
    """SIGINT as `mgtool` has it before a command runs."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "begin", ["runpy.run_module('mgtool', run_name='__main__')", "import mgtool.commands.entry as entry; entry.main()"]
)
def test_imports_are_ended_silently(begin: str, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    code = (
        "import pathlib, runpy, sys, time\n"
        "class Slow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'mgtool.commands.main':\n"
        f"            pathlib.Path({str(begun)!r}).touch(); time.sleep(60)\n"
        f"sys.meta_path.insert(0, Slow()); sys.argv = ['mgtool', '--help']\n{begin}"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    while not begun.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1] == ""
    assert process.returncode == -signal.SIGINT


def test_an_interrupt_that_a_library_takes_for_its_own_failure_is_one(as_begun: None) -> None:
    def load() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None

    with pytest.raises(KeyboardInterrupt), signals.as_interrupts():
        load()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    with pytest.raises(ImportError), signals.as_interrupts():  # of this run nothing is left
        raise ImportError


def test_an_interrupt_in_a_finalizer_comes_again(as_begun: None, capsys: pytest.CaptureFixture[str]) -> None:
    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def finalize() -> None:
        Finalized()
        threading.Event().wait(20)

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), signals.as_interrupts():
        finalize()
    assert time.monotonic() - begun < 10
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize("words", [("--help",), ("detect", str(PHOTOS), "--out", "out", "--overwrite")])
def test_at_fifty_moments(words: tuple[str, ...], tmp_path: Path) -> None:
    for number in range(50):
        command = [sys.executable, "-m", "mgtool", *words]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, **streams, text=True, cwd=tmp_path)  # type: ignore[call-overload]
        time.sleep(2 * number / 49)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        assert not OURS.search(said), said
        assert process.returncode in (0, 130, -signal.SIGINT) or "Traceback" in said, said
