"""Boxes that exist already: in the detector's place, and used again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from mgtool.boxes import formats
from mgtool.commands.main import app
from mgtool.errors import ResumeError, UsageError
from mgtool.records import BoxRecord, dumps

IMAGES = Path(__file__).parents[1] / "images"
CLOSE = (("--keep", "person"), ("--drop", "chair"), ("--max-boxes", 1), ("--threshold", 0.6))


def _detect(*args: object, code: int = 0) -> Result:
    done = CliRunner().invoke(app, ["detect", *map(str, args), "--workers", "0", "-q"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done


def _records(folder: Path) -> list[BoxRecord]:
    return list(formats.read(str(folder)))


def _failures(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "failures.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("found") / "boxes"
    _detect(IMAGES, "--out", out)
    return out


@pytest.mark.parametrize("format", ["jsonl", "parquet", "coco", "mg-llava", "yolo", "voc"])
def test_a_box_file_of_any_form_stands_in_for_a_detector(found: Path, tmp_path: Path, format: str) -> None:
    # pictures are their own samples here, so the published list's ids are their names
    _detect(IMAGES, "--out", tmp_path / "other", "--format", format)
    _detect(IMAGES, "--out", tmp_path / "again", "--detector", f"boxes:{tmp_path / 'other'}")
    again, first = _records(tmp_path / "again"), _records(found)
    assert [(r.image, r.sha256, r.width, r.labels, r.scores) for r in again] == [
        (r.image, r.sha256, r.width, r.labels, r.scores) for r in first
    ]
    assert [v for r in again for box in r.boxes or () for v in box] == pytest.approx(
        [v for r in first for box in r.boxes or () for v in box]
    )


def test_a_published_list_is_asked_by_the_question_s_id(tmp_path: Path) -> None:
    asked = [{"question_id": key, "image": "coffee.jpg", "text": "What?"} for key in (7, 8)]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, asked)))
    published = [{"id": 7, "boxes": [[1, 2, 3, 4]], "scores": [0.5], "labels": ["cup"]}]
    (tmp_path / "boxes.json").write_text(json.dumps(published))
    args = (tmp_path / "q.jsonl", "--images", IMAGES, "--out", tmp_path / "out")
    _detect(*args, "--detector", f"boxes:{tmp_path / 'boxes.json'}")
    (record,) = _records(tmp_path / "out")
    assert (record.image, record.boxes, record.labels) == ("coffee.jpg", ((1, 2, 3, 4),), ("cup",))


def test_a_picture_that_the_file_does_not_know_is_a_failure(found: Path, tmp_path: Path) -> None:
    _detect(IMAGES / "coffee.jpg", "--out", tmp_path / "one")
    _detect(IMAGES, "--out", tmp_path / "out", "--detector", f"boxes:{tmp_path / 'one'}", code=3)
    assert [(line["id"], line["reason"]) for line in _failures(tmp_path / "out")] == [
        ("astronaut_portrait.jpg", "no_boxes"),
        ("china.jpg", "no_boxes"),
    ]
    assert [r.image for r in _records(tmp_path / "out")] == ["coffee.jpg"]


@pytest.mark.parametrize("option", CLOSE)
def test_filters_hold_for_known_boxes_as_for_found_ones(found: Path, tmp_path: Path, option: tuple) -> None:
    _detect(IMAGES, "--out", tmp_path / "found", *option)
    _detect(IMAGES, "--out", tmp_path / "known", "--detector", f"boxes:{found}", *option)
    assert _records(tmp_path / "known") == _records(tmp_path / "found") != _records(found)
    with pytest.raises(ResumeError):
        _detect(IMAGES, "--out", tmp_path / "found")


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_known_pictures_are_not_looked_at_again_whatever_they_are_called(
    found: Path, tmp_path: Path, batch: int
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "renamed.jpg").write_bytes((IMAGES / "coffee.jpg").read_bytes())
    with Image.open(IMAGES / "coffee.jpg") as picture:
        picture.save(pictures / "coffee.jpg", quality=50)  # the name is known, the bytes are not
    marked = [msgspec.structs.replace(r, labels=("known",) * len(r.labels or ())) for r in _records(found)]
    (tmp_path / "earlier.jsonl").write_bytes(b"\n".join(map(dumps, marked)))
    earlier = tmp_path / "earlier.jsonl"
    _detect(pictures, "--out", tmp_path / "out", "--boxes", earlier, "--batch-size", batch)
    assert {r.image: r.labels for r in _records(tmp_path / "out")} == {
        "coffee.jpg": ("cup",),
        "renamed.jpg": ("known",),
    }
    _detect(pictures, "--out", tmp_path / "stream", "--detector", f"boxes:{earlier}")
    assert {r.labels for r in _records(tmp_path / "stream")} == {("known",)}


def test_another_box_file_is_another_run(found: Path, tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_bytes(dumps(_records(found)[0]))
    _detect(IMAGES, "--out", tmp_path / "out", "--boxes", found)
    with pytest.raises(ResumeError, match="detector"):
        _detect(IMAGES, "--out", tmp_path / "out", "--boxes", tmp_path / "none.jsonl")


def test_options_that_do_not_go_together() -> None:
    with pytest.raises(UsageError, match="leave `tagger` and `boxes` out"):
        _detect(IMAGES, "--out", "-", "--detector", "boxes:x.jsonl", "--boxes", "y.jsonl")
    with pytest.raises(UsageError, match=r"give one of nanodet, .*boxes:PATH"):
        _detect(IMAGES, "--out", "-", "--detector", "boxes")


def test_an_id_speaks_for_the_only_picture_of_its_sample(tmp_path: Path) -> None:
    asked = [{"id": 7, "image": ["coffee.jpg", "china.jpg"], "conversations": []}]
    (tmp_path / "two.json").write_text(json.dumps(asked))
    published = [{"id": 7, "boxes": [[1, 2, 3, 4]], "scores": [0.5], "labels": ["cup"]}]
    (tmp_path / "boxes.json").write_text(json.dumps(published))
    args = (tmp_path / "two.json", "--images", IMAGES, "--out", tmp_path / "out")
    _detect(*args, "--detector", f"boxes:{tmp_path / 'boxes.json'}", code=3)
    assert [line["reason"] for line in _failures(tmp_path / "out")] == ["no_boxes", "no_boxes"]


def test_boxes_of_another_size_s_picture_are_refused(tmp_path: Path) -> None:
    other = BoxRecord(image="coffee.jpg", sha256="0" * 64, width=9, height=9, boxes=(), scores=(), labels=())
    (tmp_path / "boxes.jsonl").write_bytes(dumps(other))
    args = (IMAGES / "coffee.jpg", "--detector", f"boxes:{tmp_path / 'boxes.jsonl'}", "--out", tmp_path / "out")
    _detect(*args, code=3)
    assert [(line["id"], line["reason"]) for line in _failures(tmp_path / "out")] == [("coffee.jpg", "bad_boxes")]


def test_two_pictures_of_one_id_do_not_fit_into_the_published_form(tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        picture = Image.new("RGB", (64, 48), "red" if folder == "b" else "white")
        picture.save(tmp_path / folder / "1.png")
    folders = [tmp_path / folder for folder in ("a", "b", "c")]
    _detect(*folders, "--out", tmp_path / "out", "--format", "mg-llava", "--report", tmp_path / "page.html", code=3)
    assert [(line["id"], line["reason"]) for line in _failures(tmp_path / "out")] == [("1.png", "duplicate_id")]
    assert [entry["id"] for entry in json.loads((tmp_path / "out" / "boxes.json").read_text())] == ["1.png"]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["counts"]["failures"] == {"duplicate_id": 1}
    assert (tmp_path / "page.html").read_text().count("data:image/webp") == 1
    _detect(*folders, "--out", tmp_path / "out", "--format", "mg-llava", code=3)
