"""Reading tars: other people's layouts, and tars that are broken."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import nasty
import numpy as np
import pytest

from mgtool.records import Failure, Sample, Turn
from mgtool.tars import samples

JPEG = nasty.encode(nasty.photo(), "JPEG")


def write(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_foreign_layouts(tmp_path: Path) -> None:
    boxes = io.BytesIO()
    np.save(boxes, np.array([[0, 0, 4, 4]], np.float32))
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]
    members = {
        "d/a.jpg": JPEG,
        "d/a.txt": b"a caption\n",
        "d/b.png": JPEG,
        "d/b.json": json.dumps({"id": 3, "conversations": turns, "source": "x"}).encode(),
        "c.jpg": JPEG,
        "c.boxes.npy": boxes.getvalue(),
        "c.boxes.json": b'{"scores": [0.5], "labels": ["cat"]}',
        "__skipped__": b"x",
        "t.json": json.dumps({"id": "t", "conversations": turns}).encode(),
    }
    captioned, talk, bare, text = samples.read_samples([str(write(tmp_path / "x.tar", members))])
    assert isinstance(captioned, Sample)
    assert (captioned.id, captioned.metadata, captioned.images[0].data) == ("d/a", {"caption": "a caption"}, JPEG)
    assert isinstance(talk, Sample)
    assert (talk.id, talk.metadata, talk.turns[1]) == (3, {"source": "x"}, Turn("gpt", "A cat."))
    assert isinstance(bare, Sample)
    assert bare.images[0].detections is not None
    assert bare.images[0].detections[0].labels == ("cat",)
    assert isinstance(text, Sample)
    assert (text.images, len(text.turns)) == ((), 2)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("cut", ["half", "header", "boundary"])
def test_a_cut_tar_is_said_and_the_next_goes_on(tmp_path: Path, mode: str, cut: str) -> None:
    members = {f"{number}.jpg": JPEG for number in range(3)}
    path = write(tmp_path / ("x.tar" if mode == "w" else "x.tar.gz"), members, mode)
    data = path.read_bytes()
    member = 512 + -(-len(JPEG) // 512) * 512
    keep = {"half": member + 700, "header": member + 100, "boundary": 2 * member}[cut]
    path.write_bytes(data[: keep if mode == "w" else len(data) * 2 // 3])
    whole = write(tmp_path / "y.tar", {"z.jpg": JPEG})
    items = list(samples.read_samples([str(path), str(whole)]))
    failures = [item for item in items if isinstance(item, Failure)]
    assert [failure.reason for failure in failures] == ["truncated"]
    assert failures[0].id == str(path)
    assert items[-1].id == "z"


def test_bad_members_cost_only_their_sample(tmp_path: Path) -> None:
    members = {
        "a.jpg": JPEG,
        "a.json": b"{",
        "b.jpg": JPEG,
        "b.boxes.npy": b"nonsense",
        "c.jpg": JPEG,
    }
    items = list(samples.read_samples([str(write(tmp_path / "x.tar", members))]))
    assert [getattr(item, "reason", None) for item in items] == [None, "bad_boxes", None]


@pytest.mark.parametrize(("data", "reason"), [(b"", "empty"), (b"no tar" * 500, "unreadable"), (None, "missing")])
def test_no_tar_at_all(tmp_path: Path, data: bytes | None, reason: str) -> None:
    path = tmp_path / "x.tar"
    if data is not None:
        path.write_bytes(data)
    (item,) = samples.read_samples([str(path)])
    assert isinstance(item, Failure)
    assert item.reason == reason
