"""What tests of several folders make their inputs with."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable

import numpy as np
import pytest


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
