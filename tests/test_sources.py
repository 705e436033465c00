"""Every kind of input gives the same samples; a bad line costs only itself."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path

import pytest

from mgtool import sources
from mgtool.errors import InputError
from mgtool.records import Failure, Sample

TURNS = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]


def read(*inputs: object, **options: object) -> list[sources.Item]:
    return list(sources.read_samples([str(one) for one in inputs], **options))


def test_a_folder_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/x.JPG", "a.png", ".hidden.png", "notes.txt", "c.mp4"):
        (tmp_path / name).write_bytes(b"x")
    assert [item.id for item in read(tmp_path)] == ["a.png", "b/x.JPG", "c.mp4"]
    assert read(tmp_path)[2].video is not None
    assert read(tmp_path / "b" / "x.JPG", images=str(tmp_path))[0].id == "b/x.JPG"


@pytest.mark.parametrize("as_lines", [False, True])
def test_conversations_and_questions(tmp_path: Path, as_lines: bool) -> None:
    rows = [
        {"id": "a", "image": "p/a.jpg", "conversations": TURNS},
        {"question_id": 7, "image": "b.jpg", "text": "Why?", "category": "c"},
        {"id": "t", "conversations": TURNS},
        {"id": "bad", "conversations": 5},
        {"id": "m", "image": ["a.jpg", "b.jpg"], "conversations": TURNS},
    ]
    text = "\n".join(map(json.dumps, rows)) if as_lines else json.dumps(rows)
    (tmp_path / "x.json").write_text(text)
    (tmp_path / "photos").mkdir()
    first, question, plain, bad, several = read(tmp_path / "x.json", images=str(tmp_path / "photos"))
    assert isinstance(first, Sample)
    assert (first.images[0].name, first.images[0].uri) == ("p/a.jpg", f"{tmp_path}/photos/p/a.jpg")
    assert (question.id, question.turns[0].value, question.metadata) == (7, "Why?", {"category": "c"})
    assert (plain.images, len(plain.turns)) == ((), 2)
    assert isinstance(bad, Failure)
    assert bad.reason == "bad_record"
    assert len(several.images) == 2
    assert read("-", images=str(tmp_path / "photos"), stdin=io.BytesIO(text.encode()))[:3] == [first, question, plain]


def test_a_picture_on_stdin(tmp_path: Path) -> None:
    data = (Path(__file__).parent / "images" / "coffee.jpg").read_bytes()
    (sample,) = read("-", stdin=io.BytesIO(data))
    assert isinstance(sample, Sample)
    assert sources.read_bytes(sample.images[0]) == data
    with pytest.raises(InputError, match="-: neither pictures"):
        read("-", stdin=io.BytesIO(b"a\0b" * 100))


def test_paths_tsv_and_coco(tmp_path: Path) -> None:
    (tmp_path / "paths.txt").write_text("a.jpg\n\nb.jpg\n")
    assert [item.id for item in read(tmp_path / "paths.txt")] == ["a.jpg", "b.jpg"]
    picture = base64.b64encode(b"p" * 100).decode()
    (tmp_path / "x.tsv").write_text(f"index\timage\tquestion\n1\t{picture}\tOne?\n2\t1\tTwo?\n3\t9\tThree?\n")
    one, two, three = read(tmp_path / "x.tsv")
    assert one.images[0].data == two.images[0].data == b"p" * 100
    assert three.reason == "unknown_id"
    (tmp_path / "coco.json").write_text(json.dumps({"images": [{"id": 3, "file_name": "c.jpg"}, {"id": 4}]}))
    good, bad = read(tmp_path / "coco.json")
    assert (good.id, good.images[0].name, bad.reason) == (3, "c.jpg", "bad_record")


@pytest.mark.parametrize("name", ["nowhere", "empty.json", "no.json", "bin"])
def test_what_cannot_be_read_at_all(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.json").write_bytes(b"")
    (tmp_path / "no.json").write_text("[{")
    (tmp_path / "bin").write_bytes(b"a\0b" * 100)
    with pytest.raises(InputError, match=name):
        read(tmp_path / name)


def test_names_of_no_encoding(tmp_path: Path) -> None:
    place = tmp_path / "photos"
    place.mkdir()
    (place / os.fsdecode(b"bad\xff.jpg")).write_bytes(b"a picture")
    [sample] = read(place)
    assert sample.id == sample.images[0].name == "bad\\udcff.jpg"
    assert sources.read_bytes(sample.images[0]) == b"a picture"


def test_a_wrong_folder_of_pictures(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(InputError, match="--images nowhere: no such folder"):
        read(tmp_path / "x.json", images="nowhere")
