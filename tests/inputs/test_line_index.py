"""Shares of JSON lines read what is theirs, by an index that the first of them makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from counted_reads import counted
from PIL import Image

from mgtool.inputs import fingerprints, line_index
from mgtool.runs.shares import Share

PICTURE = Path(__file__).parents[1] / "images" / "coffee.jpg"
LINES, RANKS = 400, 4


@pytest.fixture
def questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of which some name several pictures, none, or are broken; long enough to be worth an index, and not hashed."""
    with Image.open(PICTURE) as picture:
        picture.crop((0, 0, 40, 30)).save(tmp_path / "a.png")
    lines = ["\ufeff" + _line(0), *(_line(number) for number in range(1, LINES))]
    (tmp_path / "questions.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    monkeypatch.setattr(line_index, "WORTH_BYTES", 1)
    monkeypatch.setattr(line_index, "_EVERY", 32)
    monkeypatch.setattr(fingerprints, "HASHED_WHOLE", 0)
    monkeypatch.setattr(fingerprints, "_END", 64)
    return tmp_path / "questions.jsonl"


def _line(number: int) -> str:
    if number % 7 == 3:
        return "{broken" if number % 2 else ""
    turns = [{"from": "human", "value": "what?"}]
    images = ["a.png", f"missing-{number}.png"] if number % 11 == 5 else "a.png"
    return json.dumps(
        {"image": images, "note": "x" * 3000, "conversations": turns} | ({"id": number} if number % 2 else {})
    )


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, questions: Path) -> list[int]:
    """Bytes that were read of the questions, by each opening."""
    return counted(monkeypatch, questions)


COMMANDS = {
    "detect": ("--detector", "tiny", "--workers", 0),
    "infer": ("--model", "tiny", "--max-new-tokens", 1, "--batch-size", 64),
}


@pytest.mark.parametrize("command", ["detect", pytest.param("infer", marks=pytest.mark.slow)])
def test_each_rank_reads_its_own_lines_alone(command: str, mgtool, questions: Path, tmp_path: Path, read) -> None:
    name = "out/answers.jsonl" if command == "infer" else "out"
    words = (command, questions, "--images", tmp_path, *COMMANDS[command], "-q")
    one = mgtool(*words, "--out", tmp_path / "one" / name)
    size = questions.stat().st_size
    for rank in (2, 3, 0, 1):
        read.clear()
        code, _, err = mgtool(*words, "--out", tmp_path / "ranks" / name, "--rank", rank, "--world-size", RANKS)
        assert code == 3, err
        most = size // RANKS + 250_000  # a buffer's length, what is looked at to tell the file's kind, the first items
        assert sum(read) <= most + (size if rank == 2 else 0), (read, size)
    assert one[0] == 3
    assert _files(tmp_path / "ranks") == _files(tmp_path / "one")


def _files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and "run.json" not in path.name]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if "-of-" not in path.name}


def test_every_share_of_any_number_is_the_stretch_of_the_whole(questions: Path, tmp_path: Path) -> None:
    from mgtool.inputs.sources import read_samples

    given = [str(PICTURE), str(questions)]
    index = line_index.kept(tmp_path / "index", given, "it", lambda seen: read_samples(given, seen=seen))
    again = line_index.kept(tmp_path / "index", given, "it", lambda seen: pytest.fail("read again"))
    whole = list(read_samples(given))
    assert (index, again.total) == (again, len(whole))
    for world_size in (1, 3, 16, 77):
        shares = [Share(rank, world_size) for rank in range(world_size)]
        found = [item for one in shares for item in index.stretch(one, lambda mark: read_samples(given, start=mark))]
        assert found == whole
    other = line_index.kept(tmp_path / "index", given[:1], "other", lambda seen: read_samples(given[:1], seen=seen))
    assert (other.total, other.marks) == (1, [])
