"""`mgtool pack`: how samples are chosen, changed, dealt to shards and splits, and added to what is packed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import datasets
import nasty
import pytest
from typer.testing import CliRunner

from mgtool.commands import console
from mgtool.commands.main import app
from mgtool.errors import MgtoolError
from mgtool.files import hashing
from mgtool.inputs import sources
from mgtool.media import images
from mgtool.records import Sample

COUNT = 24


def run(*args: object, expect: int = 0) -> dict[str, Any]:
    """The command in this process, which is quick; with more workers it starts them."""
    given = ["pack", *map(str, args), "--json", *([] if "--workers" in args else ["--workers", "1"])]
    done = CliRunner().invoke(app, given)
    error = done.exception
    assert (error.exit_code if isinstance(error, MgtoolError) else done.exit_code) == expect, repr(error)
    return json.loads(done.stdout) if expect in (0, 3) else {"error": console.flagged(str(error)) or done.stderr}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of growing width with 0, 0, 1, 1, 2, ... boxes; every sixth sample shows the next picture, too."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "photos").mkdir()
    records, boxes = [], []
    for number in range(COUNT):
        data = nasty.encode(nasty.photo(number, (40 + number, 30)), "JPEG")
        (folder / "photos" / f"{number}.jpg").write_bytes(data)
        names = [f"{number}.jpg", f"{(number + 1) % COUNT}.jpg"]
        turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A thing."}]
        image = names if number % 6 == 0 else names[0]
        records.append({"id": number, "image": image, "conversations": turns, "weight": number / 2})
        found = [[0.0, 3.0, 20.0, 30.0]] * (number // 2)
        line = {"image": names[0], "sha256": hashing.sha256(data), "width": 40 + number, "height": 30}
        boxes.append({**line, "boxes": found, "scores": [0.5] * len(found), "labels": ["cat"] * len(found)})
    (folder / "train.json").write_text(json.dumps(records))
    (folder / "boxes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in boxes))
    return folder


def _args(inputs: Path, out: Path, *more: object) -> list[object]:
    photos, boxes = inputs / "photos", inputs / "boxes.jsonl"
    return [inputs / "train.json", "--images", photos, "--boxes", boxes, "--out", out, "--shard-size", 5, *more]


def samples(folder: Path, pattern: str = "*.tar") -> list[Sample]:
    found = [item for tar in sorted(folder.glob(pattern)) for item in sources.read_samples([str(tar)])]
    assert all(isinstance(item, Sample) for item in found)
    return found  # type: ignore[return-value]


def ids(folder: Path, pattern: str = "*.tar") -> list[Any]:
    return [sample.id for sample in samples(folder, pattern)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.json"}


def keys(folder: Path) -> list[str]:
    reports = [json.loads(path.read_bytes()) for path in sorted(folder.glob("*-*.json"))]
    return [row[1] for report in reports for row in report["rows"]]


def test_shards_by_bytes_hold_about_that_much(inputs: Path, tmp_path: Path) -> None:
    run(*_args(inputs, tmp_path / "o", "--shard-size", "40kB"))
    sizes = [tar.stat().st_size for tar in sorted((tmp_path / "o").glob("*.tar"))]
    assert len(sizes) > 3
    assert max(sizes) < 80_000
    assert ids(tmp_path / "o") == list(range(COUNT))


@pytest.mark.parametrize("size", ["0", "many", "5 parsecs", "-1"])
def test_a_shard_size_that_is_none_is_one_line(inputs: Path, tmp_path: Path, size: str) -> None:
    error = run(*_args(inputs, tmp_path / "o", f"--shard-size={size}"), expect=2)["error"]
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "o").exists()


def test_shuffling_depends_on_the_seed_alone(inputs: Path, tmp_path: Path) -> None:
    run(*_args(inputs, tmp_path / "a", "--shuffle", 3, "--workers", 1))
    run(*_args(inputs, tmp_path / "b", "--shuffle", 3, "--workers", 2))
    run(*_args(inputs, tmp_path / "c", "--shuffle", 4))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert sorted(ids(tmp_path / "a")) == sorted(ids(tmp_path / "c")) == list(range(COUNT))
    assert ids(tmp_path / "a") != ids(tmp_path / "c") != list(range(COUNT))


def test_no_picture_is_in_two_splits(inputs: Path, tmp_path: Path) -> None:
    counts = run(*_args(inputs, tmp_path / "o", "--split", "train=0.6,val=0.2,test=0.2"))
    assert sum(counts["splits"].values()) == COUNT
    shown: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        found = samples(tmp_path / "o", f"{split}-*.tar")
        assert len(found) == counts["splits"][split] > 0
        shown[split] = {hashing.sha256(media.data) for sample in found for media in sample.images}
    assert not shown["train"] & shown["val"] | shown["train"] & shown["test"] | shown["val"] & shown["test"]
    assert len(set(keys(tmp_path / "o"))) == COUNT


@pytest.mark.filterwarnings("ignore")
def test_hugging_face_sees_the_splits_and_samples_without_boxes_first(inputs: Path, tmp_path: Path) -> None:
    rows = [{**json.loads(line)} for line in (inputs / "boxes.jsonl").read_text().splitlines()]
    for row in rows[: COUNT - 4]:
        row |= {"boxes": [], "scores": [], "labels": []}
    few = tmp_path / "few.jsonl"
    few.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(*_args(inputs, tmp_path / "o", "--split", "train=0.7,val=0.3", "--boxes", few))
    for streaming in (True, False):
        loaded = datasets.load_dataset(str(tmp_path / "o"), streaming=streaming, cache_dir=str(tmp_path / "cache"))
        counts = {split: [len(row["boxes.npy"]) for row in loaded[split]] for split in ("train", "val")}
        assert sum(len(found) for found in counts.values()) == COUNT
        assert sum(sum(found) for found in counts.values()) == sum(len(row["boxes"]) for row in rows)


def test_pictures_are_made_smaller_and_boxes_with_them(inputs: Path, tmp_path: Path) -> None:
    run(*_args(inputs, tmp_path / "o", "--resize", 50))
    small, *_, large = samples(tmp_path / "o")
    assert small.images[0].data == (inputs / "photos" / "0.jpg").read_bytes()
    assert images.probe(large.images[0].data) == (50, 24)
    across = 50 / (40 + COUNT - 1)
    assert large.images[0].detections[0].boxes[0] == pytest.approx((0.0, 2.4, 20 * across, 24.0))


@pytest.mark.parametrize(("wanted", "format"), [("webp:60", "WEBP"), ("jpeg:40", "JPEG"), ("png", "PNG")])
def test_pictures_are_encoded_anew_where_that_is_asked_for(
    inputs: Path, tmp_path: Path, wanted: str, format: str
) -> None:
    run(inputs / "photos", "--out", tmp_path / "o", "--reencode", wanted)
    for sample in samples(tmp_path / "o"):
        data = sample.images[0].data
        assert images.probe(data, with_format=True)[2] == format
        assert data != (inputs / "photos" / sample.images[0].name).read_bytes()


def test_larger_pictures_are_failures_with_a_limit(inputs: Path, tmp_path: Path) -> None:
    run(*_args(inputs, tmp_path / "o", "--max-pixels", 50 * 30), expect=3)
    reasons = {json.loads(line)["reason"] for line in (tmp_path / "o" / "failures.jsonl").read_text().splitlines()}
    assert reasons == {"too_many_pixels"}
    assert ids(tmp_path / "o") == list(range(11))


def test_samples_are_chosen_by_condition_and_boxes(inputs: Path, tmp_path: Path) -> None:
    counts = run(*_args(inputs, tmp_path / "a", "--where", "width >= 50 and boxes < 8 and metadata['weight'] != 6"))
    assert ids(tmp_path / "a") == [10, 11, 13, 14, 15]
    assert counts["skipped"] == COUNT - 5
    run(*_args(inputs, tmp_path / "b", "--min-boxes", 10))
    assert ids(tmp_path / "b") == [12, 18, 20, 21, 22, 23]
    assert len(list((tmp_path / "b").glob("*.tar"))) == 2


def test_a_condition_that_cannot_be_asked_of_a_sample_is_its_failure(inputs: Path, tmp_path: Path) -> None:
    run(*_args(inputs, tmp_path / "o", "--where", "metadata['colour'] == 'red'"), expect=3)
    lines = [json.loads(line) for line in (tmp_path / "o" / "failures.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == list(range(COUNT))
    assert {line["reason"] for line in lines} == {"bad_record"}


def test_what_comes_twice_is_left_out(inputs: Path, tmp_path: Path) -> None:
    twice = [*(inputs / "photos").iterdir(), tmp_path / "again.jpg"]
    (tmp_path / "again.jpg").write_bytes((inputs / "photos" / "3.jpg").read_bytes())
    listing = tmp_path / "list.txt"
    listing.write_text("".join(f"{path}\n" for path in twice))
    assert run(listing, "--out", tmp_path / "o", "--dedupe")["samples"] == COUNT
    assert run(listing, "--out", tmp_path / "p")["samples"] == COUNT + 1


def test_inputs_with_their_own_pictures_and_boxes(inputs: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "pictures").mkdir(parents=True)
    data = nasty.encode(nasty.photo(99), "JPEG")
    (other / "pictures" / "0.jpg").write_bytes(data)
    (other / "more.json").write_text(json.dumps([{"id": "m", "image": "0.jpg", "conversations": []}]))
    (other / "b.json").write_text(json.dumps([{"id": "m", "boxes": [[1, 2, 3, 4]], "scores": [1], "labels": ["x"]}]))
    more = f"{other}/more.json,images={other}/pictures,boxes={other}/b.json"
    run(*_args(inputs, tmp_path / "o", "--add", more))
    *_, last = samples(tmp_path / "o")
    assert (last.id, last.images[0].data) == ("m", data)
    assert last.images[0].detections[0].labels == ("x",)
    assert len(samples(tmp_path / "o")) == COUNT + 1
    assert "--add" in run(*_args(inputs, tmp_path / "p", "--add", f"{other}/more.json,pictures=x"), expect=2)["error"]


def _first(inputs: Path, place: Path, count: int) -> Path:
    records = json.loads((inputs / "train.json").read_text())[:count]
    place.mkdir(exist_ok=True)
    path = place / "train.json"
    path.write_text(json.dumps(records))
    return path


def test_appending_adds_only_what_is_new(inputs: Path, tmp_path: Path) -> None:
    options = _args(inputs, tmp_path / "o", "--split", "train=0.7,val=0.3")[1:]
    run(_first(inputs, tmp_path / "in", 12), *options)
    before = contents(tmp_path / "o")
    grown = _first(inputs, tmp_path / "in", COUNT)
    assert "other inputs: add --append" in run(grown, *options, expect=2)["error"]
    counts = run(grown, *options, "--append", "--workers", 2)
    assert counts["samples"] + counts["failures"] == COUNT
    after = contents(tmp_path / "o")
    assert {name: after[name] for name in before if name.endswith(".tar")} == {
        name: data for name, data in before.items() if name.endswith(".tar")
    }
    assert len(set(keys(tmp_path / "o"))) == len(keys(tmp_path / "o")) == counts["samples"]
    shown = [
        {hashing.sha256(media.data) for sample in samples(tmp_path / "o", f"{split}-*.tar") for media in sample.images}
        for split in ("train", "val")
    ]
    assert not shown[0] & shown[1]
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "o").glob("*.tar")}
    assert run(grown, *options, "--append")["samples"] == counts["samples"]
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "o").glob("*.tar")} == times


def test_appending_pictures_without_boxes_to_those_with_boxes_is_refused(inputs: Path, tmp_path: Path) -> None:
    args = _args(inputs, tmp_path / "out")
    run(_first(inputs, tmp_path / "in", 10), *args[1:])
    grown = _first(inputs, tmp_path / "in", COUNT)
    place = args.index("--boxes")
    bare = [*args[1:place], *args[place + 2 :]]
    assert "give --boxes for the new ones, too" in run(grown, *bare, "--append", expect=2)["error"]


def test_appending_that_was_cut_short_ends_with_the_same_bytes(inputs: Path, tmp_path: Path) -> None:
    for out in ("o", "p"):
        run(_first(inputs, tmp_path / "in", 12), *_args(inputs, tmp_path / out)[1:])
        run(_first(inputs, tmp_path / "in", COUNT), *_args(inputs, tmp_path / out, "--append")[1:])
    record = json.loads((tmp_path / "p" / "run.json").read_bytes())
    del record["times"]["finished"]
    (tmp_path / "p" / "run.json").write_text(json.dumps(record))
    last = max((tmp_path / "p").glob("*.tar"))
    os.truncate(last, 700)
    last.with_name(last.name.replace("4", "3")).with_suffix(".json").unlink()
    run(_first(inputs, tmp_path / "in", COUNT), *_args(inputs, tmp_path / "p", "--append")[1:])
    assert contents(tmp_path / "p") == contents(tmp_path / "o")
    assert ids(tmp_path / "o") == list(range(COUNT))


def test_a_picture_that_changed_after_it_was_packed_is_noticed(inputs: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in (inputs / "photos").iterdir():
        (photos / path.name).write_bytes(path.read_bytes())
    run(photos, "--out", tmp_path / "o")
    time.sleep(0.05)
    same = (photos / "5.jpg").read_bytes()
    (photos / "5.jpg").write_bytes(same)
    run(photos, "--out", tmp_path / "o")
    (photos / "5.jpg").write_bytes(nasty.encode(nasty.photo(77), "JPEG"))
    assert "5.jpg changed" in run(photos, "--out", tmp_path / "o", expect=2)["error"]
    run(photos, "--out", tmp_path / "o", "--overwrite")
    assert hashing.sha256((photos / "5.jpg").read_bytes()) in {
        hashing.sha256(sample.images[0].data) for sample in samples(tmp_path / "o")
    }


def test_a_full_check_finds_what_the_structure_hides(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    whole = bytearray(nasty.encode(nasty.photo(1, (200, 200)), "PNG"))
    (tmp_path / "in" / "good.png").write_bytes(whole)
    at = whole.index(b"IDAT") + 40
    broken = nasty.png_with_data(200, 200, bytes(whole[at : at + 500]))
    (tmp_path / "in" / "broken.png").write_bytes(broken)
    assert run(tmp_path / "in", "--out", tmp_path / "a")["samples"] == 2
    assert run(tmp_path / "in", "--out", tmp_path / "b", "--check", "decode", expect=3)["samples"] == 1


def test_options_that_make_no_sense_are_one_line(inputs: Path, tmp_path: Path) -> None:
    for wrong in (
        ["--split", "train=0.5"],
        ["--split", "0.5"],
        ["--reencode", "gif"],
        ["--reencode", "jpeg:101"],
        ["--check", "hope"],
        ["--where", "open('x')"],
        ["--out", "-", "--append"],
    ):
        error = run(*_args(inputs, tmp_path / "o"), *wrong, expect=2)["error"]
        assert len(error.strip().splitlines()) == 1
