"""`mgtool detect` from the command line: what it writes, what it survives, what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nasty
import numpy as np
import psutil
import pytest
from PIL import Image

from mgtool.boxes import formats

TESTS = Path(__file__).parents[1]
IMAGES = TESTS / "images"


def _command(*args: object) -> list[str]:
    return [sys.executable, "-m", "mgtool.commands.main", "detect", *map(str, args)]


def _mgtool(*args: object, code: int = 0, input: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(_command(*args), capture_output=True, input=input, timeout=120, check=False)
    assert done.returncode == code, done.stderr.decode()
    return done


def _bytes(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file() and p.name != "run.json"}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts of a real photograph, some of them twice, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("many")
    with Image.open(IMAGES / "coffee.jpg") as picture:
        for number in range(60):
            picture.crop((number, number, 500 + number, 330)).save(folder / f"{number:03d}.jpg")
    for number in range(0, 60, 10):
        shutil.copy(folder / f"{number:03d}.jpg", folder / f"{number:03d}-again.jpg")
    (folder / "030-bad.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def whole(many: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "boxes"
    _mgtool(many, "--out", out, "--shard-size", 16, "-q", code=3)
    return out


def test_one_line_for_each_distinct_picture_in_input_order(many: Path, whole: Path) -> None:
    names = [record.image for record in formats.read(str(whole))]
    assert names == sorted(names, key=lambda name: Path(name).stem)
    assert len(names) == 60
    assert [path.name for path in sorted(whole.glob("boxes-*"))] == [f"boxes-{n:06d}.jsonl" for n in range(4)]
    results = json.loads((whole / "run.json").read_text())["counts"]
    assert (results["pictures"], results["duplicates"], results["failures"]) == (60, 6, {"not_an_image": 1})
    assert sum(results["boxes_a_picture"].values()) == 60
    assert [line["id"] for line in _lines(whole / "failures.jsonl")] == ["030-bad.jpg"]


@pytest.mark.parametrize(("workers", "batch"), [(0, 1), pytest.param(1, 5, marks=pytest.mark.slow), (3, 32)])
def test_workers_and_batch_size_change_nothing(
    many: Path, whole: Path, tmp_path: Path, workers: int, batch: int
) -> None:
    out = tmp_path / "boxes"
    _mgtool(many, "--out", out, "--shard-size", 16, "--workers", workers, "--batch-size", batch, "-q", code=3)
    assert _bytes(out) == _bytes(whole)


def test_several_devices_change_nothing(many: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "boxes"
    _mgtool(many, "--out", out, "--shard-size", 16, "--device", "cpu,cpu", "--visualize", 1, "-q", code=3)
    assert _bytes(out) == _bytes(whole)
    assert (out / "visualized").is_dir()


@pytest.mark.parametrize(
    ("device", "workers", "children", "message"),
    [
        ("cpu,cpu", 0, 2, "the process on cpu was killed: is memory short?"),
        ("cpu", 2, 2, "a process that decodes pictures was killed: is memory short? --workers 1 needs less"),
    ],
)
def test_a_killed_process_ends_the_run_which_then_goes_on(
    many: Path, whole: Path, tmp_path: Path, device: str, workers: int, children: int, message: str
) -> None:
    out = tmp_path / "boxes"
    options = (many, "--out", out, "--shard-size", 16, "--device", device, "--batch-size", 1, "-q")
    process = subprocess.Popen(_command(*options, "--workers", workers), stderr=subprocess.PIPE)
    journal = out / ".detect.journal.jsonl"
    while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= 5):
        time.sleep(0.002)
    started = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "multiprocessing" in " ".join(child.cmdline()) and "resource_tracker" not in " ".join(child.cmdline())
    ]
    assert len(started) >= children
    started[-1].kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.decode().splitlines() == [f"error: {message}"]
    _mgtool(*options, code=3)
    assert _bytes(out) == _bytes(whole)


@pytest.mark.parametrize("format", ["jsonl", pytest.param("mg-llava", marks=pytest.mark.slow)])
def test_shares_end_as_one_run_would(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    options = (many, "--shard-size", 16, "--format", format, "--visualize", 30, "-q")
    _mgtool(*options, "--out", tmp_path / "whole", code=3)
    out = tmp_path / "boxes"
    for rank in (2, 0):
        _mgtool(*options, "--out", out, "--rank", rank, "--world-size", 3)
        assert not (out / "failures.jsonl").exists()
    refused = _mgtool(*options, "--out", out, "--rank", 1, "--world-size", 3, "--threshold", 0.9, code=2)
    assert b"threshold" in refused.stderr
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_NTASKS", "3")
    _mgtool(*options, "--out", out, "--rank", "slurm", code=3)
    assert _bytes(out) == _bytes(tmp_path / "whole")
    assert len(_bytes(out / "visualized")) == 30
    assert _bytes(out / "visualized") == _bytes(tmp_path / "whole" / "visualized")
    assert sorted(p.name for p in out.iterdir() if p.name.startswith(".")) == []
    done = (out / "run.json").read_bytes()
    _mgtool(*options, "--out", out, "--rank", 0, "--world-size", 3, code=3)
    _mgtool(*options, "--out", out, code=3)
    assert (out / "run.json").read_bytes() == done


def test_shares_that_end_together_are_joined_once(many: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "boxes"
    command = _command(many, "--out", out, "--shard-size", 16, "-q", "--world-size", 3)
    runs = [subprocess.Popen([*command, "--rank", str(rank)]) for rank in range(3)]
    assert {run.wait(timeout=120) for run in runs} <= {0, 3}
    assert _bytes(out) == _bytes(whole)
    assert json.loads((out / "run.json").read_text())["counts"]["pictures"] == 60


def test_killed_and_run_again_gives_the_same_bytes(many: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "boxes"
    command = _command(many, "--out", out, "--shard-size", 16, "--batch-size", 2, "-q")
    process = subprocess.Popen(command, start_new_session=True)
    journal = out / ".detect.journal.jsonl"
    while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= 20):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "failures.jsonl").exists()
    done = journal.read_bytes().count(b"\n")
    assert 20 <= done < 67
    with journal.open("ab") as file:
        file.write(b'{"id":"torn')
    _mgtool(many, "--out", out, "--shard-size", 16, "--workers", 1, "--batch-size", 7, "-q", code=3)
    assert _bytes(out) == _bytes(whole)
    before = (out / "run.json").read_bytes()
    _mgtool(many, "--out", out, "--shard-size", 16, "-q", code=3)
    assert (out / "run.json").read_bytes() == before


@pytest.mark.parametrize("gone", ["boxes-000001.jsonl", "failures.jsonl"])
def test_a_file_that_was_deleted_is_there_again_after_the_same_command(
    many: Path, whole: Path, tmp_path: Path, gone: str
) -> None:
    out = tmp_path / "boxes"
    shutil.copytree(whole, out)
    (out / gone).unlink()
    _mgtool(many, "--out", out, "--shard-size", 16, "-q", code=3)
    assert _bytes(out) == _bytes(whole)


def test_another_pipe_is_another_input(tmp_path: Path) -> None:
    """A pipe has no name that could tell; it is read again, and compared."""
    names = [str(path).encode() for path in sorted(IMAGES.iterdir())]
    command = ("-", "--out", tmp_path / "boxes", "-q")
    _mgtool(*command, input=b"\n".join(names[:2]))
    before = _bytes(tmp_path / "boxes")
    _mgtool(*command, input=b"\n".join(names[:2]))
    done = _mgtool(*command, input=names[2], code=2)
    assert b"boxes holds a run with stdin" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert _bytes(tmp_path / "boxes") == before


def test_a_run_that_was_killed_goes_on_with_the_same_pipe_alone(many: Path, tmp_path: Path) -> None:
    names = [str(path) for path in sorted(many.iterdir())]
    out = tmp_path / "boxes"
    process = subprocess.Popen(_command("-", "--out", out, "--batch-size", 2, "-q"), stdin=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write("\n".join(names[:30]) + "\n")
    process.stdin.flush()
    journal = out / ".detect.journal.jsonl"
    while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= 4):
        time.sleep(0.002)
    process.kill()
    process.communicate()
    done = _mgtool("-", "--out", out, "-q", input="\n".join(names[1:]).encode(), code=2)
    assert b"where the input has" in done.stderr
    _mgtool("-", "--out", out, "-q", input="\n".join(names).encode(), code=3)
    assert len(_lines(out / "boxes-000000.jsonl")) == 60


def test_boxes_may_lie_among_the_pictures(tmp_path: Path) -> None:
    """Neither a finished run's files nor its drawings count as input, and notes beside the pictures are no change."""
    photos = tmp_path / "photos"
    shutil.copytree(IMAGES, photos)
    command = (photos, "--out", photos / "boxes", "--visualize", 2, "-q")
    _mgtool(*command)
    (photos / "notes.txt").write_text("new")
    _mgtool(*command)
    assert len(_lines(photos / "boxes" / "boxes-000000.jsonl")) == 3
    _mgtool(photos, "--out", tmp_path / "others", "-q")
    assert len(_lines(tmp_path / "others" / "boxes-000000.jsonl")) == 3
    shutil.copy(IMAGES / "coffee.jpg", photos / "another.jpg")
    assert b"inputs" in _mgtool(*command, code=2).stderr


def test_another_threshold_is_refused_and_overwrite_starts_afresh(tmp_path: Path) -> None:
    out = tmp_path / "boxes"
    _mgtool(IMAGES, "--out", out, "-q")
    done = _mgtool(IMAGES, "--out", out, "--threshold", 0.6, "-q", code=2)
    assert b"threshold" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    _mgtool(IMAGES, "--out", out, "--threshold", 0.6, "--overwrite", "-q")
    assert [line["labels"] for line in _lines(out / "boxes-000000.jsonl")] == [["person"], [], []]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--detector", "nanodet:x:"), "--detector nanodet:x:: give one of nanodet"),
        (("--dtype", "bfloat16"), "--dtype bfloat16: --detector nanodet computes in float32"),
        (("--vocabulary", "cat,dog"), "--vocabulary: --detector nanodet looks for no words; --keep chooses labels"),
        (("--detector", "boxes:x", "--vocabulary", "cat,"), "--vocabulary: --detector boxes:x looks for no words"),
        (("--detector", "owlv2:x"), "--detector owlv2 looks for words: give --vocabulary or --tagger"),
        (("--detector", "hf:x", "--tagger", "ram++:x", "--vocabulary", "lvis"), "--vocabulary and --tagger both say"),
        (("--detector", "mmdet:x.py:y.pth"), "y.pth: no such file; download the checkpoint and give its path"),
        (("--device", "cpu,gpu"), "--device gpu: give auto, cpu, cuda or cuda:N"),
        (("nowhere",), "nowhere: no such file or folder"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_the_folder_free(tmp_path: Path, options: tuple[str, ...], line: str) -> None:
    (tmp_path / "one.jpg").write_bytes((IMAGES / "coffee.jpg").read_bytes())
    done = _mgtool(tmp_path / "one.jpg", *options, "--out", tmp_path / "boxes", code=2)
    assert done.stderr.decode().startswith(f"error: {line}")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "boxes").exists()


def test_a_run_that_found_nothing_to_look_at_does_not_keep_the_folder(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    _mgtool(tmp_path / "empty.txt", "--out", tmp_path / "boxes", code=2)
    _mgtool(IMAGES / "coffee.jpg", "--out", tmp_path / "boxes", "-q")
    assert [line["image"] for line in _lines(tmp_path / "boxes" / "boxes-000000.jsonl")] == ["coffee.jpg"]


def test_every_kind_of_picture_gives_boxes_or_a_reason(tmp_path: Path) -> None:
    expected: dict[str, str | None] = nasty.make(tmp_path / "nasty")
    out = tmp_path / "boxes"
    done = _mgtool(tmp_path / "nasty", "--out", out, code=3)
    failures = {line["id"]: line["reason"] for line in _lines(out / "failures.jsonl")}
    assert failures == {name: reason for name, reason in expected.items() if reason is not None}
    assert list(failures) == sorted(failures)
    assert done.stderr.decode().splitlines()[-1] == f"failed: {len(failures)}, see {out / 'failures.jsonl'}"
    names = {line["image"] for line in _lines(out / "boxes-000000.jsonl")}
    assert names == {name for name, reason in expected.items() if reason is None}
    _mgtool(tmp_path / "nasty", "--out", out, "--allow-failures", "50%")


def test_a_question_file_names_each_picture_once(tmp_path: Path) -> None:
    asked = [("a", "coffee.jpg"), ("b", "coffee.jpg"), ("c", "gone.jpg"), ("d", "gone.jpg")]
    lines = [json.dumps({"question_id": key, "image": name, "text": "What?"}) for key, name in asked]
    (tmp_path / "q.jsonl").write_text("\n".join(lines))
    out = tmp_path / "boxes"
    _mgtool(tmp_path / "q.jsonl", "--images", IMAGES, "--out", out, "--format", "mg-llava", code=3)
    assert [entry["id"] for entry in json.loads((out / "boxes.json").read_text())] == ["a", "b"]
    assert [(line["id"], line["reason"]) for line in _lines(out / "failures.jsonl")] == [
        ("c", "missing"),
        ("d", "missing"),
    ]


def test_stdout_carries_box_lines_alone() -> None:
    listed = "\n".join(str(path) for path in sorted(IMAGES.glob("*.jpg"))).encode()
    lines = _mgtool("-", "--out", "-", input=listed).stdout.splitlines()
    assert [json.loads(line)["labels"] for line in lines] == [["person", "chair"], [], ["cup"]]


@pytest.mark.parametrize("format", ["coco", "mg-llava", "parquet", "yolo", "voc"])
def test_every_format_reads_back(tmp_path: Path, format: str) -> None:
    _mgtool(IMAGES, "--out", tmp_path / "lines", "-q")
    _mgtool(IMAGES, "--out", tmp_path / "other", "--format", format, "-q")
    lines, other = (list(formats.read(str(tmp_path / name))) for name in ("lines", "other"))
    assert [(r.image, r.labels, r.scores) for r in other] == [(r.image, r.labels, r.scores) for r in lines]
    boxes = [np.array(next(r.boxes for r in some if r.boxes)) for some in (lines, other)]
    np.testing.assert_allclose(boxes[0], boxes[1], atol=1e-9)


def test_visualize_draws_the_first_pictures(tmp_path: Path) -> None:
    boxes = tmp_path / "boxes"
    _mgtool(IMAGES, "--out", boxes, "-q")
    hint = _mgtool(IMAGES, "--out", boxes, "--visualize", 1).stderr.decode()
    assert not (boxes / "visualized").exists()
    assert f"--detector boxes:{boxes} --out OTHER" in " ".join(hint.split())
    drawn_again = tmp_path / "again"
    _mgtool(IMAGES, "--detector", f"boxes:{boxes}", "--out", drawn_again, "--visualize", 1, "-q")
    _mgtool(IMAGES, "--out", boxes, "--visualize", 1, "--overwrite", "-q")
    assert _bytes(boxes / "visualized") == _bytes(drawn_again / "visualized")
    (drawn,) = (tmp_path / "boxes" / "visualized").iterdir()
    with Image.open(drawn) as file, Image.open(IMAGES / "astronaut_portrait.jpg") as plain:
        assert file.size == plain.size
        changed = np.abs(np.asarray(file, dtype=int) - np.asarray(plain, dtype=int)).max(axis=2) > 64
    assert 0.005 < changed.mean() < 0.2


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    done = _mgtool(IMAGES, "--out", tmp_path / "boxes", "--dry-run", "--json")
    assert json.loads(done.stdout)["pictures"] == 3
    assert not (tmp_path / "boxes").exists()
