"""Shares of lists, tables and JSON lists read what is theirs, whatever stands in their cells."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from counted_reads import counted
from PIL import Image

from mgtool.files import json_lists
from mgtool.inputs import fingerprints, line_index
from mgtool.inputs.line_index import LineIndex
from mgtool.inputs.sources import read_samples
from mgtool.runs.shares import Share

PICTURE = Path(__file__).parents[1] / "images" / "coffee.jpg"
ROWS = 400
SLACK = 40_000
"""Bytes of buffers, and of what lies between two places of the index."""
LONG = "x" * 1500
FAR = 297
"""A row that rows everywhere name."""


@pytest.fixture(autouse=True)
def _marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_index, "WORTH_BYTES", 1)
    monkeypatch.setattr(line_index, "_EVERY", 4)
    monkeypatch.setattr(json_lists, "_CHUNK", 1 << 13)
    monkeypatch.setattr(fingerprints, "HASHED_WHOLE", 0)
    monkeypatch.setattr(fingerprints, "_END", 64)


def _embedded(number: int) -> str:
    with Image.open(PICTURE) as picture:
        data = picture.crop((number, 0, number + 24, 16)).tobytes()
    return base64.b64encode(data).decode()


def _benchmark() -> bytes:
    """Rows name the pictures of rows before and behind them; cells have line ends, one row is no UTF-8."""
    rows = ["\ufeffindex\timage\tquestion\tnote"]
    for number in range(ROWS):
        image = _embedded(number) if number % 3 == 0 else str(number - 1 if number % 3 == 1 else FAR)
        question = f'"what is\n""{number}"" ö?"' if number % 5 == 0 else f"what is {number}?"
        rows.append(f"{number}\t{image}\t{question}\t{LONG}")
    return "\r\n".join(rows).encode().replace(b"what is 7?", b"what is \xff?") + b"\r\n"


def _table() -> bytes:
    """With cells over several lines, empty lines, a row that is no UTF-8 and one with too many cells."""
    rows = ["file_name;text"]
    for number in range(ROWS):
        text = f'"two\n\nlines; {number}"' if number % 4 == 0 else f"ä {number}"
        rows.append(f"{number}.png;{text} {LONG}" if number % 4 else f"{number}.png;{text}")
        rows += [""] * (number % 7 == 3) + ["a;b;c"] * (number % 50 == 9)
    return "\n".join(rows).encode().replace(b"\xc3\xa4 5 ", b"\xff 5 ")


def _paths() -> bytes:
    return (
        "\ufeff".encode() + b"".join(b"%s/%d.png\r\n" % (LONG[:900].encode(), n) for n in range(ROWS)) + b"\n\nlast.png"
    )


def _list() -> bytes:
    """With numbers and texts among the records, which are none."""
    turns = [{"from": "human", "value": 'a {"[ \\" brace'}, {"from": "gpt", "value": LONG}]
    records: list[object] = [{"id": n, "image": f"{n}.png", "conversations": turns} for n in range(ROWS)]
    for at in (250, 40, 0):
        records[at:at] = [7, "text"]
    return b"\xef\xbb\xbf \n" + json.dumps(records, indent=1).encode()


KINDS: dict[str, Callable[[], bytes]] = {
    "b.tsv": _benchmark,
    "t.csv": _table,
    "t.txt": _table,
    "p.txt": _paths,
    "l.json": _list,
}


@pytest.fixture(params=KINDS)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / request.param
    path.write_bytes(KINDS[request.param]())
    return path


def _index(given: list[str], folder: Path) -> LineIndex:
    return line_index.kept(folder / "index", given, "it", lambda seen: read_samples(given, seen=seen))


def test_shares_of_any_number_are_the_whole(file: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"image": "a.png"}\n' * 9)
    given = [str(tmp_path / "a.jsonl"), str(file), str(PICTURE)]
    whole, index = list(read_samples(given)), _index(given, tmp_path)
    assert (index.total, {mark.input for mark in index.marks}) == (len(whole), {0, 1})
    assert len(whole) >= ROWS
    for world_size in (1, 7, 40):
        shares = [Share(rank, world_size) for rank in range(world_size)]
        found = [item for one in shares for item in index.stretch(one, lambda start: read_samples(given, start=start))]
        assert found == whole


def test_a_share_reads_its_own_bytes_alone(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, size, count = [str(file)], file.stat().st_size, 8
    index, read = _index(given, tmp_path), counted(monkeypatch, file)
    assert size > count * SLACK
    for rank in range(count):
        read.clear()
        for _ in index.stretch(Share(rank, count), lambda start: read_samples(given, start=start)):
            pass
        named = SLACK if file.suffix == ".tsv" else 0  # rows elsewhere whose pictures are shown
        told_by = 1 << 16 if rank == 0 else 0  # what is looked at to tell the file's kind
        assert sum(read) <= size // count + SLACK + named + told_by, (rank, size, read)


def test_the_index_itself_takes_one_reading(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = counted(monkeypatch, file)
    _index([str(file)], tmp_path)
    times = 2 if file.suffix == ".tsv" else 1  # rows there name others
    assert sum(read) <= times * file.stat().st_size + 3 * (1 << 16)


def test_a_benchmark_that_names_no_rows_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b.tsv"
    path.write_text("index\timage\tquestion\n" + "".join(f"{n}\t{_embedded(n)}\twhat?\n" for n in range(200)))
    read = counted(monkeypatch, path)
    assert sum(1 for _ in read_samples([str(path)])) == 200
    assert sum(read) <= path.stat().st_size + (1 << 16)


def test_ranks_of_a_benchmark_find_what_one_process_finds(mgtool, tmp_path: Path) -> None:
    lines = ["index\timage\tquestion"]
    for number in range(40):
        path = tmp_path / f"{number}.png"
        with Image.open(PICTURE) as picture:
            picture.crop((number, 0, number + 40, 30)).save(path)
        shown = base64.b64encode(path.read_bytes()).decode() if number % 4 == 0 else str(number - number % 4)
        lines.append(f'{number}\t{shown}\t"what\nis it?"')
    (tmp_path / "b.tsv").write_text("\n".join(lines) + "\n")
    words = ("detect", tmp_path / "b.tsv", "--detector", "tiny", "--workers", 0, "-q")
    assert mgtool(*words, "--out", tmp_path / "one")[0] == 0
    for rank in (1, 2, 0):
        assert mgtool(*words, "--out", tmp_path / "ranks", "--rank", rank, "--world-size", 3)[0] == 0
    assert _boxes(tmp_path / "ranks") == _boxes(tmp_path / "one")


def _boxes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "run.json"}
