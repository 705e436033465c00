"""Box files are looked at: what is not used is counted, and a file that means something else is refused."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from mgtool.boxes import formats
from mgtool.boxes.coordinates import named
from mgtool.boxes.index import BoxIndex
from mgtool.boxes.lookup import find_picture
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


@pytest.mark.parametrize("kind", ["xyxy", "xywh", "cxcywh"])
@pytest.mark.parametrize("is_normalised", [False, True])
def test_the_coordinates_of_a_file_can_be_said(tmp_path: Path, kind: str, is_normalised: bool) -> None:
    numbers = {"xyxy": [16, 12, 48, 24], "xywh": [16, 12, 32, 12], "cxcywh": [32, 18, 32, 12]}[kind]
    name = kind
    if is_normalised:
        numbers, name = [side / (48, 64)[row % 2 == 0] for row, side in enumerate(numbers)], f"{kind}-normalised"
    (tmp_path / "x.jsonl").write_text(json.dumps(line(numbers)))
    with BoxIndex(str(tmp_path / "x.jsonl"), named(name)) as index:
        for again in (index, pickle.loads(pickle.dumps(index))):
            found = find_picture(again, sha256="", name="a.jpg", size=lambda: (64, 48))
            assert found is not None
            assert found.boxes == (pytest.approx((16, 12, 48, 24)),)
        again.close()


@pytest.mark.parametrize(
    ("boxes", "says"),
    [
        (
            [[100, 80, 40, 30], [50, 60, 20, 10]],
            "2 of 2 boxes .* xyxy 2, xywh 0, cxcywh 0: give `box_format` xywh or",
        ),
        ([[100, 80, 40, 30], [5, 60, 4, 10]], "xyxy 2, xywh 0, cxcywh 0"),
        (
            [[0.5, 0.5, 0.4, 0.4]],
            "1 boxes lie between 0 and 1.*: give `box_format` xywh-normalised or",
        ),
        ([[0.1, 0.1, 0.9, 0.9], [0.5, 0.5, 1.0, 0.6]], "xyxy 0, xywh 1, cxcywh 1: give `box_format` xyxy-normalised"),
    ],
)
def test_a_guess_is_told_with_its_evidence(tmp_path: Path, boxes: list[list[float]], says: str) -> None:
    with pytest.raises(InputError, match=says):
        index_of(tmp_path, line(*boxes, width=160, height=120))


def test_boxes_that_are_no_numbers_are_counted(tmp_path: Path) -> None:
    rows = [{"sha256": "aa", "width": 64, "height": 48, **line([math.nan, 1, 2, 3], [1, 2, 3, 4])}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    with BoxIndex(str(tmp_path / "x.parquet")) as index:
        found = index.by_bytes("aa")
        assert found is not None
        assert found.boxes == ((1, 2, 3, 4),)
        assert [one["count"] for one in index.left_out.summary().values()] == [1]


def test_names_that_are_no_utf_8_are_looked_up(tmp_path: Path) -> None:
    with index_of(tmp_path, line([1, 2, 3, 4], image="odd\\udcff.jpg")) as index:
        assert index.by_image("odd\udcff.jpg") is not None
