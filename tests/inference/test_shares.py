"""Ranks that come, die and come back: each question is answered once, and the last to end joins the answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mgtool.errors import ItemError
from mgtool.inference import loading
from mgtool.inference.options import InferOptions
from mgtool.inference.output import share_file
from mgtool.media import reading
from mgtool.records import Media
from mgtool.runs.shares import Share
from mgtool.stages.infer import Inferred, infer

PICTURES = 12


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Pictures, the second and the last of which are none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(PICTURES):
        path = folder / f"{number:02d}.png"
        Image.linear_gradient("L").rotate(number).resize((40, 30)).convert("RGB").save(path)
    for name in ("01.png", "11.png"):
        (folder / name).write_bytes(b"none")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _model_that_stays() -> Iterator[None]:
    """It is loaded once."""
    kept: list[Any] = []
    with loading.kept_model(kept):
        yield


@pytest.fixture
def rank(pictures: Path, models, tmp_path: Path):
    """Runs a rank."""

    def run(rank: int | str, world_size: int, out: str = "a.jsonl", **options: object) -> Inferred:
        asked = InferOptions(
            model=models["vicuna"],
            task="caption",
            device="cpu",
            max_new_tokens=2,
            rank=str(rank),
            world_size=world_size,
            **options,  # type: ignore[arg-type]
        )
        return infer([str(pictures)], tmp_path / out, asked)

    return run


def _ids(path: Path) -> list[str]:
    return [json.loads(line)["question_id"] for line in path.read_text().splitlines()]


def test_the_last_rank_joins_and_others_say_what_is_missing(rank, tmp_path: Path) -> None:
    rank(0, 1, "one/a.jsonl")
    first, second, last = (rank(number, 3) for number in (2, 0, 1))
    assert [share.rank for share in first.missing] == [0, 1]
    assert [share.rank for share in second.missing] == [1]
    assert (last.missing, last.out, last.answered, last.failed) == ((), tmp_path / "a.jsonl", PICTURES - 2, 2)
    for name in ("a.jsonl", "failures.jsonl"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert rank(1, 3) == last
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("after", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_another_number_goes_on_where_ranks_stopped(after: int, rank, pictures: Path, tmp_path: Path) -> None:
    rank(0, 1, "one/a.jsonl")
    for number in (0, 2):
        rank(number, 3)
    for number in (0, 1, 2, 3, 8, 9, 10):  # done; of the same sizes, as nobody reads them again
        path = pictures / f"{number:02d}.png"
        path.write_bytes(bytes(path.stat().st_size))
    for number in range(after):
        done = rank(number, after)
    assert done.missing == ()
    for name in ("a.jsonl", "failures.jsonl"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert not [path.name for path in tmp_path.glob("*-of-00003*")]


@pytest.mark.slow
def test_shares_of_another_run_stay(rank, pictures: Path, tmp_path: Path) -> None:
    rank(0, 3)
    kept = (tmp_path / "a-00000-of-00003.jsonl").read_bytes()
    record = json.loads((tmp_path / "a-00000-of-00003.run.json").read_bytes())
    record["options"]["max_new_tokens"] = 7
    (tmp_path / "a-00000-of-00003.run.json").write_text(json.dumps(record))
    done = rank(0, 1)
    assert (done.answered, done.failed) == (PICTURES - 2, 2)
    assert (tmp_path / "a-00000-of-00003.jsonl").read_bytes() == kept


@pytest.mark.slow
def test_ranks_go_on_where_one_process_stopped(rank, pictures: Path, tmp_path: Path) -> None:
    rank(0, 1)
    whole, lines = (tmp_path / "a.jsonl").read_bytes(), (tmp_path / "a.jsonl").read_bytes().splitlines(keepends=True)
    record = json.loads((tmp_path / "run.json").read_bytes())
    failed = json.loads((tmp_path / "failures.jsonl").read_text().splitlines()[0])
    (tmp_path / "a.jsonl").unlink()
    (tmp_path / "failures.jsonl").unlink()
    (tmp_path / "a.jsonl.partial").write_bytes(b"".join(lines[:4]))
    (tmp_path / ".a.jsonl.failures").write_text(json.dumps({"position": 1, "failure": failed}) + "\n")
    del record["times"]["finished"]
    (tmp_path / "run.json").write_text(json.dumps(record))
    for number in (0, 2, 3, 4):
        path = pictures / f"{number:02d}.png"
        path.write_bytes(bytes(path.stat().st_size))
    for number in range(2):
        rank(number, 2)
    assert (tmp_path / "a.jsonl").read_bytes() == whole
    assert not (tmp_path / "a.jsonl.partial").exists()


@pytest.mark.slow
def test_what_a_dead_rank_left_is_taken_over(rank, tmp_path: Path) -> None:
    rank(0, 1, "one/a.jsonl")
    rank(1, 3)
    left = share_file(tmp_path / "a.jsonl", Share(1, 3))
    record = json.loads((tmp_path / "a-00001-of-00003.run.json").read_bytes())
    del record["times"]["finished"]
    (tmp_path / "a-00001-of-00003.run.json").write_text(json.dumps(record))
    lines = left.read_bytes().splitlines(keepends=True)
    left.unlink()
    Path(f"{left}.partial").write_bytes(b"".join(lines[:2]))
    assert [share.rank for share in rank(0, 3).missing] == [2]
    assert _ids(left) == [f"{number:02d}.png" for number in range(4, 8)]
    assert rank(2, 3).missing == ()
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "one" / "a.jsonl").read_bytes()


def test_any_rank_takes_what_is_free_with_one_model(rank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rank(0, 1, "one/a.jsonl")
    loaded: list[object] = []
    load = loading._load_model
    monkeypatch.setattr(loading, "_load_model", lambda plan: loaded.append(plan) or load(plan))
    with loading.kept_model([]):
        done = rank("any", 6)
    assert (done.missing, done.answered, len(loaded)) == ((), PICTURES - 2, 1)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "one" / "a.jsonl").read_bytes()


@pytest.mark.slow
def test_a_share_whose_failures_were_mended_is_taken_over_whole(
    rank, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = reading.read_bytes

    def away(media: Media, *opened: Any) -> bytes:
        if media.name == "02.png":
            raise ItemError("unreachable", "not now")
        return read(media, *opened)

    with monkeypatch.context() as patched:
        patched.setattr(reading, "read_bytes", away)
        assert rank(0, 3).failed == 2
    assert rank(0, 3).failed == 1
    for number in range(2):
        done = rank(number, 2)
    assert (done.answered, done.failed) == (PICTURES - 2, 2)
    rank(0, 1, "one/a.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "one" / "a.jsonl").read_bytes()


def test_the_next_rank_tidies_up_after_one_that_died_when_all_was_joined(rank, tmp_path: Path) -> None:
    rank(0, 2)
    done = rank(1, 2)
    left = [tmp_path / name for name in (".a.jsonl.joining.mgtool.lock", ".a-00000-of-00002.jsonl.failures")]
    for path in left:
        path.touch()
    assert rank(0, 2).answered == done.answered == PICTURES - 2
    assert not any(path.exists() for path in left)
