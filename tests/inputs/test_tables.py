"""Tables and folders of data sets as people have them: what they hold comes out as samples, and nothing goes unsaid."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from mgtool.errors import InputError
from mgtool.inputs import sources
from mgtool.records import LeftOut, Sample

IMAGES = Path(__file__).parents[2] / "examples/photos/images"
CAT, CUP = (IMAGES / "cat.jpg").read_bytes(), (IMAGES / "coffee.jpg").read_bytes()
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
ROWS = {
    "image": pa.array([{"bytes": CAT, "path": "cat.jpg"}, {"bytes": CUP, "path": None}], PICTURE),
    "question": ["What?", "Why?"],
    "answer": ["A cat.", None],
}
SHOWN = [([("cat.jpg", CAT)], ["What?"], {"answer": "A cat."}), ([("x-2.jpg", CUP)], ["Why?"], {"answer": None})]


def read(given: Any, left_out: LeftOut | None = None) -> list[Any]:
    return list(sources.read_samples([str(given)], left_out=left_out))


def shown(items: list[Any]) -> list[Any]:
    """Pictures, questions and metadata of samples."""
    assert all(isinstance(item, Sample) for item in items), items
    return [
        ([(one.name, one.data) for one in item.images], [turn.value for turn in item.turns], item.metadata)
        for item in items
    ]


def as_stream(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


def as_file(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("write", [parquet.write_table, as_stream, as_file])
def test_pictures_in_a_table_come_along(tmp_path: Path, write: Callable[[pa.Table, Path], None]) -> None:
    write(pa.table(ROWS), tmp_path / "x.any")
    assert shown(read(tmp_path / "x.any")) == SHOWN


@pytest.mark.parametrize(
    ("columns", "names", "left_out"),
    [
        ({"image_1": [CAT], "image_2": [CUP], "text": ["a"]}, ["x-1.jpg", "x-1_1.jpg"], {}),
        ({"image": [CAT], "mask": [CUP]}, ["x-1.jpg"], {"pictures in other columns of tables": ["x-1: mask"]}),
        ({"image": ["a/b.jpg"], "decoded_image": [CAT]}, ["x-1.jpg"], {}),
        ({"images": [[CAT, CUP]], "texts": [[{"user": "Q", "assistant": "A"}]]}, ["x-1.jpg", "x-1_1.jpg"], {}),
        ({"image_path": ["a.jpg"], "vector": [b"xyz"]}, ["a.jpg"], {"columns of tables with bytes": ["x-1: vector"]}),
    ],
)
def test_which_columns_are_pictures(tmp_path: Path, columns: Any, names: Any, left_out: Any) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    unused = LeftOut()
    (sample,) = read(tmp_path / "x.parquet", unused)
    assert [one.name for one in sample.images] == names
    assert {reason: one["examples"] for reason, one in unused.summary().items()} == left_out


def test_a_text_beside_a_picture_in_a_table_is_its_caption(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"image": [CAT], "text": ["a cat"]}), tmp_path / "x.parquet")
    assert shown(read(tmp_path / "x.parquet")) == [([("x-1.jpg", CAT)], [], {"text": "a cat"})]


def test_turns_of_user_and_assistant(tmp_path: Path) -> None:
    texts = [[{"user": "Q", "assistant": "A"}, {"user": "R", "assistant": None}]]
    parquet.write_table(pa.table({"images": [[CAT]], "texts": texts}), tmp_path / "x.parquet")
    (sample,) = read(tmp_path / "x.parquet")
    assert [(turn.speaker, turn.value) for turn in sample.turns] == [("human", "Q"), ("gpt", "A"), ("human", "R")]


@pytest.mark.parametrize(("data", "said"), [(b"PAR1 and no more", "not a readable table"), (None, "no column names")])
def test_a_table_of_no_use_is_one_line(tmp_path: Path, data: bytes | None, said: str) -> None:
    if data is None:
        parquet.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    else:
        (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(InputError, match=said):
        read(tmp_path / "x.parquet")


def saved(folder: Path) -> None:
    """As `datasets` saves a data set of one split, with a cache beside it."""
    for name in ("state.json", "dataset_info.json"):
        (folder / name).write_text("{}")
    for name in ("data-00000-of-00001.arrow", "cache-123.arrow"):
        as_stream(pa.table(ROWS), folder / name)


def of_the_hub(folder: Path) -> None:
    (folder / "README.md").write_text("---\ndataset_info: {}\n---\n")
    (folder / "data").mkdir()
    parquet.write_table(pa.table(ROWS), folder / "data/train-00000-of-00001.parquet")
    (folder / "teaser.png").write_bytes(CAT)


@pytest.mark.parametrize("write", [saved, of_the_hub])
@pytest.mark.parametrize("is_remote", [False, True])
def test_a_data_set_of_hugging_face_as_it_is(tmp_path: Path, write: Callable[[Path], None], is_remote: bool) -> None:
    write(tmp_path)
    given = str(tmp_path)
    if is_remote:
        given = f"memory://{tmp_path.name}"
        fsspec.filesystem("memory").put(f"{tmp_path}/", f"/{tmp_path.name}/", recursive=True)
    unused = LeftOut()
    assert [one[1:] for one in shown(read(given, unused))] == [one[1:] for one in SHOWN]
    assert unused.summary().keys() == ({".arrow files"} if write is saved else {".png files"})


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_an_image_folder_with_metadata(tmp_path: Path, form: str) -> None:
    (tmp_path / "train").mkdir()
    for name in ("0.jpg", "1.jpg"):
        shutil.copy(IMAGES / "cat.jpg", tmp_path / "train" / name)
    path = tmp_path / f"train/metadata.{form}"
    if form == "csv":
        path.write_text("file_name,text\n1.jpg,a cat\n")
    elif form == "jsonl":
        path.write_text('{"file_name": "1.jpg", "text": "a cat"}\n')
    else:
        parquet.write_table(pa.table({"file_name": ["1.jpg"], "text": ["a cat"]}), path)
    unused = LeftOut()
    described, bare = read(tmp_path, unused)
    assert (described.images[0].name, described.metadata) == ("train/1.jpg", {"text": "a cat"})
    assert Path(described.images[0].uri).read_bytes() == CAT
    assert (bare.id, bare.metadata, unused.summary()) == ("train/0.jpg", {}, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id,image,question\n7,a.jpg,What?\n", (7, ["a.jpg"], ["What?"], {})),
        ("image_path;caption\na.jpg;x, y\n", ("a.jpg", ["a.jpg"], [], {"caption": "x, y"})),
        (
            "images\tconversations\n\"['a.jpg', 'b.jpg']\"\t\"[{'from': 'human', 'value': 'Q'}]\"\n",
            ("x:1", ["a.jpg", "b.jpg"], ["Q"], {}),
        ),
    ],
)
@pytest.mark.parametrize("name", ["x.csv", "x.txt"])
def test_a_table_of_texts(tmp_path: Path, text: str, expected: Any, name: str) -> None:
    (tmp_path / name).write_text(text)
    (sample,) = read(tmp_path / name)
    found = (sample.id, [one.name for one in sample.images], [turn.value for turn in sample.turns], sample.metadata)
    assert found == expected


def test_rows_of_a_table_of_texts_that_are_of_no_use(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"image,text\na.jpg,\xff\na.jpg,b,c\n,\nb.jpg,ok\n")
    *failures, good = read(tmp_path / "x.csv")
    assert good.id == "b.jpg"
    assert [(one.id, one.reason) for one in failures] == [(f"x:{row}", "bad_record") for row in (1, 2, 3)]
    (tmp_path / "y.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no column names a picture"):
        read(tmp_path / "y.csv")
