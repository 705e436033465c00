"""Box files are looked at: what is not used is counted, and a file that means something else is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mgtool.boxes import formats
from mgtool.boxes.index import BoxIndex
from mgtool.errors import InputError

CLASSES = [{"id": 1, "name": "cat"}]


def index_of(folder: Path, *rows: Any) -> BoxIndex:
    (folder / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return BoxIndex(str(folder / "x.jsonl"))


def line(*boxes: list[float], **fields: Any) -> dict[str, Any]:
    return {"image": "a.jpg", "boxes": boxes, "scores": [0.5] * len(boxes), "labels": ["cat"] * len(boxes), **fields}


def coco(folder: Path, images: Any, name: str = "x.json", **fields: Any) -> str:
    (folder / name).write_text(json.dumps({"images": images, "categories": CLASSES, **fields}))
    return str(folder / name)


def test_a_record_of_a_picture_that_came_before_is_counted(tmp_path: Path) -> None:
    with index_of(tmp_path, line([1, 2, 3, 4]), line([5, 6, 7, 8])) as index:
        assert index.left_out.summary() == {
            "box records of pictures that came before": {"count": 1, "examples": ["a.jpg"]}
        }


def test_inverted_and_outside_boxes_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = line([100, 80, 40, 30], [10, 10, 50, 60], [170, 10, 180, 20], [150, 10, 180, 20], width=160, height=120)
    with index_of(tmp_path, {"sha256": "", **rows}) as index:
        found = index.by_image("a.jpg")
        assert found is not None
        assert (found.boxes, len(found.labels or ())) == (((10, 10, 50, 60), (150, 10, 180, 20)), 2)
        assert [one["count"] for one in index.left_out.summary().values()] == [1, 1]


def test_normalised_boxes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        index_of(tmp_path, line([0.1, 0.2, 0.5, 0.9]), line([0, 0, 1, 1], image="b.jpg"))
    with index_of(tmp_path, line([0.1, 0.2, 0.5, 0.9], [1, 2, 30, 40])) as index:
        assert not index.left_out.summary()


def test_a_line_by_name_needs_no_hash_and_names_are_normalised(tmp_path: Path) -> None:
    with index_of(tmp_path, line([1, 2, 3, 4], image="./sub/a.jpg")) as index:
        assert index.by_image("sub/a.jpg") is not None
        assert index.by_image("./sub/../sub/a.jpg") is not None


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"image_id": 1, "category_id": 1}, "annotations without `bbox`"),
        ({"image_id": 1, "category_id": 1, "bbox": None}, "annotations without `bbox`"),
        ({"image_id": 1, "category_id": 1, "bbox": "x"}, "annotations that are no boxes"),
        (
            {"image_id": 9, "category_id": 1, "bbox": [1, 2, 3, 4]},
            "annotations of pictures that the file does not have",
        ),
        ({"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 1}, "annotations of crowds (`iscrowd`)"),
    ],
)
def test_one_annotation_costs_only_itself(tmp_path: Path, wrong: Any, reason: str) -> None:
    good = {"image_id": "1", "category_id": 1, "bbox": [10, 20, 30, 40]}
    images = [{"id": 1, "file_name": "a.jpg", "width": None, "height": None}]
    with BoxIndex(coco(tmp_path, images, annotations=[wrong, good])) as index:
        found = index.by_image("a.jpg")
        assert found is not None
        assert found.boxes == ((10, 20, 40, 60),)
        assert {name: one["count"] for name, one in index.left_out.summary().items()} == {reason: 1}


def test_images_without_annotations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without `annotations`"):
        list(formats.read(coco(tmp_path, [{"id": 1, "file_name": "a.jpg"}])))


def test_results_take_the_images_of_their_name_or_are_refused(tmp_path: Path) -> None:
    coco(tmp_path, [{"id": 1, "file_name": "train/a.jpg"}], "instances_train.json")
    coco(tmp_path, [{"id": 1, "file_name": "val/a.jpg"}], "instances_val.json")
    for name in ("val.bbox.json", "results.json"):
        (tmp_path / name).write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]))
    assert [record.image for record in formats.read(str(tmp_path / "val.bbox.json"))] == ["val/a.jpg"]
    with pytest.raises(InputError, match=r"each of instances_train.json, instances_val.json"):
        list(formats.read(str(tmp_path / "results.json")))
    coco(tmp_path, [{"id": 7, "file_name": "other.jpg"}], "instances_train.json")
    assert [record.image for record in formats.read(str(tmp_path / "results.json"))] == ["val/a.jpg"]


def test_a_folder_of_packed_tars_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "shard-000000.tar").write_bytes(b"")
    (tmp_path / "samples.parquet").write_bytes(b"")
    with pytest.raises(InputError, match="packed tars"):
        list(formats.read(str(tmp_path)))
