"""Videos through `mgtool detect` and into tars: boxes for each of N frames, broken ones as reasons."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mgtool.boxes import formats
from mgtool.inputs import sources
from mgtool.media import reading
from mgtool.media.videos import decode_frames, frame_indices

IMAGES = Path(__file__).parents[1] / "images"
FRAMES = 20


def _mgtool(*args: object, code: int = 0) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "mgtool.commands.main", *map(str, args)]
    done = subprocess.run(command, capture_output=True, timeout=180, check=False)
    assert done.returncode == code, done.stderr.decode()
    return done


@pytest.fixture(scope="module")
def folder(write_video: Callable[..., bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that shows a portrait from frame 10 on, one cut short, one that is no video, and a picture."""
    place = tmp_path_factory.mktemp("videos")
    with Image.open(IMAGES / "astronaut_portrait.jpg") as picture:
        portrait = np.asarray(picture.convert("RGB").resize((256, 256)))
    data = write_video([np.zeros_like(portrait)] * (FRAMES // 2) + [portrait] * (FRAMES // 2))
    (place / "a.mp4").write_bytes(data)
    (place / "again.mp4").write_bytes(data)
    (place / "cut.mp4").write_bytes(data[: len(data) // 2])
    (place / "text.mp4").write_bytes(b"no video")
    Image.fromarray(portrait).save(place / "picture.png")
    return place


@pytest.fixture(scope="module")
def out(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("out") / "boxes"
    _mgtool("detect", folder, "--out", place, "-q", "--workers", 1, code=3)
    return place


def test_each_frame_has_its_boxes(folder: Path, out: Path) -> None:
    video, picture = formats.read(str(out))
    assert (video.video, video.image, picture.image) == ("a.mp4", "", "picture.png")
    assert video.frames is not None
    assert [frame.index for frame in video.frames] == frame_indices(FRAMES, 8)
    assert [frame.time for frame in video.frames] == pytest.approx([n / 10 for n in frame_indices(FRAMES, 8)])
    assert [bool(frame.labels) for frame in video.frames] == [frame.index >= FRAMES // 2 for frame in video.frames]
    assert all("person" in frame.labels for frame in video.frames if frame.labels)
    assert (video.width, video.height) == (256, 256)
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert [(line["id"], line["reason"]) for line in failures] == [("cut.mp4", "corrupt"), ("text.mp4", "corrupt")]
    results = json.loads((out / "run.json").read_text())["counts"]
    assert (results["pictures"], results["videos"], results["frames"], results["duplicates"]) == (1, 1, 8, 1)
    assert sum(results["boxes_a_picture"].values()) == 9


def test_frames_and_batches(folder: Path, out: Path, tmp_path: Path) -> None:
    _mgtool("detect", folder / "a.mp4", "--out", tmp_path / "three", "--frames", 3, "--batch-size", 2, "-q")
    (record,) = formats.read(str(tmp_path / "three"))
    assert record.frames is not None
    assert [frame.index for frame in record.frames] == [0, 9, 19]
    before = next(formats.read(str(out))).frames
    assert before is not None
    assert record.frames[2] == before[7]


def test_boxes_are_packed_frame_by_frame(folder: Path, out: Path, tmp_path: Path) -> None:
    questions = [
        {"id": name, "video": f"{name}.mp4", "conversations": [{"from": "human", "value": "<video>\nWho?"}]}
        for name in ("a", "again")
    ]
    (tmp_path / "q.json").write_text(json.dumps(questions))
    _mgtool("pack", tmp_path / "q.json", "--images", folder, "--boxes", out, "--out", tmp_path / "tars", "-q")
    samples = list(sources.read_samples([str(tmp_path / "tars")]))
    record = next(formats.read(str(out)))
    assert record.frames is not None
    assert len(samples) == 2
    for sample in samples:
        assert isinstance(sample, sources.Sample)
        assert sample.video is not None
        assert sample.video.detections is not None
        assert [found.labels for found in sample.video.detections] == [frame.labels for frame in record.frames]
        boxes = [np.array(found.boxes) for found in sample.video.detections if found.boxes]
        wanted = [np.array(frame.boxes) for frame in record.frames if frame.boxes]
        np.testing.assert_allclose(np.concatenate(boxes), np.concatenate(wanted), rtol=1e-6)
        assert len(decode_frames(reading.read_bytes(sample.video))) == 8


@pytest.mark.parametrize("format", ["mg-llava", "parquet"])
def test_other_forms_hold_videos(folder: Path, out: Path, tmp_path: Path, format: str) -> None:
    _mgtool("detect", folder / "a.mp4", "--out", tmp_path / "boxes", "--format", format, "-q")
    (read,) = formats.read(str(tmp_path / "boxes"))
    assert read.frames is not None
    wanted: Any = next(formats.read(str(out))).frames
    assert [(f.labels, f.scores) for f in read.frames] == [(f.labels, f.scores) for f in wanted]


def test_cocos_form_refuses_videos(folder: Path, tmp_path: Path) -> None:
    _mgtool("detect", folder / "a.mp4", "--out", tmp_path / "boxes", "--format", "coco", "-q", code=3)
    (line,) = (tmp_path / "boxes" / "failures.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == "unsupported"


def test_known_boxes_stand_for_a_video(folder: Path, out: Path, tmp_path: Path) -> None:
    _mgtool("detect", folder / "a.mp4", "--detector", f"boxes:{out}", "--out", tmp_path / "same", "-q")
    assert next(formats.read(str(tmp_path / "same"))).frames == next(formats.read(str(out))).frames
    _mgtool(
        "detect", folder / "a.mp4", "--detector", f"boxes:{out}", "--frames", 5, "--out", tmp_path / "x", "-q", code=3
    )
