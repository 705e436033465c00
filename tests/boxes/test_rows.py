"""CSV files with a box a row."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mgtool.boxes.formats import entries, is_read_of
from mgtool.boxes.index import BoxIndex
from mgtool.boxes.lookup import find_picture
from mgtool.errors import InputError
from mgtool.records import LeftOut

OPEN_IMAGES = """ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf
00a1,xclick,/m/01g317,1,0.25,0.5,0.125,0.75,0,0,0
00a1,xclick,/m/0cmf2,1,0,1,0,1,0,0,1
00b2,xclick,/m/0cmf2,1,0,0.5,0,0.25,0,0,0
"""
TRAINING = """filename,width,height,class,xmin,ymin,xmax,ymax
"a, b.jpg",64,48,cat,1,2,30,40
c.jpg,64,48,dog,5,6,7,8
"a, b.jpg",64,48,dog,3,4,9,10
é.jpg,64,48,,,,,
"""
Found = tuple[list[tuple[float, ...]], list[str]]


def looked_up(path: Path, name: str) -> Found | None:
    with BoxIndex(str(path)) as index:
        found = find_picture(index, sha256="other", name=name, size=lambda: (64, 48))
    return None if found is None else (list(found.boxes), list(found.labels))


def test_open_images(tmp_path: Path) -> None:
    (tmp_path / "train-annotations-bbox.csv").write_text(OPEN_IMAGES)
    (tmp_path / "class-descriptions-boxable.csv").write_text("/m/01g317,Person\n/m/0cmf2,Airplane\n")
    left_out = LeftOut()
    assert [entry.record.image for entry in entries(str(tmp_path), left_out)] == ["00a1", "00b2"]
    assert {name: one["count"] for name, one in left_out.summary().items()} == {"boxes of groups (`IsGroupOf`)": 1}
    (tmp_path / "folder.csv").mkdir()
    assert is_read_of(str(tmp_path))(str(tmp_path / "class-descriptions-boxable.csv"))
    assert not is_read_of(str(tmp_path))(str(tmp_path / "other.csv"))
    assert looked_up(tmp_path, "train/00a1.jpg") == ([(16, 6, 32, 36)], ["Person"])
    assert looked_up(tmp_path / "train-annotations-bbox.csv", "00b2.jpg") == ([(0, 0, 32, 12)], ["Airplane"])


def test_rows_of_one_picture_that_stand_apart_are_of_one_record(tmp_path: Path) -> None:
    path = tmp_path / "train_labels.csv"
    path.write_text("\ufeff" + TRAINING, encoding="utf-8")
    assert looked_up(path, "a, b.jpg") == ([(1, 2, 30, 40), (3, 4, 9, 10)], ["cat", "dog"])
    assert looked_up(path, "c.jpg") == ([(5, 6, 7, 8)], ["dog"])
    assert looked_up(path, "é.jpg") == ([], [])
    assert looked_up(path, "d.jpg") is None


def test_a_file_a_split_beside_its_pictures(tmp_path: Path) -> None:
    for left, name in enumerate(("train", "valid"), 3):
        (tmp_path / name).mkdir()
        Image.new("RGB", (64, 48)).save(tmp_path / name / "x.jpg")
        header = TRAINING.splitlines()[0]
        (tmp_path / name / "_annotations.csv").write_text(f"{header}\nx.jpg,64,48,cat,{left},2,30,40\n")
    for left, name in enumerate(("train", "valid"), 3):
        assert looked_up(tmp_path, f"{name}/x.jpg") == ([(left, 2, 30, 40)], ["cat"])


def test_what_is_no_box_is_counted(tmp_path: Path) -> None:
    path, left_out = tmp_path / "a.csv", LeftOut()
    path.write_text("image,x1,y1,x2,y2,label\na.jpg,1,2,30,x,cat\na.jpg,1,2,30,40,cat\n")
    with BoxIndex(str(path)) as index:
        left_out = index.left_out
        assert len((find_picture(index, sha256="", name="a.jpg") or ()).boxes) == 1  # type: ignore[union-attr]
    assert [one["count"] for one in left_out.summary().values()] == [1]


@pytest.mark.parametrize("text", ["", "a.jpg,1,2,3,4,cat\n", "filename,xmin,ymin\na.jpg,1,2\n", "\x00\n"])
def test_a_csv_without_names_of_columns_is_refused_with_what_it_needs(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match="right: xmax or x_max or x2"):
        list(entries(str(tmp_path / "a.csv")))
