"""What an input holds and a run does not use is said by every command, and `--strict` makes it exit code 3."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

PHOTOS = Path(__file__).parents[2] / "examples/photos"
LEFT_OUT = {".txt files": {"count": 4, "examples": ["pictures/0.txt", "pictures/1.txt", "pictures/2.txt"]}}
COMMANDS: dict[str, tuple[Any, ...]] = {
    "detect": ("--workers", 0),
    "pack": ("--workers", 1),
    "infer": ("--task", "caption", "--max-new-tokens", 1, "--model", "tiny"),
}


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    shutil.copy(PHOTOS / "images/cat.jpg", "pictures")
    for number in range(4):
        Path(f"pictures/{number}.txt").touch()
    return "pictures"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_counts_what_it_leaves_out(command: str, pictures: str, mgtool) -> None:
    words = (command, pictures, *COMMANDS[command], "--json", "--out", "o/x.jsonl" if command == "infer" else "o")
    for more, expected in ((("--dry-run", "--strict"), 3), ((), 0), (("--strict",), 3)):
        code, said, err = mgtool(*words, *more)
        assert (code, json.loads(said)["left_out"]) == (expected, LEFT_OUT), err
    assert json.loads(Path("o/run.json").read_text())["counts"]["left_out"] == LEFT_OUT


@pytest.mark.parametrize("command", COMMANDS)
def test_stdout_counts_too(command: str, pictures: str, mgtool) -> None:
    words = (command, pictures, *COMMANDS[command], "--out", "-")
    code, _, err = mgtool(*words)
    assert code == 0, err
    assert "pictures/2.txt, ...)" in " ".join(err.split())
    assert mgtool(*words, "--strict")[0] == 3
    for path in Path(pictures).glob("*.txt"):
        path.unlink()
    assert mgtool(*words, "--strict")[0] == 0


def test_boxes_that_are_not_used_count(pictures: str, mgtool) -> None:
    box = {
        "image": "cat.jpg",
        "sha256": "0" * 64,
        "width": 100,
        "height": 100,
        "scores": [1.0] * 3,
        "labels": ["cat"] * 3,
    }
    Path("boxes.jsonl").write_text(json.dumps({**box, "boxes": [[1, 1, 9, 9], [2, 2, 8, 8], [10, 10, 5, 5]]}) + "\n")
    words = ("infer", "pictures/cat.jpg", *COMMANDS["infer"], "--boxes", "boxes.jsonl", "--json", "--out", "a.jsonl")
    code, said, err = mgtool(*words, "--strict", "--allow-failures", "9")
    assert (code, len(json.loads(said)["left_out"])) == (3, 1), err


def test_unpack_counts_members_that_are_no_samples(tmp_path: Path, mgtool) -> None:
    cat = (PHOTOS / "images/cat.jpg").read_bytes()
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, data in (("0.jpg", cat), ("0.npy", b"x"), ("README", b"x"), ("1.npy", b"x")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    code, said, err = mgtool("pack", tmp_path / "x.tar", "--unpack", tmp_path / "out", "--json", "--strict")
    counts = json.loads(said)
    assert code == 3, err
    assert {name: one["count"] for name, one in counts["left_out"].items()} == {
        ".npy members of tars": 2,
        "members of tars without an ending": 1,
    }
    (failure,) = map(json.loads, (tmp_path / "out/failures.jsonl").read_text().splitlines())
    assert (failure["reason"], failure["id"]) == ("bad_record", "1")
    assert "neither picture, video nor text in .npy" in failure["detail"]
