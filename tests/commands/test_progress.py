"""How a run goes on is seen: totals, rates, failures with the first of each reason, in 80 columns and in a log."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import pytest
import terminal
from rich.console import Console

import mgtool as library
from mgtool.commands import console, watching
from mgtool.records import Failure
from mgtool.runs.progress import Progress, is_counted_soon
from mgtool.tars import verify
from mgtool.tars.other_readers import READERS

PHOTOS = Path(__file__).parents[2] / "examples/photos"
FAILURE = Failure(id="a.jpg", stage="load", reason="missing", detail="no file a.jpg")


@pytest.mark.parametrize("what", ["pictures", "answers", "bytes"])
@pytest.mark.parametrize("total", [None, 7, 12_345_678])
def test_a_bar_keeps_to_one_line_with_all_that_it_knows(
    what: str, total: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=drawn, force_terminal=True, width=80, soft_wrap=True))
    with console.progress(what) as advance:
        if total is not None:
            advance.started(total)
        for _ in range(3):
            advance.failed(FAILURE)
            advance.made(1234)
            advance((total or 30) // 3)
    lines = terminal.pieces(drawn.getvalue())
    bars = [line for line in lines if terminal.BAR in line]
    assert all(len(line.rstrip()) <= 80 - len("^C") for line in bars)
    assert "3 failed" in bars[-1]
    assert "tokens/s" in bars[-1]
    assert "?" not in bars[-1]
    assert sum("failed: a.jpg: missing: no file a.jpg" in line for line in lines) == 1


def test_without_a_terminal_a_line_says_how_far_and_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    now = [0.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: now[0])
    lines = watching.Lines("pictures", None, said.append)
    lines.started(600)
    now[0] = 10.0
    lines(30)
    assert said == []
    lines.failed(FAILURE)
    for now[0] in (20.0, 29.0, 31.0, 40.0):
        lines(10)
    assert len(said) == 2
    assert said[0] == "failed: a.jpg: missing: no file a.jpg"
    assert re.fullmatch(r"\d\d:\d\d:\d\d [\d]+ of 600 pictures, [\d.]+/s, \d+ (s|min)( left)?.*1 failed", said[1])


def test_more_items_than_were_counted_are_no_odd_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=drawn, force_terminal=True, width=80, soft_wrap=True))
    with console.progress("pictures", total=3) as advance:
        advance(5)
    assert "5/3" not in drawn.getvalue() or terminal.BAR in drawn.getvalue()


class Seen(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.done = self.tokens = 0
        self.failures: list[Failure] = []
        self.steps: list[str] = []

    def __call__(self, done: int) -> None:
        self.done += done

    def started(self, total: int) -> None:
        self.total = total

    def failed(self, failure: Failure) -> None:
        self.failures.append(failure)

    def made(self, tokens: int) -> None:
        self.tokens += tokens

    def doing(self, step: str) -> None:
        self.steps.append(step)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    shutil.copytree(PHOTOS / "images", folder)
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def test_stages_tell_totals_failures_and_tokens(pictures: Path, tmp_path: Path) -> None:
    count = len(list(pictures.iterdir()))
    for run in (
        lambda seen: library.detect(pictures, tmp_path / "boxes", library.DetectOptions(workers=0), advance=seen),
        lambda seen: library.infer(
            pictures,
            tmp_path / "a/answers.jsonl",
            library.InferOptions(model="tiny", task="caption", max_new_tokens=2),
            advance=seen,
        ),
    ):
        seen = Seen()
        run(seen)
        assert (seen.total, seen.done, len(seen.failures)) == (count, count, 1)
    assert seen.tokens > 0


def test_pack_tells_failures_and_a_plain_callable_still_serves(pictures: Path, tmp_path: Path) -> None:
    seen, done = Seen(), []
    sources = [library.Source(str(pictures))]
    library.pack(sources, tmp_path / "tars", library.PackOptions(workers=1), started=seen.started, advance=seen)
    assert seen.total == seen.done
    assert [failure.reason for failure in seen.failures] == ["not_an_image"]
    library.detect(pictures, tmp_path / "boxes", library.DetectOptions(workers=0), advance=done.append)
    assert sum(done) == seen.done


def test_only_what_is_soon_counted_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.tar").touch()
    (tmp_path / "q.jsonl").touch()
    (tmp_path / "q.csv").touch()
    (tmp_path / "p").mkdir()
    (tmp_path / "p/a.jpg").touch()
    names = {name: str(tmp_path / name) for name in ("a.tar", "q.jsonl", "q.csv", "p")}
    assert is_counted_soon([names["q.jsonl"], names["q.csv"], names["p"]], Seen())
    for given in ([names["a.tar"]], [str(tmp_path)], ["-"], ["s3://x/y"], [names["q.jsonl"], "gone"]):
        assert not is_counted_soon(given, Seen())
    assert not is_counted_soon([names["p"]], lambda n: None)


def test_the_bar_of_the_api_is_tqdm_s_and_nothing_else_is_printed(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    library.detect(pictures, tmp_path / "quiet", library.DetectOptions(workers=0))
    assert capfd.readouterr() == ("", "")
    with library.progress_bar("pictures") as bar:
        library.detect(pictures, tmp_path / "shown", library.DetectOptions(workers=0), advance=bar)
    out, err = capfd.readouterr()
    assert out == ""
    count = len(list(pictures.iterdir()))
    assert f"{count}/{count}" in err
    assert "failed=1, last=not_an_image" in err


def test_verify_tells_whose_turn_it_is(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = ("webdataset", "datasets")  # the others take long to start
    monkeypatch.setattr(verify, "READERS", {name: READERS[name] for name in two})
    library.pack([library.Source(str(PHOTOS / "images"))], tmp_path / "tars", library.PackOptions(workers=1))
    seen = Seen()
    library.verify([str(tmp_path / "tars")], workers=1, advance=seen)
    assert seen.steps == ["webdataset reads", "datasets reads"]
