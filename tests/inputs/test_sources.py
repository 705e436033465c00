"""Every kind of input gives the same samples; a bad line costs only itself."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from mgtool import records
from mgtool.errors import InputError, ItemError
from mgtool.inputs import sources
from mgtool.media import reading
from mgtool.records import Failure, Sample

TURNS = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]


def read(*inputs: object, **options: object) -> list[records.Item]:
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
        {"id": "v", "image": "c.MP4", "conversations": TURNS},
    ]
    text = "\n".join(map(json.dumps, rows)) if as_lines else json.dumps(rows)
    (tmp_path / "x.json").write_text(text)
    (tmp_path / "photos").mkdir()
    first, question, plain, bad, several, film = read(tmp_path / "x.json", images=str(tmp_path / "photos"))
    assert isinstance(first, Sample)
    assert (first.images[0].name, first.images[0].uri) == ("p/a.jpg", f"{tmp_path}/photos/p/a.jpg")
    assert (question.id, question.turns[0].value, question.metadata) == (7, "Why?", {"category": "c"})
    assert (plain.images, len(plain.turns)) == ((), 2)
    assert isinstance(bad, Failure)
    assert bad.reason == "bad_record"
    assert len(several.images) == 2
    assert (film.images, film.video and film.video.name) == ((), "c.MP4")
    assert read("-", images=str(tmp_path / "photos"), stdin=io.BytesIO(text.encode()))[:3] == [first, question, plain]


def test_a_picture_on_stdin(tmp_path: Path) -> None:
    data = (Path(__file__).parents[1] / "images" / "coffee.jpg").read_bytes()
    (sample,) = read("-", stdin=io.BytesIO(data))
    assert isinstance(sample, Sample)
    assert reading.read_bytes(sample.images[0]) == data
    with pytest.raises(InputError, match="-: neither pictures"):
        read("-", stdin=io.BytesIO(b"a\0b" * 100))


def test_paths_tsv_and_coco(tmp_path: Path) -> None:
    (tmp_path / "paths.txt").write_text("\ufeffa.jpg\n\nb.jpg\n", encoding="utf-8")
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
    assert reading.read_bytes(sample.images[0]) == b"a picture"


def test_a_wrong_folder_of_pictures(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(InputError, match="`images` nowhere: no such folder"):
        read(tmp_path / "x.json", images="nowhere")


def test_a_link_to_a_folder_above_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(b"x")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert [item.id for item in read(tmp_path)] == ["a/x.jpg", "b/x.jpg"]


def test_a_folder_that_may_not_be_read_is_a_failure(tmp_path: Path) -> None:
    """Asked as a user without rights, which whoever runs the tests may not be."""
    code = (
        "import os, sys\n"
        "from mgtool.inputs import sources\n"
        "if os.getuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print([getattr(item, 'reason', item.id) for item in sources.read_samples([sys.argv[1]])])\n"
        "try: list(sources.read_samples([sys.argv[1] + '/locked']))\n"
        "except sources.InputError as error: print(error)\n"
    )
    with tempfile.TemporaryDirectory() as place:  # that of pytest is its user's alone
        Path(place).chmod(0o755)
        (Path(place) / "a.jpg").write_bytes(b"x")
        (Path(place) / "locked").mkdir(mode=0)
        done = subprocess.run([sys.executable, "-c", code, place], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['a.jpg', 'unreadable']", f"{place}/locked: cannot be read: Permission denied"]


@pytest.mark.parametrize("name", ["x.tsv", "-"])
def test_a_table_of_another_encoding_is_said(tmp_path: Path, name: str) -> None:
    data = "index\tquestion\tcaf\xe9\n1\tWhat?\t\n".encode("cp1252")
    (tmp_path / "x.tsv").write_bytes(data)
    with pytest.raises(InputError, match="not a readable TSV"):
        read(tmp_path / name if name != "-" else "-", stdin=io.BytesIO(data))


def test_a_line_too_long_for_a_path_is_missing(tmp_path: Path) -> None:
    (tmp_path / "paths.txt").write_text(f"{'x' * 5000}.jpg\n")
    [sample] = read(tmp_path / "paths.txt")
    with pytest.raises(ItemError, match="unreadable"):
        reading.read_bytes(sample.images[0])


def test_a_compressed_tar_on_stdin(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        (tmp_path / "a.jpg").write_bytes(b"picture")
        tar.add(tmp_path / "a.jpg", "a.jpg")
    [piped] = read("-", stdin=io.BytesIO((tmp_path / "x.tar.gz").read_bytes()))
    assert [piped] == read(tmp_path / "x.tar.gz")


def test_records_as_pandas_and_editors_write_them(tmp_path: Path) -> None:
    lines = ['{"question_id":1,"text":"?"}', '{"question_id":2,"text":"?","hint":NaN}', '{"id":NaN,"text":"?"}']
    lines += ['{"question_id":4,"image":NaN,"text":"?","x":[-Infinity]}', '{"question_id":5.5,"text":"?"}']
    (tmp_path / "q.jsonl").write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())
    found = read(tmp_path / "q.jsonl")
    assert [one.id for one in found] == [1, 2, "line 3", 4, "5.5"]
    assert [one.metadata for one in found] == [{}, {"hint": None}, {}, {"x": [None]}, {}]


@pytest.mark.parametrize("name", ["heading.jsonl", "comma.json"])
def test_what_is_no_record_costs_no_other(name: str, tmp_path: Path) -> None:
    record = '{"question_id": "ok", "text": "What?"}'
    texts = {"heading.jsonl": f"# questions of May\n{record}\n{record}\n", "comma.json": f"[{record},\n{record},\n]\n"}
    (tmp_path / name).write_text(texts[name])
    found = read(tmp_path / name)
    assert [one.id for one in found][-2:] == ["ok", "ok"]
    assert [one.reason for one in found[:-2]] == (["bad_record"] if name == "heading.jsonl" else [])


def test_pictures_of_a_folder_are_known_by_their_bytes_and_the_rest_is_counted(tmp_path: Path) -> None:
    data = (Path(__file__).parents[1] / "images" / "coffee.jpg").read_bytes()
    for name in ("a.jfif", "b", "c.jpe", "d.photo"):
        (tmp_path / name).write_bytes(data)
    for number in range(5):
        (tmp_path / f"{number}.txt").write_text("a cat")
    left_out = records.LeftOut()
    assert [item.id for item in read(tmp_path, left_out=left_out)] == ["a.jfif", "b", "c.jpe", "d.photo"]
    examples = [f"{tmp_path}/{number}.txt" for number in range(3)]
    assert left_out.summary() == {".txt files": {"count": 5, "examples": examples}}
    assert read(tmp_path / "d.photo")[0].id == "d.photo"


def test_tars_below_a_folder_and_pictures_beside_tars(tmp_path: Path) -> None:
    data = (Path(__file__).parents[1] / "images" / "coffee.jpg").read_bytes()
    (tmp_path / "a").mkdir()
    (tmp_path / "x.jpg").write_bytes(data)
    with tarfile.open(tmp_path / "a" / "x.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "x.jpg", "0.jpg")
    left_out = records.LeftOut()
    assert [item.id for item in read(tmp_path / "a")] == ["0"]
    (tmp_path / "x.jpg").unlink()
    assert [item.id for item in read(tmp_path)] == ["0"]
    (tmp_path / "a" / "y.jpg").write_bytes(data)
    assert [item.id for item in read(tmp_path / "a", left_out=left_out)] == ["0"]
    assert left_out.summary() == {sources.BESIDE_TARS: {"count": 1, "examples": ["y.jpg"]}}


def test_other_files_beside_tars_are_counted_but_for_those_of_mgtool(tmp_path: Path) -> None:
    data = (Path(__file__).parents[1] / "images" / "coffee.jpg").read_bytes()
    (tmp_path / "0.jpg").write_bytes(data)
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        tar.add(tmp_path / "0.jpg", "0.jpg")
    (tmp_path / "0.jpg").unlink()
    for name in ("00000.parquet", "00000_stats.json", "README.md"):
        (tmp_path / name).write_bytes(b"{}")
    left_out = records.LeftOut()
    assert [item.id for item in read(tmp_path, left_out=left_out)] == ["0"]
    assert {name: one["count"] for name, one in left_out.summary().items()} == {".parquet files": 1, ".json files": 1}
    (tmp_path / "run.json").write_bytes(b"{}")
    left_out = records.LeftOut()
    assert [item.id for item in read(tmp_path, left_out=left_out)] == ["0"]
    assert left_out.summary() == {}
