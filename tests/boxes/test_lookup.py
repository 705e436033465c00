"""One rule for which boxes belong to a picture: by its bytes, then its sample's id, then its name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mgtool.boxes import formats
from mgtool.boxes.lookup import find_frames, opened_boxes
from mgtool.commands.main import app
from mgtool.errors import ItemError
from mgtool.files import hashing
from mgtool.inputs import sources
from mgtool.media import reading
from mgtool.records import Detections, Media, Sample, media_of

IMAGES = Path(__file__).parents[1] / "images"
NAME = "coffee.jpg"
BYTES = hashing.sha256((IMAGES / NAME).read_bytes())

Labels = list[tuple[str, ...]]


def _known(label: str, **keys: Any) -> dict[str, Any]:
    return {**keys, "boxes": [[0, 0, 4, 4]], "scores": [0.5], "labels": [label]}


def _own(label: str, *, sha256: str, image: str) -> dict[str, Any]:
    return _known(label, sha256=sha256, image=image, width=0, height=0)


def _write_lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def _run(*args: object) -> None:
    done = CliRunner().invoke(app, [*map(str, args), "--workers", "0", "-q"], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def _detected(questions: Path, boxes: Path, out: Path) -> Labels:
    _run("detect", questions, "--images", IMAGES, "--detector", f"boxes:{boxes}", "--out", out)
    return [record.detections.labels for record in formats.read(str(out))]


def _packed(questions: Path, boxes: Path, out: Path) -> Labels:
    _run("pack", questions, "--images", IMAGES, "--boxes", boxes, "--out", out)
    return [_labels(media_of(sample)[0].detections) for sample in _samples(out)]


def _inferred(questions: Path, boxes: Path) -> Labels:
    found = []
    with opened_boxes(str(boxes)) as source:
        for sample in _samples(questions):
            (media,) = media_of(sample)
            data = reading.read_bytes(media)
            found.append(_labels(source.find(sample, media, data, hashing.sha256(data))))
    return found


def _samples(path: Path) -> list[Sample]:
    samples = [item for item in sources.read_samples([str(path)], images=str(IMAGES)) if isinstance(item, Sample)]
    assert samples
    return samples


def _labels(found: Sequence[Detections] | None) -> tuple[str, ...]:
    assert found is not None
    return tuple(label for one in found for label in one.labels)


@pytest.mark.parametrize(
    ("rows", "label"),
    [
        pytest.param([_known("name", id=NAME), _known("id", id="q1")], "id", id="the id before the name"),
        pytest.param([_known("name", id=NAME), _known("id", id="q2")], "name", id="the name"),
        pytest.param(
            [_known("id", id="q1"), _own("name", sha256="0" * 64, image=NAME), _own("bytes", sha256=BYTES, image="x")],
            "bytes",
            id="the bytes before both",
        ),
    ],
)
def test_a_sample_has_the_same_boxes_in_detect_pack_and_infer(rows: list, label: str, tmp_path: Path) -> None:
    boxes = _write_lines(tmp_path / "boxes.jsonl", *rows)
    questions = _write_lines(tmp_path / "q.jsonl", {"question_id": "q1", "image": NAME, "text": "What?"})
    assert {
        "detect": _detected(questions, boxes, tmp_path / "found"),
        "pack": _packed(questions, boxes, tmp_path / "tars"),
        "infer": _inferred(questions, boxes),
    } == {"detect": [(label,)], "pack": [(label,)], "infer": [(label,)]}


@pytest.mark.parametrize(
    ("rows", "label"),
    [
        (["name", "id"], "id"),
        (["name"], "name"),
        (["id", "name", "bytes"], "bytes"),
        (["picture by its bytes", "picture by id", "name"], "name"),
    ],
)
def test_a_video_s_frames_by_the_same_rule(rows: list[str], label: str, tmp_path: Path) -> None:
    clip = b"clip"
    frames = {one: {"frames": [_known(one, index=3, time=0.5)]} for one in ("id", "name", "bytes")}
    keys = {"id": {"id": 7}, "name": {"id": "a.mp4"}}
    keys["bytes"] = {"sha256": hashing.sha256(clip), "video": "x", "width": 0, "height": 0}
    known = {one: {**keys[one], **frames[one]} for one in frames}
    known["picture by its bytes"] = _own("picture", sha256=hashing.sha256(clip), image="x")
    known["picture by id"] = _known("picture", id=7)
    boxes = _write_lines(tmp_path / "boxes.jsonl", *(known[row] for row in rows))
    sample = Sample(id=7, video=Media(name="a.mp4", data=clip))
    with opened_boxes(str(boxes)) as source:
        (video,) = media_of(sample)
        assert _labels(source.find(sample, video, clip, hashing.sha256(clip))) == (label,)
        assert source.index is not None
        (frame,) = find_frames(source.index, sha256=hashing.sha256(clip), id=7, name="a.mp4") or ()
        assert (frame.index, frame.time, frame.labels) == (3, 0.5, (label,))


def test_what_the_file_does_not_know_has_no_boxes(tmp_path: Path) -> None:
    boxes = _write_lines(tmp_path / "boxes.jsonl", _known("id", id=7))
    several = Sample(id=7, images=(Media(name="a.jpg"), Media(name="b.jpg")))  # the id speaks for neither
    with opened_boxes(str(boxes)) as source, pytest.raises(ItemError, match="no_boxes"):
        source.find(several, several.images[0], b"", hashing.sha256(b""))
