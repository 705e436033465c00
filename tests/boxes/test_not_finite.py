"""JSON as Python's `json` writes it, with NaN and infinite numbers: they cost a box or a record, never the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mgtool.boxes.index import BoxIndex
from mgtool.inputs.sources import read_samples
from mgtool.records import Failure, LeftOut, Sample

NAN = float("nan")
GOOD, BAD = [1.0, 2.0, 30.0, 40.0], [NAN, 2.0, 30.0, 40.0]
IMAGES = [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48, "score": NAN}, {"id": 2, "file_name": "b.jpg"}]
CLASSES = [{"id": 1, "name": "cat"}]


def annotation(image: int, box: list[float], **fields: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": 1, "bbox": box, **fields}


COCO = {
    "info": {"score": NAN},
    "images": IMAGES,
    "annotations": [annotation(1, GOOD, area=NAN), annotation(1, BAD), annotation(2, GOOD)],
    "categories": CLASSES,
}
FOUND = {"boxes": [GOOD, BAD, GOOD], "scores": [0.5, 0.5, float("inf")], "labels": ["cat"] * 3}
LINE = {"image": "a.jpg", **FOUND}
LABELME = {
    "imagePath": "a.jpg",
    "imageWidth": 64,
    "imageHeight": 48,
    "shapes": [
        {"label": "cat", "points": [[1, 2], [31, 42]], "shape_type": "rectangle", "score": NAN},
        {"label": "cat", "points": [[NAN, 2], [31, 42]], "shape_type": "rectangle"},
    ],
}


@pytest.mark.parametrize(
    ("content", "lost"),
    [(COCO, 1), (LINE, 2), ([{"id": "a.jpg", **FOUND}], 2), ({"a.jpg": FOUND}, 2), (LABELME, 1)],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_a_box_is_lost_and_counted(tmp_path: Path, content: Any, lost: int, indent: int | None) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content, indent=indent))
    with BoxIndex(str(path)) as index:
        found = index.by_image("a.jpg")
        assert found is not None
        assert len(found.boxes or ()) == len(found.scores or ()) == 1
        assert sum(one["count"] for one in index.left_out.summary().values()) == lost


def test_a_result_is_lost_and_counted(tmp_path: Path) -> None:
    (tmp_path / "images.json").write_text(json.dumps({**COCO, "annotations": []}))
    results = [annotation(1, GOOD, score=0.5), annotation(1, BAD, score=0.5), annotation(2, GOOD, score=NAN)]
    (tmp_path / "x.json").write_text(json.dumps(results))
    with BoxIndex(str(tmp_path / "x.json")) as index:
        found = [index.by_image(name) for name in ("a.jpg", "b.jpg")]
        assert [len(one.boxes or ()) for one in found if one is not None] == [1, 0]
        assert [one["count"] for one in index.left_out.summary().values()] == [2]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("first", ["info", "licence"])
def test_a_coco_file_of_pictures(tmp_path: Path, first: str, indent: int | None) -> None:
    (tmp_path / "x.json").write_text(json.dumps({first: NAN, **COCO}, indent=indent))
    found = [item for item in read_samples([str(tmp_path / "x.json")]) if isinstance(item, Sample)]
    assert [sample.images[0].name for sample in found] == ["a.jpg", "b.jpg"]


def test_an_image_of_a_coco_file_that_is_none_costs_no_other(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({**COCO, "images": [{"id": NAN}, *IMAGES]}))
    failed = [
        item for item in read_samples([str(tmp_path / "x.json")], left_out=LeftOut()) if isinstance(item, Failure)
    ]
    assert [failure.reason for failure in failed] == ["bad_record"]
    with BoxIndex(str(tmp_path / "x.json")) as index:
        assert index.by_image("b.jpg") is not None
        assert index.left_out.summary()["images of COCO files that are none"]["count"] == 1
