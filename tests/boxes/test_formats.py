"""Box files: every form gives the same records; the index finds by bytes, name and id."""

from __future__ import annotations

import functools
import json
import pickle
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from mgtool.boxes import formats
from mgtool.boxes.formats.base import BoxEntry, BoxFile, BoxFormat
from mgtool.boxes.index import BoxIndex
from mgtool.boxes.lookup import find_frames, find_picture
from mgtool.errors import InputError, ItemError, RecordError
from mgtool.records import BoxRecord, FrameDetections, dumps

CAT = BoxRecord(
    sha256="aa",
    width=64,
    height=48,
    image="a/cat.jpg",
    boxes=((1.0, 2.0, 11.5, 22.0), (0.0, 0.0, 4.0, 4.0)),
    scores=(0.75, 0.5),
    labels=("cat", "dog"),
)
EMPTY = BoxRecord(sha256="bb", width=8, height=8, image="b.png", boxes=(), scores=(), labels=())
CLIP = BoxRecord(
    sha256="cc",
    width=8,
    height=8,
    video="c.mp4",
    frames=(
        FrameDetections(0, 0.0, ((0.0, 0.0, 1.0, 1.0),), (0.5,), ("cup",)),
        FrameDetections(9, 0.75),
    ),
)


def _jsonl(folder: Path) -> Path:
    (folder / "boxes-000000.jsonl").write_bytes(dumps(CAT) + b"\n" + dumps(EMPTY) + b"\n")
    (folder / "boxes-000001.jsonl").write_bytes(dumps(CLIP) + b"\n")
    return folder


def _parquet(folder: Path) -> Path:
    rows = [json.loads(dumps(record)) for record in (CAT, EMPTY, CLIP)]
    parquet.write_table(
        pa.Table.from_pylist([{**rows[2], **rows[0], "video": None, "frames": None}, *rows[1:]]),
        folder / "boxes.parquet",
    )
    return folder / "boxes.parquet"


def _coco(folder: Path) -> Path:
    images = [
        {"id": 1, "file_name": "a/cat.jpg", "width": 64, "height": 48, "sha256": "aa"},
        {"id": 2, "file_name": "b.png", "width": 8, "height": 8, "sha256": "bb"},
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    results = [
        {"image_id": 1, "category_id": 2, "bbox": [0, 0, 4, 4], "score": 0.5},
        {"image_id": 1, "category_id": 1, "bbox": [1, 2, 10.5, 20], "score": 0.75},
    ]
    (folder / "images.json").write_text(json.dumps({"images": images, "categories": categories}))
    (folder / "results.json").write_text(json.dumps(results))
    return folder / "results.json"


@pytest.mark.parametrize("form", [_jsonl, _parquet, _coco])
def test_every_form_gives_the_same_records(form, tmp_path: Path) -> None:
    records = list(formats.read(str(form(tmp_path))))
    assert records[:2] == [CAT, EMPTY]
    assert records[2:] == ([] if form is _coco else [CLIP])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("x.json", json.dumps(json.loads(dumps(CAT)), indent=1), id="one record over several lines"),
        pytest.param("x.json", f"[{dumps(CAT).decode()}]", id="a list of records"),
        pytest.param("x.txt", f"{dumps(CAT).decode()}\n", id="lines, whatever the ending"),
        pytest.param("X.JSONL", f"\n{dumps(CAT).decode()}", id="lines by their ending"),
    ],
)
def test_records_are_recognised_by_what_the_file_holds(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert list(formats.read(str(tmp_path / name))) == [CAT]


def test_coco_s_images_and_annotations_in_one_file(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a.jpg"}]
    annotations = [{"image_id": 1, "category_id": 3, "bbox": [0, 1, 2, 3]}]
    (tmp_path / "x.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    (record,) = formats.read(str(tmp_path))
    assert (record.image, record.boxes, record.scores, record.labels) == ("a.jpg", ((0, 1, 2, 4),), (1,), ("3",))


def test_a_new_format_is_a_line_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(file: BoxFile) -> Iterator[BoxEntry]:
        yield BoxEntry(None, CAT)

    new = BoxFormat(recognises=lambda file: file.path.read_bytes().startswith(b"cat"), read=read)
    (tmp_path / "x.txt").write_text("cat 0 0 1 1")
    with pytest.raises(RecordError):
        list(formats.read(str(tmp_path / "x.txt")))
    monkeypatch.setitem(formats.FORMATS, "new", new)
    assert list(formats.read(str(tmp_path / "x.txt"))) == [CAT]


def test_index_finds_by_bytes_name_and_not_at_all(tmp_path: Path) -> None:
    with BoxIndex(str(_jsonl(tmp_path))) as index:
        assert index.count == 3
        assert find_picture(index, sha256="aa") == CAT.detections
        assert find_picture(index, sha256="other", name="a/cat.jpg") == CAT.detections
        assert find_picture(index, sha256="zz", name="b.png") == EMPTY.detections
        assert find_picture(index, sha256="zz", name="zz", id="zz") is None
        frames = find_frames(index, sha256="zz", name="c.mp4")
        assert frames is not None
        assert [frame.labels for frame in frames] == [("cup",), ()]
        assert find_picture(index, sha256="cc") is None
        again = pickle.loads(pickle.dumps(index))
        assert find_picture(again, sha256="aa") == CAT.detections
        again.close()
        assert find_picture(index, sha256="aa") == CAT.detections


def test_boxes_of_a_picture_of_the_same_name_and_another_size_are_refused(tmp_path: Path) -> None:
    with BoxIndex(str(_jsonl(tmp_path))) as index:
        assert find_picture(index, sha256="other", name="a/cat.jpg", size=lambda: (64, 48)) == CAT.detections
        assert find_picture(index, sha256="aa", name="a/cat.jpg", size=lambda: (32, 24)) == CAT.detections
        with pytest.raises(ItemError, match=r"bad_boxes.*64 x 48 pixels, the picture has 32 x 24"):
            find_picture(index, sha256="other", name="a/cat.jpg", size=lambda: (32, 24))


@pytest.mark.parametrize("as_dict", [False, True])
def test_published_files_are_known_by_id(tmp_path: Path, as_dict: bool) -> None:
    rows = [
        {"id": 7, "boxes": [[0, 0, 1, 1], [0, 0, 2, 2]], "scores": [0.25, 0.5], "labels": ["a", "b"]},
        {"id": "v", "frames": [{"boxes": []}, {"boxes": [[0, 0, 1, 1]], "scores": [1], "labels": ["c"]}]},
    ]
    value = {str(row.pop("id")): row for row in rows} if as_dict else rows
    (tmp_path / "boxes.json").write_text(json.dumps(value))
    with BoxIndex(str(tmp_path)) as index:
        found = find_picture(index, sha256="zz", id=7, name="unknown.jpg")
        assert found is not None
        assert found.labels == ("b", "a")
        video = find_frames(index, sha256="zz", id="v")
        assert video is not None
        assert [frame.labels for frame in video] == [(), ("c",)]


def test_the_names_of_pictures_as_published_ids(tmp_path: Path) -> None:
    """As `detect --format mg-llava` writes them; numbers are no names."""
    rows = [{"id": one, "boxes": [[0, 0, 1, 1]], "scores": [1], "labels": [str(one)]} for one in ("a/cat.jpg", 7)]
    (tmp_path / "boxes.json").write_text(json.dumps(rows))
    with BoxIndex(str(tmp_path)) as index:
        found = find_picture(index, sha256="aa", name="a/cat.jpg", id="conversation 5")
        assert found is not None
        assert found.labels == ("a/cat.jpg",)
        assert find_picture(index, sha256="zz", name="7") is None


def test_coco_results_take_their_names_from_the_file_that_has_them(tmp_path: Path) -> None:
    """In the official folder the captions come first, which have the images alone."""
    _coco(tmp_path)
    images = json.loads((tmp_path / "images.json").read_text())["images"]
    (tmp_path / "captions.json").write_text(json.dumps({"images": images, "annotations": []}))
    assert next(formats.read(str(tmp_path / "results.json"))) == CAT


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("x.jsonl", '{"sha256": "a", "width": 1}\n', "x.jsonl:1"),
        ("x.jsonl", '{"id": 1, "boxes": [[0,0,1,1]], "scores": [], "labels": []}\n', "1 boxes, 0 scores"),
        ("x.jsonl", '{"sha256": "a", "width": 1, "height": 1, "boxes": [[0,0,1,1]]}\n', "x.jsonl:1: 1 boxes, 0 scores"),
        ("x.json", '[{"id": 1, "image": "a.jpg", "conversations": []}]', "record 1: neither `boxes` nor `frames`"),
        ("x.json", "[{]", "record 1: JSON is malformed"),
        ("x.json", "", "empty"),
        ("x.json", '[{"image_id": 1, "category_id": 1, "bbox": [0,0,1,1], "score": 1}]', "images"),
        ("x.parquet", "no parquet", "not a readable parquet"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises((InputError, RecordError), match=says):
        list(formats.read(str(tmp_path / name)))


def test_no_file_and_no_boxes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such box file"):
        BoxIndex(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="no boxes"):
        list(formats.read(str(tmp_path)))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of `tmp_path` on a real server."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_boxes_from_a_url(served: str, tmp_path: Path) -> None:
    _jsonl(tmp_path)
    assert list(formats.read(f"{served}/boxes-000000.jsonl")) == [CAT, EMPTY]
    assert list(formats.read(tmp_path.as_uri())) == [CAT, EMPTY, CLIP]
    with pytest.raises(InputError, match=r"none\.jsonl: cannot be read"):
        list(formats.read(f"{served}/none.jsonl"))


def test_coco_results_of_pictures_without_an_object(tmp_path: Path) -> None:
    _coco(tmp_path).write_text("[]")
    records = list(formats.read(str(tmp_path / "results.json")))
    assert [(record.image, record.boxes) for record in records] == [("a/cat.jpg", ()), ("b.png", ())]
    (tmp_path / "images.json").unlink()
    assert list(formats.read(str(tmp_path / "results.json"))) == []
