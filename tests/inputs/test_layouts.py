"""Records in the layouts that people have; one without usable content is a failure, never a blank sample."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from mgtool.inputs import sources
from mgtool.inputs.json_records import ANNOTATIONS
from mgtool.records import Failure, LeftOut, Sample

ASKED = [("human", "<image>What?"), ("gpt", "A cat.")]
MESSAGES = [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "A cat."}]
PARTS = [{"type": "image", "image": "a.jpg"}, {"type": "text", "text": "What?"}]
SHAREGPT = [{"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "A cat."}]


def read(folder: Path, *rows: Any, name: str = "x.jsonl") -> list[Any]:
    (folder / name).write_text("\n".join(json.dumps(row) for row in rows))
    return list(sources.read_samples([str(folder / name)]))


@pytest.mark.parametrize(
    ("row", "turns", "metadata"),
    [
        ({"messages": MESSAGES, "images": ["a.jpg"]}, ASKED, {}),
        ({"messages": [{"role": "user", "content": PARTS}, MESSAGES[1]]}, ASKED, {}),
        ({"conversations": SHAREGPT, "images": ["a.jpg"]}, ASKED, {}),
        ({"conversations": MESSAGES, "images": [{"path": "a.jpg", "bytes": None}]}, ASKED, {}),
        ({"file_name": "a.jpg", "text": "a cat"}, [], {"text": "a cat"}),
        ({"question_id": 1, "file_name": "a.jpg", "text": "What?"}, [("human", "What?")], {}),
        ({"image_path": "a.jpg", "caption": "cat"}, [], {"caption": "cat"}),
        ({"Image": "a.jpg", "prompt": "What?"}, [("human", "What?")], {}),
    ],
)
def test_each_layout_keeps_picture_and_text(tmp_path: Path, row: Any, turns: Any, metadata: Any) -> None:
    (sample,) = read(tmp_path, row)
    assert isinstance(sample, Sample), sample
    assert [media.name for media in sample.images] == ["a.jpg"]
    assert [(turn.speaker, turn.value) for turn in sample.turns] == turns
    assert sample.metadata == metadata


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"foo": 1}, "neither picture, video nor text in `foo`"),
        ({}, "no field at all"),
        ({"image": "", "id": 3}, "neither picture"),
        ({"text": "", "id": 3}, "neither picture"),
        ({"conversations": [{"from": "human", "value": ""}]}, "neither picture"),
        ({"image_id": "cat", "text": "What?"}, "`image_id` names no file"),
        ({"image": "data:image/png;base64,xx", "text": "What?"}, "data: URL"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "role tool"),
        ({"messages": [{"role": "user", "content": None}]}, "content is neither"),
        ({"videos": ["a.mp4", "b.mp4"], "text": "What?"}, "2 videos"),
    ],
)
def test_a_record_without_usable_content_is_a_failure(tmp_path: Path, row: Any, said: str) -> None:
    (failure,) = read(tmp_path, row)
    assert isinstance(failure, Failure)
    assert failure.reason == "bad_record"
    assert said in failure.detail


@pytest.mark.parametrize("first", ["type", "images", "annotations"])
def test_coco_on_one_line_with_any_key_first(tmp_path: Path, first: str) -> None:
    whole = {"type": "instances", "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]}
    whole = {**whole, "annotations": [], "categories": []}
    ordered = {first: whole[first], **whole}
    assert [item.images[0].name for item in read(tmp_path, ordered, name="coco.json")] == ["a.jpg", "b.jpg"]


QAS = [{"qa_id": 9, "image_id": 1, "question": "Q?", "answer": "A"}, {"image_id": 1}]
VISUAL_GENOME = {
    "image_data": {
        "image_id": 1,
        "url": "https://x.org/VG_100K_2/1.jpg",
        "width": 9,
        "height": 9,
        "coco_id": None,
        "flickr_id": 3,
    },
    "question_answers": {"id": 1, "qas": QAS},
    "region_descriptions": {"id": 1, "regions": [{"region_id": 2, "phrase": "a cat"}]},
    "objects": {"image_id": 1, "objects": [{"names": ["cat"], "x": 1}]},
}


@pytest.mark.parametrize("name", VISUAL_GENOME)
def test_visual_genome(tmp_path: Path, name: str) -> None:
    (tmp_path / "VG_100K_2").mkdir()
    (tmp_path / "VG_100K_2/1.jpg").write_bytes(b"x")
    sample, *others = read(tmp_path, VISUAL_GENOME[name], name=f"{name}.json")
    assert sample.images[0].name == "VG_100K_2/1.jpg"
    assert sample.id == (9 if name == "question_answers" else 1)
    assert [turn.value for turn in sample.turns] == (["Q?"] if name == "question_answers" else [])
    assert [isinstance(one, Failure) for one in others] == [True] * (name == "question_answers")


def test_a_data_url_is_the_picture(tmp_path: Path) -> None:
    url = f"data:image/png;base64,{base64.b64encode(b'a picture').decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What?"}]
    (sample,) = read(tmp_path, {"messages": [{"role": "user", "content": content}]})
    assert [one.data for one in sample.images] == [b"a picture"]
    assert sample.turns[0].value == "<image>What?"
    assert len(str(sample.id)) < 30


@pytest.mark.parametrize("line", [True, False])
@pytest.mark.parametrize("wants_boxes", [True, False])
def test_annotations_that_are_not_used_are_counted(tmp_path: Path, line: bool, wants_boxes: bool) -> None:
    whole = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}, {"image_id": 1, "bbox": [1, 2, 3, 4]}],
    }
    (tmp_path / "x.json").write_text(json.dumps(whole, indent=None if line else 1))
    left_out = LeftOut()
    (sample,) = sources.read_samples([str(tmp_path / "x.json")], left_out=left_out, wants_boxes=wants_boxes)
    assert sample.id == 1
    counted = {ANNOTATIONS: {"count": 2, "examples": [f"{tmp_path}/x.json"]}}
    assert left_out.summary() == (counted if wants_boxes else {})
