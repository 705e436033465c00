"""Data sets of annotation tools, as they lie; expected values of VOC and YOLO are as `supervision` 0.31 reads them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from mgtool.boxes import formats
from mgtool.boxes.coordinates import named
from mgtool.boxes.formats.base import BoxEntry
from mgtool.boxes.index import BoxIndex
from mgtool.boxes.lookup import find_picture
from mgtool.errors import InputError, ItemError, UsageError
from mgtool.files.hashing import sha256
from mgtool.inputs.sources import read_samples
from mgtool.records import BoxRecord, Detections, LeftOut, convert

SIZE = (64, 48)
Found = tuple[list[tuple[float, ...]], list[str]]


def put(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def picture(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, colour).save(path)
    return path


def found_in(path: Path, left_out: LeftOut | None = None) -> dict[str, BoxEntry]:
    return {entry.record.image: entry for entry in formats.entries(str(path), left_out)}


def shown(found: Detections | None) -> Found:
    assert found is not None
    return [tuple(round(side, 6) for side in box) for box in found.boxes], list(found.labels)


def looked_up(path: Path, name: str, file: Path | None = None, box_format: str = "") -> Found:
    digest = sha256(file.read_bytes()) if file else "other"
    with BoxIndex(str(path), named(box_format)) as index:
        return shown(find_picture(index, sha256=digest, name=name, size=lambda: SIZE))


def yolo(root: Path, *, pictures: bool = True) -> Path:
    put(root / "data.yaml", "path: .\ntrain: images/train\nnames: {0: cat, 1: dog}\n")
    put(root / "labels/train/a.txt", "1 0.5 0.5 0.25 0.5\n0 0.1 0.2 0.1 0.2 0.75\n")
    put(root / "labels/val/a.txt", "0 0.25 0.25 0.125 0.125\n0 0.1 0.1 0.3 0.1 0.3 0.4 0.1 0.4\n")
    if pictures:
        for split, colour in (("train", "red"), ("val", "blue")):
            picture(root / f"images/{split}/a.jpg", colour)
        picture(root / "images/train/background.png", "green")
    return root


YOLO_TRAIN: Found = ([(24.0, 12.0, 40.0, 36.0), (3.2, 4.8, 9.6, 14.4)], ["dog", "cat"])
YOLO_VAL: Found = ([(12.0, 9.0, 20.0, 15.0), (6.4, 4.8, 19.2, 19.2)], ["cat", "cat"])


@pytest.mark.parametrize("given", ["", "data.yaml", "labels"])
def test_a_yolo_data_set_is_known_by_its_pictures(tmp_path: Path, given: str) -> None:
    root = yolo(tmp_path)
    for split, expected in (("train", YOLO_TRAIN), ("val", YOLO_VAL)):
        assert looked_up(root / given, "renamed.jpg", root / f"images/{split}/a.jpg") == expected
    assert looked_up(root / given, "x.png", root / "images/train/background.png") == ([], [])
    with BoxIndex(str(root)) as index:
        assert find_picture(index, sha256="other", name="a.jpg", size=lambda: SIZE) is None


def test_yolo_labels_without_their_pictures_are_known_by_name(tmp_path: Path) -> None:
    root = yolo(tmp_path, pictures=False)
    assert looked_up(root, "images/train/a.jpg") == YOLO_TRAIN
    assert looked_up(root / "labels/val", "a.jpeg") == YOLO_VAL
    assert looked_up(root / "labels/val/a.txt", "a.jpeg") == YOLO_VAL
    with BoxIndex(str(root)) as index, pytest.raises(ItemError, match=r"images/train/a and images/val/a may both be"):
        find_picture(index, sha256="other", name="a.jpg", size=lambda: SIZE)
    with pytest.raises(InputError, match="does not lie beside"):
        list(formats.read(str(root)))


def test_darknet_s_labels_lie_beside_the_pictures(tmp_path: Path) -> None:
    put(tmp_path / "classes.txt", "cat\ndog\n")
    put(tmp_path / "a.txt", "1 32 24 16 24\nno box\n7 nan 1 1 1\n")
    file, left_out = picture(tmp_path / "a.jpg"), LeftOut()
    assert looked_up(tmp_path, "b.jpg", file, "cxcywh") == ([(24, 12, 40, 36)], ["dog"])
    assert len(found_in(tmp_path, left_out)) == 1
    assert list(left_out.summary()) == ["lines of labels that are no boxes"]


VOC = """<annotation><folder>x</folder><filename>{name}</filename>
<size><width>64</width><height>48</height><depth>3</depth></size>
<object><name>cat</name><bndbox><ymin>3</ymin><xmin>2</xmin><xmax>20.5</xmax><ymax>30</ymax></bndbox></object>
<object><name>dog</name><bndbox><xmin>40</xmin><ymin>9</ymin><xmax>1</xmax><ymax>5</ymax></bndbox></object>
<object><name>turned</name><robndbox><cx>3</cx></robndbox></object></annotation>"""
VOC_FOUND: Found = ([(1, 2, 20.5, 30), (0, 4, 40, 9)], ["cat", "dog"])


def test_voc_counts_pixels_from_one(tmp_path: Path) -> None:
    put(tmp_path / "Annotations/a.xml", VOC.format(name="a.jpg"))
    left_out = LeftOut()
    assert found_in(tmp_path, left_out)["a.jpg"].is_loose
    assert list(left_out.summary()) == ["objects without a box in numbers"]
    for given in ("", "Annotations", "Annotations/a.xml"):
        assert looked_up(tmp_path / given, "JPEGImages/a.jpg") == VOC_FOUND
    file = picture(tmp_path / "JPEGImages/a.jpg")
    assert looked_up(tmp_path, "elsewhere.jpg", file) == VOC_FOUND
    with BoxIndex(str(tmp_path)) as index:
        assert find_picture(index, sha256="other", name="x/a.jpg", size=lambda: SIZE) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotation><filename>&x;</filename></annotation>', "DOCTYPE"),
        ("<annotation>" + "<a>" * 200, "levels"),
        ("<annotation><object>", "not readable as XML"),
    ],
)
def test_hostile_xml_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    put(tmp_path / "a.xml", text)
    with pytest.raises(InputError, match=says):
        list(formats.entries(str(tmp_path / "a.xml")))


def test_a_stranger_s_name_leads_nowhere(tmp_path: Path) -> None:
    picture(tmp_path / "secret.jpg")
    put(tmp_path / "set/a.xml", VOC.format(name="../secret.jpg"))
    (entry,) = found_in(tmp_path / "set").values()
    assert (entry.record.sha256, entry.record.image) == ("", "secret.jpg")


LABELME = {
    "imagePath": "..\\img\\a.jpg",
    "imageWidth": 64,
    "imageHeight": 48,
    "imageData": None,
    "shapes": [
        {"label": "cat", "points": [[20, 30], [2, 3.5]], "shape_type": "rectangle", "group_id": None},
        {"label": "dog", "points": [[1, 2], [9, 4], [5, 8]], "shape_type": "polygon"},
        {"label": "cup", "points": [[10, 10], [13, 14]], "shape_type": "circle"},
        {"label": "x", "points": [[1, 1]], "shape_type": "point"},
        {"label": "x"},
    ],
}


def test_labelme(tmp_path: Path) -> None:
    put(tmp_path / "json/a.json", LABELME)
    put(tmp_path / "json/b.json", {**LABELME, "imagePath": "b.jpg"})
    left_out = LeftOut()
    assert list(found_in(tmp_path, left_out)) == ["img/a.jpg", "b.jpg"]
    assert [one["count"] for one in left_out.summary().values()] == [2, 2]
    expected = ([(2, 3.5, 20, 30), (1, 2, 9, 8), (5, 5, 15, 15)], ["cat", "dog", "cup"])
    for given in ("", "json", "json/a.json"):
        assert looked_up(tmp_path / given, "a.jpg") == expected
    assert looked_up(tmp_path, "x.jpg", picture(tmp_path / "json/b.jpg")) == expected


def label_studio(value: dict[str, Any], **fields: Any) -> dict[str, Any]:
    size = {"original_width": 64, "original_height": 48}
    return {"type": "rectanglelabels", "value": {"rectanglelabels": ["cat"], **value}, **size, **fields}


def test_label_studio(tmp_path: Path) -> None:
    box = {"x": 25, "y": 50, "width": 25, "height": 12.5, "rotation": 0}
    results = [label_studio(box), label_studio({**box, "rotation": 45}), label_studio({}), {"type": "choices"}]
    tasks = [
        {
            "id": 5,
            "data": {"image": "/data/upload/1/0a1b2c3d-my%20cat.jpg"},
            "annotations": [{"was_cancelled": True, "result": []}, {"result": results}, {"result": []}],
        },
        {
            "id": 6,
            "data": {"image": "/data/local-files/?d=set/b.jpg"},
            "annotations": [],
            "predictions": [{"result": [label_studio(box, score=0.5)]}],
        },
        {"id": 7, "data": {"text": "hello"}, "annotations": []},
    ]
    left_out = LeftOut()
    found = found_in(put(tmp_path / "export.json", tasks), left_out)
    assert list(found) == ["my cat.jpg", "set/b.jpg"]
    assert found["set/b.jpg"].record.scores == (0.5,)
    assert looked_up(tmp_path / "export.json", "my cat.jpg") == ([(16, 24, 32, 30)], ["cat"])
    assert {name: one["count"] for name, one in left_out.summary().items()} == {
        "further annotations of one task": 1,
        "boxes that are turned": 1,
        "results that are no boxes": 2,
        "tasks that name no picture": 1,
    }
    short = [{"image": "s3://bucket/c.jpg", "id": 1, "label": [{**results[0]["value"], **results[0]}]}]
    assert looked_up(put(tmp_path / "min/short.json", short), "c.jpg") == ([(16, 24, 32, 30)], ["cat"])


@pytest.mark.parametrize(
    "lies", ["data/upload/1/0123abcd-my cat.jpg", "0123abcd-my cat.jpg", "my cat.jpg", "images/my cat.jpg"]
)
def test_label_studio_knows_a_picture_beside_it_by_its_bytes(tmp_path: Path, lies: str) -> None:
    task = {"data": {"image": "/data/upload/1/0123abcd-my%20cat.jpg"}, "annotations": [{"result": []}]}
    path = put(tmp_path / "tasks.json", [task])
    (tmp_path / lies).parent.mkdir(parents=True, exist_ok=True)
    data = picture(tmp_path / lies).read_bytes()
    (entry,) = formats.entries(str(path))
    assert (entry.record.image, entry.record.sha256) == ("my cat.jpg", hashlib.sha256(data).hexdigest())
    assert (entry.record.width, entry.is_loose) == (64, False)


def test_cvat(tmp_path: Path) -> None:
    text = """<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><task/></meta>
<image id="0" name="sub/a.jpg" width="64" height="48"><box label="cat" xtl="1.5" ytl="2" xbr="20" ybr="30"/>
<polygon label="dog" points="1,2;9,4;5,8"/><points label="x" points="1,2"/><box label="x" xtl="a"/></image>
<image id="1" name="b.jpg" width="64" height="48"></image></annotations>"""
    left_out = LeftOut()
    found = found_in(put(tmp_path / "annotations.xml", text).parent, left_out)
    assert list(found) == ["sub/a.jpg", "b.jpg"]
    assert sum(one["count"] for one in left_out.summary().values()) == 2
    assert looked_up(tmp_path, "a.jpg") == ([(1.5, 2, 20, 30), (1, 2, 9, 8)], ["cat", "dog"])
    put(tmp_path / "video.xml", "<annotations><track id='0' label='cat'></track></annotations>")
    with pytest.raises(InputError, match="tracks of a video"):
        list(formats.entries(str(tmp_path / "video.xml")))


CVAT_VIDEO = """<annotations><version>1.1</version><meta><task><size>3</size><mode>interpolation</mode>
<start_frame>10</start_frame><stop_frame>15</stop_frame><frame_filter>step=2</frame_filter></task>
<original_size><width>64</width><height>48</height></original_size><source>a.mp4</source></meta>
<track id="0" label="cat"><box frame="10" keyframe="1" outside="0" xtl="1.5" ytl="2" xbr="20" ybr="30"/>
<box frame="12" keyframe="0" outside="1" xtl="1.5" ytl="2" xbr="20" ybr="30"/><points frame="12" points="1,2"/></track>
<track id="1" label="dog"><polygon frame="10" outside="0" points="1,2;9,4;5,8"/></track></annotations>"""


def test_cvat_names_the_frames_of_a_video(tmp_path: Path) -> None:
    path, left_out = put(tmp_path / "annotations.xml", CVAT_VIDEO), LeftOut()
    assert list(found_in(path.parent, left_out)) == ["frame_000010", "frame_000012", "frame_000014"]
    assert list(left_out.summary()) == ["shapes without an area, or turned"]
    assert looked_up(path, "clip/frame_000010.jpg") == ([(1.5, 2, 20, 30), (1, 2, 9, 8)], ["cat", "dog"])
    assert looked_up(path, "frame_000014.jpg") == ([], [])
    data = picture(tmp_path / "images/frame_000012.PNG").read_bytes()
    assert found_in(path)["frame_000012"].record.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("meta", "why"),
    [
        (("interpolation", "annotation"), "over pictures, without the names"),
        (("</task>", "</task><task></task>"), "2 tasks"),
    ],
)
def test_cvat_refuses_frames_whose_names_it_does_not_say(tmp_path: Path, meta: tuple[str, str], why: str) -> None:
    with pytest.raises(InputError, match=why):
        found_in(put(tmp_path / "annotations.xml", CVAT_VIDEO.replace(*meta)))


def test_fiftyone(tmp_path: Path) -> None:
    objects = [{"_cls": "Detection", "label": "cat", "bounding_box": [0.25, 0.5, 0.25, 0.125], "confidence": 0.5}]
    field = {"_cls": "Detections", "detections": [*objects, {"label": "x"}]}
    samples = [
        {"filepath": "data/a.jpg", "metadata": {"width": 64, "height": 48}, "truth": field, "predictions": field},
        {"filepath": "data/b.jpg", "metadata": None, "truth": None},
    ]
    left_out = LeftOut()
    found = found_in(put(tmp_path / "set/samples.json", {"samples": samples}).parent, left_out)
    assert found["data/a.jpg"].record.scores == (0.5,)
    assert list(left_out.summary()) == ["boxes of other fields than truth", "detections that are no boxes"]
    assert looked_up(tmp_path / "set", "a.jpg") == ([(16, 24, 32, 30)], ["cat"])
    labels = {"classes": ["dog", "cat"], "labels": {"a": [{**objects[0], "label": 1}], "b": None}}
    put(tmp_path / "labels/labels.json", labels)
    assert looked_up(tmp_path / "labels", "a.jpg") == ([(16, 24, 32, 30)], ["cat"])
    file = picture(tmp_path / "labels/data/b.png")
    assert looked_up(tmp_path / "labels", "x.png", file) == ([], [])


def test_what_a_file_says_itself_cannot_be_said_otherwise(tmp_path: Path) -> None:
    put(tmp_path / "a.xml", VOC.format(name="a.jpg"))
    with pytest.raises(UsageError, match="says itself"):
        list(formats.entries(str(tmp_path), coordinates=named("xywh")))


def test_every_command_takes_a_data_set_as_it_lies(tmp_path: Path, mgtool) -> None:
    root = yolo(tmp_path / "set")
    words = ["-q", "--workers", "0"]
    assert mgtool("detect", root / "images", "--detector", f"boxes:{root}", "--out", tmp_path / "found", *words)[0] == 0
    found = {record.image: shown(record.detections) for record in formats.read(str(tmp_path / "found"))}
    assert found == {"train/a.jpg": YOLO_TRAIN, "val/a.jpg": YOLO_VAL, "train/background.png": ([], [])}
    words[-1] = "1"
    assert mgtool("pack", root / "images", "--boxes", root, "--out", tmp_path / "tars", *words)[0] == 0
    assert mgtool("pack", tmp_path / "tars", "--unpack", tmp_path / "again", *words)[0] == 0
    again = [shown(record.detections)[1] for record in formats.read(str(tmp_path / "again/boxes"))]
    assert sorted(again) == [[], ["cat", "cat"], ["dog", "cat"]]


@pytest.mark.parametrize("format", ["yolo", "voc"])
def test_pictures_whose_names_differ_by_their_ending_keep_their_boxes(tmp_path: Path, format: str) -> None:
    rows = [
        {"image": name, "sha256": name, "width": 64, "height": 48, "boxes": [[1, 2, 3, side]], "scores": [0.5]}
        for side, name in enumerate(("a.jpg", "a.png", "../b.jpg"), 10)
    ]
    records = [convert({**row, "labels": ["cat"]}, BoxRecord, where="row") for row in rows]
    formats.write(format, tmp_path / "out", lambda: iter(records), ())
    assert not (tmp_path / "b.txt").exists()
    found = list(formats.read(str(tmp_path / "out")))
    boxes = {record.image: shown(record.detections)[0] for record in found}
    assert boxes == {str(row["image"]): [tuple(map(float, row["boxes"][0]))] for row in rows}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.json", {**LABELME, "imagePath": "x" * 5000 + ".jpg"}),
        ("x.json", {**LABELME, "shapes": [{"label": "x", "points": [[0, 0], [1e308, 1]], "shape_type": "circle"}]}),
        ("x.json", [{"data": {"image": "http://[::1/a.jpg"}, "annotations": []}]),
        ("x.json", [{"id": 1, "boxes": [[10**400, 0, 1, 1]], "scores": [1], "labels": ["x"]}]),
        ("x.json", {"classes": None, "labels": {"a": [{"label": 10**400, "bounding_box": [0, 0, 1, 1]}]}}),
        (
            "x.json",
            {"sha256": "a", "width": 10**400, "height": 1, "boxes": [[0, 0, 1, 1]], "scores": [1], "labels": ["x"]},
        ),
        ("x.txt", f"{'9' * 400} 0.5 0.5 0.1 0.1\n"),
    ],
)
def test_no_value_of_a_stranger_is_a_defect(tmp_path: Path, name: str, content: Any) -> None:
    with contextlib.suppress(InputError, ItemError), BoxIndex(str(put(tmp_path / name, content))) as index:
        index.by_image("a.jpg")


def test_objects_of_a_data_set_of_the_hub(tmp_path: Path) -> None:
    data = picture(tmp_path / "a.png").read_bytes()
    objects = {"bbox": [[16.0, 12.0, 32.0, 12.0], [1.0]], "category": [1, 0]}
    rows = [{"image": {"bytes": data, "path": None}, "image_id": 7, "objects": objects}]
    features = {"objects": {"feature": {"category": {"names": ["dog", "cat"], "_type": "ClassLabel"}}}}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(about), tmp_path / "train.parquet")
    with pytest.raises(InputError, match="give `box_format`, which is xywh"):
        list(formats.entries(str(tmp_path)))
    assert looked_up(tmp_path / "train.parquet", "x.png", tmp_path / "a.png", "xywh") == ([(16, 12, 48, 24)], ["cat"])


@pytest.mark.parametrize("is_stream", [True, False])
def test_objects_of_a_data_set_that_was_saved(tmp_path: Path, is_stream: bool) -> None:
    data = picture(tmp_path / "a.png").read_bytes()
    rows = [{"image": {"bytes": data, "path": "a.png"}, "objects": {"bbox": [[1.0, 2.0, 3.0, 4.0]], "label": ["cat"]}}]
    table, folder = pa.Table.from_pylist(rows), put(tmp_path / "saved/state.json", {}).parent
    with (folder / "data-00000-of-00001.arrow").open("wb") as file:
        new = pa.ipc.new_stream if is_stream else pa.ipc.new_file
        with new(file, table.schema) as writer:
            writer.write_table(table)
    put(folder / "dataset_info.json", {"citation": ""})
    assert looked_up(folder, "a.png", tmp_path / "a.png", "xyxy") == ([(1, 2, 3, 4)], ["cat"])


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "cvat.zip", "w") as archive:
        archive.writestr("annotations.xml", "<annotations/>")
    with pytest.raises(InputError, match="packed as zip: unpack it"):
        list(formats.entries(str(tmp_path / "cvat.zip")))
    with pytest.raises(InputError, match="packed as zip: unpack it"):
        list(read_samples([str(tmp_path / "cvat.zip")]))
