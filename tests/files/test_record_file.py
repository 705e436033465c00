"""Records on disk are the sequence that they would be in memory."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest

from mgtool.errors import OutputError
from mgtool.files import record_file
from mgtool.files.record_file import BLOCK, RecordFile, kept
from mgtool.records import Score

COUNT = 5 * BLOCK + 7


def score(number: int) -> Score:
    target = {3: "\ud83d", 7: 1 << 70}.get(number, "yes")  # msgpack has neither halves of pairs nor such numbers
    return Score(question_id=number, prediction=None, extracted=["a", number], target=target, score=number / 3)


@pytest.fixture(scope="module")
def both() -> tuple[list[Score], RecordFile[Score]]:
    scores = [score(number) for number in range(COUNT)]
    found = kept(iter(scores), Score, most=10)
    assert isinstance(found, RecordFile)
    return scores, found


def test_few_records_stay_a_list() -> None:
    assert kept(iter([score(1)]), Score, most=1) == [score(1)]
    assert type(kept([score(1)], Score)) is list


def test_it_equals_the_list(both) -> None:
    scores, file = both
    assert len(file) == COUNT
    assert file == scores
    assert list(file) == scores
    assert list(reversed(file)) == scores[::-1]
    assert file != scores[:-1]
    assert pickle.loads(pickle.dumps(file)) == scores


def test_any_place_and_any_slice(both) -> None:
    scores, file = both
    places = [*range(COUNT), *range(-COUNT, 0)]
    random.Random(0).shuffle(places)
    assert all(file[place] == scores[place] for place in places)
    for part in (slice(3, 9), slice(None, None, 97), slice(BLOCK - 1, 3 * BLOCK), slice(-5, None), slice(9, 2, -1)):
        assert file[part] == scores[part]
    with pytest.raises(IndexError):
        file[COUNT]


def test_passes_go_side_by_side(both) -> None:
    scores, file = both
    assert [one == other for one, other in zip(file, reversed(file), strict=True)].count(True) == COUNT % 2
    assert list(zip(file, file, strict=True)) == list(zip(scores, scores, strict=True))


def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import os, signal\n"
        "from mgtool.files import temporary\n"
        "from mgtool.files.record_file import RecordFile\n"
        "with temporary.all_in_one_folder():\n"
        "    file = RecordFile(int)\n"
        "    file.extend(range(10_000))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], env={"TMPDIR": str(tmp_path), "PATH": ""}, check=False)
    assert len(list(tmp_path.iterdir())) == 1  # the second removed what the first left
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".held"]


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_file, "unnamed_file", lambda: open("/dev/full", "r+b", buffering=0))  # noqa: PTH123, SIM115
    with pytest.raises(OutputError, match=r"^temporary files cannot be written: No space left on device; `tmp`"):
        RecordFile(int).extend(range(BLOCK))
