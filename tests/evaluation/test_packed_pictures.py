"""A page shows the pictures that a ground truth brings along: in a table, in a Parquet file, in tars."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import mgtool
from mgtool.evaluation.picture_reader import PictureReader
from mgtool.media.reading import Place
from mgtool.stages import evaluate

COLOURS = ("teal", "maroon", "navy")


def picture(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (2000, 700), colour).save(out, "PNG")
    return out.getvalue()


def parquet(folder: Path, *, named: bool) -> Path:
    rows = [
        {
            "id": n,
            "question": f"What is {n}?",
            "answer": "red",
            "image": {"bytes": picture(colour), "path": f"a/{n}.png" if named else None},
        }
        for n, colour in enumerate(COLOURS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "truth.parquet")
    return folder / "truth.parquet"


def table(folder: Path) -> Path:
    cells = [base64.b64encode(picture(colour)).decode() for colour in COLOURS]
    lines = [f"{n}\tWhat is {n}?\tx\ty\tA\t{cell}" for n, cell in enumerate(cells)]
    path = folder / "MMStar.tsv"
    path.write_text("\n".join(["index\tquestion\tA\tB\tanswer\timage", *lines]) + "\n")
    return path


def tars(folder: Path) -> Path:
    images = folder / "images"
    images.mkdir()
    for n, colour in enumerate(COLOURS):
        (images / f"{n}.png").write_bytes(picture(colour))
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "red"}]
    rows = [{"id": n, "image": f"{n}.png", "conversations": turns} for n in range(len(COLOURS))]
    (folder / "train.json").write_text(json.dumps(rows))
    mgtool.pack([mgtool.Source(str(folder / "train.json"), images=str(images))], folder / "tars")
    for file in images.iterdir():
        file.unlink()
    return folder / "tars"


@pytest.mark.parametrize("kind", ["named Parquet", "nameless Parquet", "table", "tars"])
def test_the_page_shows_packed_pictures_small_and_in_full(tmp_path, kind: str) -> None:
    if "Parquet" in kind:
        truth, benchmark = parquet(tmp_path, named=kind.startswith("named")), "custom"
    else:
        truth, benchmark = (table(tmp_path), "mmstar") if kind == "table" else (tars(tmp_path), "custom")
    said = [{"question_id": n, "text": "red"} for n in range(len(COLOURS))]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in said))
    options = mgtool.EvalOptions(benchmark, ground_truth=[truth], full_pictures=True)
    evaluate.evaluate(tmp_path / "answers.jsonl", options, tmp_path / "out")
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("data:image/webp;base64,") == len(COLOURS)
    full = sorted(path.read_bytes() for path in (tmp_path / "out/report/pictures").rglob("*") if path.is_file())
    assert full == sorted(map(picture, COLOURS))


def test_only_what_the_page_asks_for_is_taken_out(tmp_path) -> None:
    with PictureReader(Place(), [parquet(tmp_path, named=True)], ["1.png"]) as reader:
        assert reader("1.png") == picture("maroon")
        assert reader("0.png") is None
        assert not reader.notes


def test_pictures_that_find_no_room_are_counted(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("mgtool.evaluation.picture_reader.SPARE", 0.0)
    with PictureReader(Place(), [parquet(tmp_path, named=True)], ["1.png", "2.png"]) as reader:
        assert reader("1.png") is None
        assert reader.notes == ["2 pictures are not shown: there is no room for them in `tmp`"]


def test_names_of_pictures_that_are_not_there_are_no_pictures(tmp_path) -> None:
    truth = tmp_path / "MMStar.tsv"
    truth.write_text("index\tquestion\tA\tB\tanswer\timage_path\n0\tWhat is it?\tx\ty\tA\tnot_there.png\n")
    with PictureReader(Place(), [truth], ["not_there.png"]) as reader:
        assert reader.is_empty
