"""What tests of several folders share: the command line in this process, helpers, and what they make inputs with."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from mgtool.commands import main as command_line

sys.path.insert(0, str(Path(__file__).parent / "support"))

LONGEST = (
    "test_readme.py", "test_guides.py", "detection/test_command.py", "inference/test_replicas.py",
    "runs/test_ray_actors.py", "reliability/test_unpickling.py", "benchmarks/test_captions.py", "test_terminal.py",
    "runs/test_ray_cluster.py", "test_gpu_day.py", "inference/test_picture_loader.py",
)  # fmt: skip

# In the background of a shell Ctrl-C is ignored, and so it would be in the commands that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files with the longest tests come first, so that no process waits for one of them at the end."""
    order = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


def _write_video(
    frames: Iterable[np.ndarray], *, container: str = "mp4", codec: str = "libx264", rate: int = 10, gop: int = 12
) -> bytes:
    """A video of (height, width, 3) uint8 frames."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = None
        for frame in frames:
            if stream is None:
                stream = out.add_stream(codec, rate=rate)
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt, stream.gop_size = "yuv420p", gop
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        assert stream is not None
        out.mux(stream.encode())
    return file.getvalue()


@pytest.fixture(scope="session")
def write_video() -> Callable[..., bytes]:
    """Writes a small real video; see `_write_video`."""
    return _write_video


@pytest.fixture
def mgtool(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Run the command line in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mgtool", *map(str, arguments)])
        try:
            command_line.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capfd.readouterr()

    return run
