"""`mgtool pack --unpack`: what was packed, as files; packed again it is the same bytes; no name leaves the folder."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import nasty
import pytest

from mgtool.boxes.index import BoxIndex
from mgtool.boxes.lookup import find_picture
from mgtool.errors import OutputError
from mgtool.files import hashing
from mgtool.inputs.sources import read_samples
from mgtool.packing.unpack import (
    BOXES_FOLDER,
    CONVERSATIONS_FILE,
    IMAGES_FOLDER,
    RENAMED_FILE,
    safe_name,
    unpack_samples,
)
from mgtool.records import BoxRecord, Detections, FrameDetections, Media, Sample, dumps
from mgtool.runs import run_file
from mgtool.stages.unpack import unpack

ONE, TWO = (nasty.encode(nasty.photo(seed), "JPEG") for seed in (1, 2))


def run(*args: object, expect: int = 0) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "mgtool.commands.main", "pack", *map(str, args), "-q"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == expect, done.stderr.decode()
    return done


def pack_again(folder: Path, out: Path, *options: object) -> None:
    boxes = ["--boxes", folder / BOXES_FOLDER] if (folder / BOXES_FOLDER).exists() else []
    run(folder / CONVERSATIONS_FILE, "--images", folder / IMAGES_FOLDER, *boxes, "--out", out, *options)


def tars(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.tar")}


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def unpacked(samples: list[Sample], folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True)
    return unpack_samples(samples, folder, lambda n: None)


def test_packing_again_gives_the_same_bytes(given: Path, tars_of_given: Path, tmp_path: Path) -> None:
    run(tars_of_given, "--unpack", tmp_path / "u")
    photos, found = given / "photos", tmp_path / "u" / IMAGES_FOLDER
    assert files(found) == [name for name in files(photos) if name != "p/08.jpg"]  # a text has no picture
    assert all((found / name).read_bytes() == (photos / name).read_bytes() for name in files(found))
    assert json.loads((tmp_path / "u" / CONVERSATIONS_FILE).read_bytes()) == json.loads(
        (given / "train.json").read_bytes()
    )
    record = json.loads((tmp_path / "u" / "run.json").read_bytes())
    assert record["counts"]["pictures"] == len(files(found))
    assert record["times"]["finished"] >= record["times"]["started"]
    pack_again(tmp_path / "u", tmp_path / "again", "--shard-size", 4)
    assert tars(tmp_path / "again") == tars(tars_of_given)


def test_no_metadata_takes_the_place_of_what_a_sample_is(tmp_path: Path) -> None:
    """As the column `id` of a TSV would, whose samples are known by `index`."""
    (tmp_path / "x.tsv").write_text("index\tquestion\tid\tconversations\n1\tWhat?\tfoo\tbar\n")
    [sample] = read_samples([str(tmp_path / "x.tsv")])
    unpacked([sample], tmp_path / "u")
    [record] = json.loads((tmp_path / "u" / CONVERSATIONS_FILE).read_bytes())
    assert record == {
        "id": 1,
        "conversations": [{"from": "human", "value": "What?"}],
        "question_": "What?",
        "id_": "foo",
        "conversations_": "bar",
    }


def test_videos_and_bare_pictures_too(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height = 64, 48
        for seed in range(4):
            container.mux(stream.encode(av.VideoFrame.from_image(nasty.photo(seed))))
        container.mux(stream.encode(None))
    frames = (FrameDetections(0, 0.0), FrameDetections(2, 0.5, ((0.0, 0.0, 9.0, 9.0),), (0.5,), ("cup",)))
    sha256 = hashing.sha256((tmp_path / "clip.mp4").read_bytes())
    record = BoxRecord(sha256=sha256, width=64, height=48, video="clip.mp4", frames=frames)
    (tmp_path / "b.jsonl").write_bytes(dumps(record) + b"\n")
    (tmp_path / "q.json").write_text(json.dumps([{"id": "v", "video": "clip.mp4", "conversations": []}]))
    run(tmp_path / "q.json", "--boxes", tmp_path / "b.jsonl", "--out", tmp_path / "o")
    run(tmp_path / "o", "--unpack", tmp_path / "u")
    pack_again(tmp_path / "u", tmp_path / "again")
    assert tars(tmp_path / "again") == tars(tmp_path / "o")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(ONE)
    run(tmp_path / "photos", "--out", tmp_path / "bare")
    run(tmp_path / "bare", "--unpack", tmp_path / "bare-u")
    pack_again(tmp_path / "bare-u", tmp_path / "bare-again")
    assert tars(tmp_path / "bare-again") == tars(tmp_path / "bare")


@pytest.mark.parametrize(
    "name",
    ["../../out.jpg", "/etc/out.jpg", "a/../../../out.jpg", "s3://b/../../out.jpg", "..\\out.jpg", "C:\\out.jpg", "..",
     "", ".", "a\0b.jpg", "a" * 500 + ".jpg", "x/" * 40 + "out.jpg", "..../out.jpg", "a//b.jpg", "\N{SNOWMAN}.jpg"],
)  # fmt: skip
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    sample = Sample(id=1, images=(Media(name=name, data=ONE),))
    counts = unpacked([sample], tmp_path / "deep" / "u")
    assert (counts["samples"], counts["pictures"]) == (1, 1)
    assert [file for file in files(tmp_path) if not file.startswith("deep/u/")] == []
    (record,) = json.loads((tmp_path / "deep" / "u" / CONVERSATIONS_FILE).read_bytes())
    path = tmp_path / "deep" / "u" / IMAGES_FOLDER / record["image"]
    assert path.resolve().is_relative_to((tmp_path / "deep" / "u" / IMAGES_FOLDER).resolve())
    assert path.read_bytes() == ONE


def test_links_in_a_tar_write_nothing(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "victim")
        tar.addfile(link)
        info = tarfile.TarInfo("b.jpg")
        info.size = len(ONE)
        tar.addfile(info, io.BytesIO(ONE))
    run(tmp_path / "x.tar", "--unpack", tmp_path / "u")
    assert files(tmp_path / "u") == ["conversations.json", "images/b.jpg", "run.json"]
    assert not (tmp_path / "victim").exists()


def test_one_name_for_two_pictures_and_two_names_for_one(tmp_path: Path) -> None:
    media = [Media(name=name, data=data) for name, data in
             (("a.jpg", ONE), ("a.jpg", TWO), ("a.jpg", ONE), ("b.jpg", ONE), ("a.jpg/c.jpg", TWO))]  # fmt: skip
    counts = unpacked([Sample(id=n, images=(one,)) for n, one in enumerate(media)], tmp_path / "u")
    records = json.loads((tmp_path / "u" / CONVERSATIONS_FILE).read_bytes())
    folder = tmp_path / "u" / IMAGES_FOLDER
    assert [(folder / record["image"]).read_bytes() for record in records] == [one.data for one in media]
    assert [record["image"] for record in records][:4] == ["a.jpg", "a~2.jpg", "a.jpg", "b.jpg"]
    assert (counts["pictures"], counts["renamed"]) == (4, 2)


def test_boxes_are_written_once_a_picture(tmp_path: Path) -> None:
    cat, dog = (Detections(((0.0, 0.0, 4.0, 4.0),), (0.5,), (label,)) for label in ("cat", "dog"))
    found = [("a.jpg", ONE, cat), ("b.jpg", ONE, cat), ("c.jpg", TWO, Detections()), ("a.jpg", ONE, dog)]
    samples = [
        Sample(id=number, images=(Media(name=name, data=data, detections=(one,)),))
        for number, (name, data, one) in enumerate(found)
    ]
    counts = unpacked(samples, tmp_path / "u")
    assert counts["boxes_differ"] == 1
    with BoxIndex(str(tmp_path / "u" / BOXES_FOLDER)) as index:
        assert index.count == 2
        assert find_picture(index, sha256=hashing.sha256(ONE)) == cat
        assert find_picture(index, sha256="", name="c.jpg") == Detections()


def test_a_bad_sample_costs_itself(tars_of_given: Path, tmp_path: Path) -> None:
    cut = tmp_path / "x.tar"
    cut.write_bytes((tars_of_given / "shard-000000.tar").read_bytes())
    os.truncate(cut, 12_000)
    run(cut, "--unpack", tmp_path / "u", expect=3)
    (failure,) = (tmp_path / "u" / run_file.FAILURES_FILE).read_text().splitlines()
    assert json.loads(failure)["reason"] == "truncated"
    assert json.loads((tmp_path / "u" / CONVERSATIONS_FILE).read_bytes())


def test_a_folder_that_is_there_stays(tars_of_given: Path, tmp_path: Path) -> None:
    done = unpack(tars_of_given, tmp_path / "u")
    (tmp_path / "u" / CONVERSATIONS_FILE).touch()
    assert unpack(tars_of_given, tmp_path / "u") == done  # as after a kill behind the last rename
    with pytest.raises(OutputError, match="is there already"):
        unpack(tars_of_given / "shard-000000.tar", tmp_path / "u")
    run(tars_of_given, "--unpack", tmp_path / "u", "--overwrite")
    assert len(json.loads((tmp_path / "u" / CONVERSATIONS_FILE).read_bytes())) == 11
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    run(tars_of_given, "--unpack", tmp_path / "mine", "--overwrite", expect=2)
    assert files(tmp_path / "mine") == ["thesis.txt"]


def test_a_tar_that_vanishes_after_it_was_found_is_a_failure(
    tars_of_given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(tars_of_given, tmp_path / "tars"))
    whole = unpack(copy, tmp_path / "whole")
    monkeypatch.setattr(run_file.Run, "begin", lambda run: (copy / "shard-000000.tar").unlink())
    assert unpack(copy, tmp_path / "u").failures == whole.failures + 1
    assert '"reason":"missing"' in (tmp_path / "u" / run_file.FAILURES_FILE).read_text()


def test_a_killed_run_leaves_no_folder(tars_of_given: Path, tmp_path: Path) -> None:
    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(tars_of_given, tmp_path / "u", advance=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed(tars_of_given: Path, tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = tmp_path / f".u.writing-{socket.gethostname()}-{ended.pid}"
    left.mkdir()
    unpack(tars_of_given, tmp_path / "u")
    assert list(tmp_path.iterdir()) == [tmp_path / "u"]


def test_ordinary_names_stay() -> None:
    for name in ("a.jpg", "a/b c/d-1_2.JPG", "coco/train2017/000000000009.jpg", "ü/日本.png", ".hidden/x.png"):
        assert safe_name(name) == name


def test_names_that_a_file_system_refuses_are_others_and_told(tmp_path: Path) -> None:
    names = ["con.jpg", "a./b.jpg", "\u00fc" * 300 + ".jpg", "/".join(["d" * 190] * 30) + ".jpg", "ok.jpg"]
    pictures = [nasty.encode(nasty.photo(seed), "JPEG") for seed in range(len(names))]
    counts = unpacked(
        [Sample(id=n, images=(Media(name=name, data=pictures[n]),)) for n, name in enumerate(names)], tmp_path / "u"
    )
    records = json.loads((tmp_path / "u" / CONVERSATIONS_FILE).read_bytes())
    folder = tmp_path / "u" / IMAGES_FOLDER
    assert [(folder / record["image"]).read_bytes() for record in records] == pictures
    assert all(len(part.encode()) <= 255 for record in records for part in record["image"].split("/"))
    assert (counts["pictures"], counts["renamed"]) == (5, 4)
    assert {why: one["count"] for why, one in counts["renames"].items()} == {
        "names that some file systems refuse": 3,
        "names that this file system refuses": 1,
    }
    lines = (tmp_path / "u" / RENAMED_FILE).read_text().splitlines()
    assert [(line["name"], line["file"]) for line in map(json.loads, lines)] == [
        (name, record["image"]) for name, record in zip(names[:4], records[:4], strict=True)
    ]


def test_names_of_other_writers_are_told_on_screen(tmp_path: Path, mgtool) -> None:
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("aux.jpg", "n" * 300 + ".jpg", "\udcff.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(ONE)
            tar.addfile(info, io.BytesIO(ONE))
    code, out, err = mgtool("pack", tmp_path / "x.tar", "--unpack", tmp_path / "u", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert (said["pictures"], said["renamed"]) == (3, 3)
    assert said["renames"]["names that some file systems refuse"]["examples"][0] == "aux.jpg -> _aux.jpg"
