"""More boxes of one picture than anything makes use of: so many are used, and the others are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgtool.boxes import check
from mgtool.boxes.index import BoxIndex
from mgtool.records import BoxRecord, FrameDetections, dumps

REASON = "boxes beyond the first 100,000 of a picture"


def test_boxes_of_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "MOST_BOXES", 5)
    boxes = tuple((1.5, 2.5, 30.0 + n, 40.0) for n in range(8))
    record = BoxRecord(
        image="a.jpg", sha256="", width=640, height=480, boxes=boxes, scores=(0.5,) * 8, labels=("x",) * 8
    )
    (tmp_path / "boxes.jsonl").write_bytes(dumps(record) + b"\n")
    with BoxIndex(str(tmp_path / "boxes.jsonl")) as index:
        found = index.by_image("a.jpg")
        assert found is not None
        assert found.boxes == boxes[:5]
        assert len(found.scores or ()) == len(found.labels or ()) == 5
        assert index.left_out.summary() == {REASON: {"count": 3, "examples": ["a.jpg"]}}


def test_boxes_of_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "MOST_BOXES", 5)
    frame = FrameDetections(0, 0.0, ((1.5, 2.5, 30.0, 40.0),) * 8, (0.5,) * 8, ("x",) * 8)
    record = BoxRecord(video="a.mp4", sha256="", width=0, height=0, frames=(frame, frame))
    (tmp_path / "boxes.jsonl").write_bytes(dumps(record) + b"\n")
    with BoxIndex(str(tmp_path / "boxes.jsonl")) as index:
        found = index.by_video("a.mp4")
        assert found is not None
        assert [len(one.boxes) for one in found.frames or ()] == [5, 5]
        assert index.left_out.summary()[REASON]["count"] == 6
