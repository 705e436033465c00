"""Ranks of `detect` that come, die and come back: each picture is looked at once, and the last to end joins all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from mgtool.detection.options import DetectOptions
from mgtool.detection.output import DetectionOutput
from mgtool.runs.shares import Share
from mgtool.stages.detect import Detected, detect

PICTURES = 12


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Parts of a photograph; the second is none, the last but one is the same as the eighth."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    with Image.open(Path(__file__).parents[1] / "images" / "coffee.jpg") as picture:
        for number in range(PICTURES):
            left = 7 if number == 10 else number
            picture.crop((left, 0, left + 200, 150)).save(folder / f"{number:02d}.png")
    (folder / "01.png").write_bytes(b"none")
    return folder


@pytest.fixture
def rank(pictures: Path, tmp_path: Path):
    """Runs a rank."""

    def run(rank: int | str, world_size: int, out: str = "boxes") -> Detected:
        options = DetectOptions(detector="tiny", workers=0, rank=str(rank), world_size=world_size, visualize=6)
        return detect([pictures], tmp_path / out, options)

    return run


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "run.json"
    }


def _spoil(pictures: Path, numbers: tuple[int, ...]) -> None:
    """Pictures that are done: of the same sizes, as nobody reads them again."""
    for number in numbers:
        path = pictures / f"{number:02d}.png"
        path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("after", [1, 5])
def test_another_number_goes_on_where_ranks_stopped(after: int, rank, pictures: Path, tmp_path: Path) -> None:
    rank(0, 1, "one")
    for number in (0, 2):
        assert 1 in [share.rank for share in rank(number, 3).missing]
    _spoil(pictures, (0, 1, 2, 3, 8, 9, 10, 11))
    for number in range(after):
        done = rank(number, after)
    assert (done.missing, done.share) == ((), "")
    assert _files(tmp_path / "boxes") == _files(tmp_path / "one")


def test_ranks_go_on_where_one_process_stopped(rank, pictures: Path, tmp_path: Path, monkeypatch) -> None:
    rank(0, 1, "one")
    add, seen = DetectionOutput.add, list[object]()

    def dies(self, entry) -> None:
        seen.append(entry)
        if len(seen) > 8:
            raise KeyboardInterrupt
        add(self, entry)

    with monkeypatch.context() as patched:
        patched.setattr(DetectionOutput, "add", dies)
        with pytest.raises(KeyboardInterrupt):
            rank(0, 1)
    _spoil(pictures, tuple(range(8)))
    for number in (1, 0):
        rank(number, 2)
    assert _files(tmp_path / "boxes") == _files(tmp_path / "one")


def test_what_a_dead_rank_left_is_taken_over(rank, tmp_path: Path) -> None:
    rank(0, 1, "one")
    rank(1, 3)
    folder = tmp_path / "boxes" / ".shares" / Share(1, 3).name
    record = json.loads((folder / "run.json").read_bytes())
    del record["times"]["finished"]
    (folder / "run.json").write_text(json.dumps(record))
    journal = folder / ".detect.journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:2]))
    assert [share.rank for share in rank(0, 3).missing] == [2]
    assert journal.read_bytes().count(b"\n") == 4
    assert rank(2, 3).missing == ()
    assert _files(tmp_path / "boxes") == _files(tmp_path / "one")


def test_any_rank_takes_what_is_free(rank, tmp_path: Path) -> None:
    rank(0, 1, "one")
    done = rank("any", 5)
    assert (done.missing, done.share, done.statistics.items) == ((), "", PICTURES)
    assert _files(tmp_path / "boxes") == _files(tmp_path / "one")


def test_the_next_rank_tidies_up_after_one_that_died_when_all_was_joined(rank, tmp_path: Path, monkeypatch) -> None:
    rank(0, 1, "one")
    rank(0, 2)

    def die(self, *, done: bool = False) -> None:
        close(self)
        if done and self.folder.name == "boxes":
            raise KeyboardInterrupt

    close = DetectionOutput.close
    monkeypatch.setattr(DetectionOutput, "close", die)
    with pytest.raises(KeyboardInterrupt):
        rank(1, 2)
    monkeypatch.undo()
    assert rank(1, 2).had_finished
    assert _files(tmp_path / "boxes") == _files(tmp_path / "one")
