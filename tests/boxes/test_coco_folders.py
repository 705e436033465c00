"""Folders of COCO files as people have them: a file a split as of Roboflow, several kinds a split as of COCO itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mgtool.boxes.formats import entries
from mgtool.boxes.index import BoxIndex
from mgtool.boxes.lookup import find_picture
from mgtool.errors import InputError, ItemError
from mgtool.records import LeftOut

CAPTION = {"id": 1, "image_id": 1, "caption": "a cat"}


def split(root: Path, name: str, file: str, left: int, pictures: str = "") -> None:
    """A picture `x.jpg` of a split, with one box."""
    folder = root / (pictures or name)
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48)).save(folder / "x.jpg")
    put(root / file, [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [left, 2, 10, 20]}])


def put(path: Path, annotations: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": 1, "file_name": "x.jpg", "width": 64, "height": 48}]
    whole = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    path.write_text(json.dumps(whole))


def left_side(root: Path, name: str) -> float | None:
    with BoxIndex(str(root)) as index:
        found = find_picture(index, sha256="other", name=name)
    return None if found is None else found.boxes[0][0]


@pytest.mark.parametrize(
    "files",
    [
        {"train": "train/_annotations.coco.json", "valid": "valid/_annotations.coco.json"},
        {"train2017": "annotations/instances_train2017.json", "val2017": "annotations/instances_val2017.json"},
        {"train": "annotations/train.json", "val": "annotations/val.json"},
    ],
)
def test_a_picture_has_the_boxes_of_its_own_split(tmp_path: Path, files: dict[str, str]) -> None:
    for left, (name, file) in enumerate(files.items(), 3):
        split(tmp_path, name, file, left)
    for left, name in enumerate(files, 3):
        assert left_side(tmp_path, f"{name}/x.jpg") == left
    with pytest.raises(ItemError, match="may both be"):
        left_side(tmp_path, "x.jpg")


def test_pictures_of_one_split_are_known_without_its_folder_too(tmp_path: Path) -> None:
    split(tmp_path, "train", "annotations/instances_train.json", 3, pictures="images/train")
    assert [left_side(tmp_path, name) for name in ("images/train/x.jpg", "train/x.jpg", "x.jpg")] == [3, 3, 3]
    assert left_side(tmp_path, "val/x.jpg") is None
    assert left_side(tmp_path / "annotations/instances_train.json", "x.jpg") == 3


def test_captions_beside_boxes_do_not_stand_for_pictures_without_objects(tmp_path: Path) -> None:
    split(tmp_path, "train", "annotations/instances_train.json", 3)
    put(tmp_path / "annotations/captions_train.json", [CAPTION])
    left_out = LeftOut()
    assert [len(entry.record.boxes or ()) for entry in entries(str(tmp_path / "annotations"), left_out)] == [1]
    assert list(left_out.summary()) == ["COCO files without boxes"]
    with pytest.raises(InputError, match="no annotation has a `bbox`"):
        list(entries(str(tmp_path / "annotations/captions_train.json")))
