"""Frames of real videos, each frame of a grey that tells its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mgtool.errors import ItemError
from mgtool.media import videos
from mgtool.media.videos import check, decode_frames, frame_indices

COUNT, STEP = 100, 2
KINDS = [
    ("mp4", "libx264"), ("mov", "mpeg4"), ("avi", "mpeg4"), ("matroska", "libx264"), ("webm", "libvpx-vp9"),
    ("mpegts", "libx264"), ("mpeg", "mpeg2video"), ("flv", "flv"), ("asf", "wmv2"), ("mp4", "libsvtav1"),
]  # fmt: skip


def _greys(count: int = COUNT) -> list[np.ndarray]:
    return [np.full((48, 64, 3), STEP * place, np.uint8) for place in range(count)]


def _places(frames: list[videos.Frame]) -> list[int]:
    return [round(np.asarray(frame.picture).mean() / STEP) for frame in frames]


@pytest.mark.parametrize(("container", "codec"), KINDS)
def test_each_kind_gives_the_frames_that_were_asked_for(
    write_video: Callable[..., bytes], container: str, codec: str
) -> None:
    frames = decode_frames(write_video(_greys(), container=container, codec=codec), 8)
    assert [frame.index for frame in frames] == frame_indices(COUNT, 8)
    assert [frame.time for frame in frames] == pytest.approx(
        [index / 10 for index in frame_indices(COUNT, 8)], abs=2e-3
    )
    greys = [np.asarray(frame.picture).mean() for frame in frames]
    assert greys == pytest.approx([STEP * index for index in frame_indices(COUNT, 8)], abs=5)
    assert {frame.picture.size for frame in frames} == {(64, 48)}


def test_seeking_and_reading_on_give_the_same_pixels(write_video: Callable[..., bytes]) -> None:
    data = write_video(_greys(), gop=9)
    sought = decode_frames(data, 30)
    read = videos.in_sequence(data, 30)
    assert [(f.index, f.time, f.picture.tobytes()) for f in sought] == [
        (f.index, pytest.approx(f.time), f.picture.tobytes()) for f in read
    ]


def test_a_short_video_shows_frames_again(write_video: Callable[..., bytes]) -> None:
    frames = decode_frames(write_video(_greys(3), codec="mpeg4"), 8)
    assert [frame.index for frame in frames] == [0, 0, 0, 0, 1, 1, 1, 2]
    assert _places(frames) == pytest.approx([frame.index for frame in frames], abs=2)
    (only,) = decode_frames(write_video(_greys(5)), 1)
    assert (only.index, only.time) == (0, 0.0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\0" * 5000, "corrupt"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "corrupt"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n", "corrupt"),
    ],
)
def test_what_is_no_video_is_refused(data: bytes, reason: str) -> None:
    for read in (decode_frames, check):
        with pytest.raises(ItemError) as caught:
            read(data)
        assert caught.value.reason == reason


def test_no_video_opens_other_files(
    write_video: Callable[..., bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of clips, relative to the working directory, is what FFmpeg by itself would follow."""
    monkeypatch.chdir(tmp_path)
    Path("clip.ts").write_bytes(write_video(np.zeros((4, 32, 32, 3), np.uint8), container="mpegts"))
    check(Path("clip.ts").read_bytes())
    for read in (decode_frames, check):
        with pytest.raises(ItemError, match="corrupt"):
            read(b"ffconcat version 1.0\nfile clip.ts\n")


def test_cut_anywhere_it_is_whole_frames_or_a_reason(write_video: Callable[..., bytes]) -> None:
    outcomes = set()
    for container, codec in (("mp4", "libx264"), ("avi", "mpeg4"), ("flv", "flv"), ("matroska", "libx264")):
        data = write_video(_greys(), container=container, codec=codec)
        for end in range(1, len(data), len(data) // 25):
            try:
                frames = decode_frames(data[:end], 8)
            except ItemError as error:
                outcomes.add(error.reason)
                continue
            outcomes.add("frames")
            assert _places(frames) == pytest.approx([frame.index for frame in frames], abs=3), (container, end)
    assert {"frames", "corrupt"} <= outcomes <= {"frames", "corrupt", "truncated"}


def test_a_video_that_streams_is_truncated_when_samples_are_missing(write_video: Callable[..., bytes]) -> None:
    data = write_video(_greys(), codec="mpeg4")
    media, moov = data.index(b"mdat") - 4, data.index(b"moov") - 4
    front = data[:media] + data[moov:] + data[media:moov]  # as players load it: the index first
    size = len(data) - moov
    for offset in _chunk_offsets(front):
        moved = int.from_bytes(front[offset : offset + 4], "big") + size
        front = front[:offset] + moved.to_bytes(4, "big") + front[offset + 4 :]
    assert [frame.index for frame in decode_frames(front, 8)] == frame_indices(COUNT, 8)
    with pytest.raises(ItemError) as caught:
        decode_frames(front[: len(front) * 3 // 4], 8)
    assert caught.value.reason == "truncated"


def _chunk_offsets(data: bytes) -> list[int]:
    table = data.index(b"stco") + 8
    return [table + 4 + 4 * n for n in range(int.from_bytes(data[table : table + 4], "big"))]


def test_too_large_a_video_is_refused_before_decoding(
    write_video: Callable[..., bytes],
) -> None:
    video = write_video(_greys(3))
    assert decode_frames(video, 8, max_pixels=64 * 48)
    with pytest.raises(ItemError, match="over the limit"):
        decode_frames(video, 8, max_pixels=64 * 48 - 1)


def test_frames_that_are_held_together_are_bounded(
    write_video: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(_greys(3))
    monkeypatch.setattr(videos, "MAX_PIXELS", 64 * 48)
    assert len(decode_frames(video, 100, max_pixels=64 * 48 * 50)) == 100
    monkeypatch.setattr(videos, "_USUAL_PIXELS", 0)
    assert len(decode_frames(video, 2, max_pixels=64 * 48)) == 2
    with pytest.raises(ItemError, match="over the limit"):
        decode_frames(video, 3, max_pixels=64 * 48)
