"""`mgtool pack`: what it writes opens everywhere, is the same however it was made, and loses nothing silently."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import nasty
import pytest

from mgtool.files import hashing
from mgtool.inputs import sources
from mgtool.media import images, reading
from mgtool.records import BoxRecord, FrameDetections, Sample, dumps
from mgtool.tars.samples import read_stream

SHARD = 4
NAMES = [f"p/{number:02}.jpg" for number in range(14)]


def run(*args: object, stdin: bytes = b"", expect: int = 0) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "mgtool.commands.main", "pack", *map(str, args)]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    assert done.returncode == expect, done.stderr.decode()
    return done


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set: single pictures, PNGs among them, one of two pictures, and a text."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "photos" / "p").mkdir(parents=True)
    records = []
    for number, name in enumerate(NAMES):
        form = "PNG" if number % 5 == 4 else "JPEG"
        (folder / "photos" / name).write_bytes(nasty.encode(nasty.photo(number), form))
        turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": f"Thing {number}."}]
        records.append({"id": number, "image": name, "conversations": turns, "weight": number / 2})
    records[7]["image"] = [NAMES[7], NAMES[0]]
    del records[9]["image"]
    (folder / "train.json").write_text(json.dumps(records))
    (folder / "boxes-000000.jsonl").write_bytes(b"".join(_box_line(folder, n, name) for n, name in enumerate(NAMES)))
    return folder


def _box_line(folder: Path, number: int, name: str) -> bytes:
    """Some of the first pictures have no objects, others do."""
    data = (folder / "photos" / name).read_bytes()
    boxes = ((0.0, 0.5, 10.0, 20.0),) * (1 if number == 1 else max(0, number - 5))
    record = BoxRecord(
        sha256=hashing.sha256(data),
        width=64,
        height=48,
        image=name,
        boxes=boxes,
        scores=(0.5,) * len(boxes),
        labels=("cat",) * len(boxes),
    )
    return dumps(record) + b"\n"


def _args(inputs: Path, out: Path) -> list[object]:
    boxes = inputs / "boxes-000000.jsonl"
    photos = inputs / "photos"
    return [inputs / "train.json", "--images", photos, "--boxes", boxes, "--out", out, "--shard-size", SHARD, "-q"]


@pytest.fixture(scope="module")
def packed(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "tars"
    run(*_args(inputs, out), "--workers", 1)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.json"}


def urls(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.glob("*.tar"))]


def samples(folder: Path) -> list[Sample]:
    found = list(sources.read_samples([str(folder)]))
    assert all(isinstance(item, Sample) for item in found)
    return found  # type: ignore[return-value]


def test_what_is_packed_is_read_back(inputs: Path, packed: Path) -> None:
    back = samples(packed)
    given = list(sources.read_samples([str(inputs / "train.json")], images=str(inputs / "photos")))
    assert [(s.id, s.turns, s.metadata) for s in back] == [(s.id, s.turns, s.metadata) for s in given]
    assert [[m.name for m in s.images] for s in back] == [[m.name for m in s.images] for s in given]
    for number in (0, 7, 13):
        assert back[number].images[0].data == reading.read_bytes(given[number].images[0])
    assert [len(m.detections[0].boxes) for s in back for m in s.images] == [0, 1, 0, 0, 0, 0, 1, 2, 0, 3, 5, 6, 7, 8]
    assert back[12].images[0].detections[0].labels == ("cat",) * 7


def test_members_are_uniform_sorted_and_anonymous(packed: Path) -> None:
    keys, kinds = [], set()
    for url in urls(packed):
        with tarfile.open(url) as tar:
            members = tar.getmembers()
        assert [m.name for m in members] == sorted(m.name for m in members)
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
        by_key: dict[str, list[str]] = {}
        for member in members:
            key, _, part = member.name.partition(".")
            by_key.setdefault(key, []).append(part)
        keys += by_key
        kinds |= {tuple(parts) for parts in by_key.values()}
    assert keys == [f"{number:09}" for number in range(14)]
    assert kinds == {("1.jpg", "boxes.json", "boxes.npy", "jpg", "json")}


def test_json_has_the_same_types_everywhere_and_no_null(packed: Path) -> None:
    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shape(entry) for key, entry in value.items()}
        if isinstance(value, list):
            assert value
            assert len({json.dumps(shape(entry)) for entry in value}) == 1
            return [shape(value[0])]
        assert value is not None
        return type(value).__name__

    for part in ("json", "boxes.json"):
        shapes = []
        for url in urls(packed):
            with tarfile.open(url) as tar:
                found = [member for member in tar if member.name.partition(".")[2] == part]
                shapes += [json.dumps(shape(json.load(tar.extractfile(member)))) for member in found]
        assert len(shapes) == 14
        assert len(set(shapes)) == 1


def test_another_format_is_converted_once_and_said(packed: Path) -> None:
    with tarfile.open(urls(packed)[1]) as tar:
        about = json.load(tar.extractfile("000000004.json"))
        data = tar.extractfile("000000004.jpg").read()
    assert about["images"][0]["converted_from"] == "PNG"
    assert images.probe(data, with_format=True) == (64, 48, "JPEG")


def test_sidecars_say_what_the_shard_is(packed: Path) -> None:
    for url in urls(packed):
        about = json.loads(Path(url).with_suffix(".json").read_bytes())
        data = Path(url).read_bytes()
        assert (about["bytes"], about["sha256"]) == (len(data), hashing.sha256(data))
    assert json.loads((packed / "run.json").read_bytes())["counts"]["samples"] == 14


def test_workers_and_a_second_run_change_no_byte(inputs: Path, packed: Path, tmp_path: Path) -> None:
    run(*_args(inputs, tmp_path / "two"), "--workers", 2)
    assert contents(tmp_path / "two") == contents(packed)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "two").glob("*.tar")}
    run(*_args(inputs, tmp_path / "two"), "--workers", 1)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "two").glob("*.tar")} == before


def test_killed_at_any_point_ends_with_the_same_bytes(inputs: Path, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "tars"
    command = [sys.executable, "-m", "mgtool.commands.main", "pack", *map(str, _args(inputs, out))]
    for wanted, workers in ((1, 1), (2, 2), (3, 1)):
        process = subprocess.Popen([*command, "--workers", str(workers)], stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(out.glob("*.tar"))) < wanted:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for tar in out.glob("*.tar"):
            assert tar.read_bytes() == (packed / tar.name).read_bytes()
    run(*_args(inputs, out), "--workers", 2)
    assert contents(out) == contents(packed)


def test_a_torn_shard_is_made_again(inputs: Path, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "tars"
    run(*_args(inputs, out))
    (out / "shard-000001.json").unlink()
    os.truncate(out / "shard-000002.tar", 1000)
    (out / "shard-000003.tar").unlink()
    run(*_args(inputs, out))
    assert contents(out) == contents(packed)


def test_other_options_are_refused_and_overwrite_starts_afresh(inputs: Path, tmp_path: Path) -> None:
    run(*_args(inputs, tmp_path / "o"))
    refused = run(*_args(inputs, tmp_path / "o"), "--shard-size", 5, expect=2)
    assert b"shard_size" in refused.stderr
    run(*_args(inputs, tmp_path / "o"), "--shard-size", 20, "--overwrite")
    assert [path.name for path in (tmp_path / "o").glob("*.tar")] == ["shard-000000.tar"]


def test_pictures_of_another_folder_are_refused(inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(*_args(inputs, out), "--workers", 1)
    (tmp_path / "moved").symlink_to(inputs / "photos")
    done = run(*_args(inputs, out), "--images", tmp_path / "moved", expect=2)
    assert b"holds a run with other images: add --append" in done.stderr
    other = [*_args(inputs, out), "--shard-size", 20]
    assert run(*other, "--dry-run", expect=2).stderr == run(*other, expect=2).stderr
    run(*other, "--dry-run", "--overwrite")


@pytest.mark.parametrize("options", [("--shard-size", "9KB"), ("--split", "train=0.5,val=0.5", "--shard-size", 2)])
def test_complete_tars_stay_when_pictures_are_gone(inputs: Path, tmp_path: Path, options: tuple[object, ...]) -> None:
    shutil.copytree(inputs / "photos", tmp_path / "photos")
    out = tmp_path / "out"
    args = [inputs / "train.json", "--images", tmp_path / "photos", "--out", out, *options, "--workers", 1, "-q"]
    run(*args)
    before = contents(out)
    for name in NAMES[:6]:
        (tmp_path / "photos" / name).unlink()
    said = run(*args, expect=2).stderr.decode()
    assert "would hold other samples now" in said
    assert "--overwrite" in said
    assert run(*args, "--dry-run", expect=2).stderr.decode() == said
    run(*args, "--dry-run", "--overwrite")
    assert contents(out) == before


def test_a_picture_and_a_video_in_one_sample_are_a_failure(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]
    both = {"id": 1, "image": "a.jpg", "video": "a.mp4", "conversations": turns}
    (tmp_path / "a.json").write_text(json.dumps([both, {"id": 2, "conversations": turns}]))
    run(tmp_path / "a.json", "--images", tmp_path, "--out", tmp_path / "out", expect=3)
    [failure] = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert (failure["id"], failure["reason"]) == (1, "unsupported")


def test_nasty_pictures_are_failures_with_their_reasons(tmp_path: Path) -> None:
    wanted = nasty.make(tmp_path / "in")
    run(tmp_path / "in", "--out", tmp_path / "out", "-q", "--workers", 1, expect=3)
    lines = (tmp_path / "out" / "failures.jsonl").read_text().splitlines()
    failures = {line["id"]: line["reason"] for line in map(json.loads, lines)}
    assert failures == {name: reason for name, reason in wanted.items() if reason}
    back = {sample.id: sample for sample in samples(tmp_path / "out")}
    assert set(back) == {name for name, reason in wanted.items() if not reason}
    for sample in back.values():
        assert images.decode(sample.images[0].data).mode == "RGB"
    again = run(tmp_path / "in", "--out", tmp_path / "out", "--allow-failures", "5", expect=0)
    said = again.stderr.decode().splitlines()
    assert said[-1] == f"failed: {len(failures)}, see {tmp_path / 'out' / 'failures.jsonl'}"


@pytest.mark.parametrize("kilobytes", [1, 20, 28])
def test_a_full_disk_is_said_in_one_line(inputs: Path, tmp_path: Path, kilobytes: int) -> None:
    limited = f"ulimit -f {kilobytes}; exec {sys.executable} -m mgtool.commands.main pack"
    arguments = map(str, [*_args(inputs, tmp_path / "o"), "--workers", 1])
    done = subprocess.run(["bash", "-c", f'{limited} "$@"', "-", *arguments], capture_output=True, check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"cannot be written" in done.stderr
    assert not list(tmp_path.glob("o/*.tar"))


def test_dry_run_writes_nothing_and_counts(inputs: Path, tmp_path: Path) -> None:
    done = run(*_args(inputs, tmp_path / "o"), "--dry-run", "--json")
    plan = json.loads(done.stdout)
    assert (plan["samples"], plan["shards"], plan["format"], plan["pictures_a_sample"]) == (14, 4, "JPEG", 2)
    assert not (tmp_path / "o").exists()


def test_stdin_to_stdout(inputs: Path) -> None:
    done = run("-", "--images", inputs / "photos", "--out", "-", "-q", stdin=(inputs / "train.json").read_bytes())
    items = list(read_stream(io.BytesIO(done.stdout), where="-"))
    assert [item.id for item in items] == list(range(14))
    again = run("-", "--out", "-", "-q", stdin=done.stdout)
    back = list(read_stream(io.BytesIO(again.stdout), where="-"))
    assert back == items


@pytest.mark.parametrize(("policy", "code", "kept"), [("fail", 3, 13), ("empty", 0, 14), ("skip", 0, 13)])
def test_a_picture_without_boxes(inputs: Path, tmp_path: Path, policy: str, code: int, kept: int) -> None:
    lines = (inputs / "boxes-000000.jsonl").read_bytes().splitlines(keepends=True)
    few = tmp_path / "few.jsonl"
    few.write_bytes(b"".join(lines[:13]))
    out = tmp_path / "o"
    run(*_args(inputs, out), "--boxes", few, "--missing-boxes", policy, expect=code)
    assert len(samples(out)) == kept
    reasons = [json.loads(line)["reason"] for line in (out / "failures.jsonl").read_text().splitlines()]
    assert reasons == (["no_boxes"] if policy == "fail" else [])


def test_published_boxes_are_found_by_id(inputs: Path, tmp_path: Path) -> None:
    rows = [{"id": n, "boxes": [[0, 0, 1, 1]], "scores": [0.25], "labels": ["a"]} for n in range(14)]
    (tmp_path / "boxes.json").write_text(json.dumps(rows))
    run(*_args(inputs, tmp_path / "o"), "--boxes", tmp_path / "boxes.json", "--missing-boxes", "empty")
    assert samples(tmp_path / "o")[3].images[0].detections[0].scores == (0.25,)


def test_boxes_of_larger_pictures_are_not_those_of_their_copies(inputs: Path, tmp_path: Path) -> None:
    """Copies under the same names, half the size: each is a failure, none is packed with boxes beside its objects."""
    for name in NAMES:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(nasty.encode(nasty.photo(size=(32, 24)), "JPEG"))
    options = ("--images", tmp_path / "photos", "--boxes", inputs, "--out", tmp_path / "o", "-q")
    run(inputs / "train.json", *options, expect=3)
    failures = [json.loads(line) for line in (tmp_path / "o" / "failures.jsonl").read_text().splitlines()]
    assert {failure["reason"] for failure in failures} == {"bad_boxes"}
    assert [sample.id for sample in samples(tmp_path / "o")] == [9]


def test_videos_and_their_frames(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height = 64, 48
        for seed in range(4):
            frame = av.VideoFrame.from_image(nasty.photo(seed))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "clip.mp4").read_bytes()[:300])
    frames = (FrameDetections(0, 0.0), FrameDetections(2, 0.5, ((0.0, 0.0, 9.0, 9.0),), (0.5,), ("cup",)))
    record = BoxRecord(
        sha256=hashing.sha256((tmp_path / "clip.mp4").read_bytes()),
        width=64,
        height=48,
        video="clip.mp4",
        frames=frames,
    )
    (tmp_path / "b.jsonl").write_bytes(dumps(record) + b"\n")
    questions = [{"id": n, "video": f"{n}.mp4", "conversations": []} for n in ("clip", "cut")]
    (tmp_path / "q.json").write_text(json.dumps(questions))
    run(tmp_path / "q.json", "--boxes", tmp_path / "b.jsonl", "--out", tmp_path / "o", "-q", expect=3)
    (sample,) = samples(tmp_path / "o")
    assert sample.video.data == (tmp_path / "clip.mp4").read_bytes()
    assert sample.video.frame_times == (0.0, 0.5)
    assert [found.labels for found in sample.video.detections] == [(), ("cup",)]
    assert json.loads((tmp_path / "o" / "failures.jsonl").read_text())["reason"] == "corrupt"


def test_a_picture_that_the_form_cannot_hold_costs_only_itself(tmp_path: Path) -> None:
    """JPEG ends at 65,500 pixels a side."""
    (tmp_path / "a.jpg").write_bytes(nasty.encode(nasty.photo(), "JPEG"))
    (tmp_path / "b.png").write_bytes(nasty.encode(nasty.photo(1, (66_000, 4)), "PNG"))
    (tmp_path / "c.jpg").write_bytes(nasty.encode(nasty.photo(2), "JPEG"))
    records = [{"id": name, "image": name, "conversations": []} for name in ("a.jpg", "b.png", "c.jpg")]
    text = {"id": "text", "conversations": [{"from": "human", "value": "Hi"}]}
    (tmp_path / "x.json").write_text(json.dumps([*records, text]))
    run(tmp_path / "x.json", "--out", tmp_path / "o", "-q", expect=3)
    assert [sample.id for sample in samples(tmp_path / "o")] == ["a.jpg", "c.jpg", "text"]
    failure = json.loads((tmp_path / "o" / "failures.jsonl").read_text())
    assert (failure["id"], failure["reason"]) == ("b.png", "unsupported")


def test_wrong_usage_is_one_line(inputs: Path, tmp_path: Path) -> None:
    for args in (
        [tmp_path / "nowhere", "--out", tmp_path / "o"],
        [inputs / "train.json", "--out", tmp_path / "o", "--missing-boxes", "maybe"],
        [inputs / "train.json", "--out", tmp_path / "o", "--boxes", tmp_path / "nowhere"],
        [inputs / "train.json", "--out", "-", "--json"],
    ):
        done = run(*args, expect=2)
        assert len(done.stderr.strip().splitlines()) == 1
