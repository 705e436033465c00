"""`mgtool detect --stats` and `--report`: numbers and a page of boxes that are there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
IMAGES = TESTS / "images"


def _mgtool(*args: object, code: int = 0, input: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "mgtool.commands.main", "detect", *map(str, args)]
    done = subprocess.run(command, capture_output=True, input=input, timeout=180, check=False)
    assert done.returncode == code, done.stderr.decode()
    return done


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boxes of three pictures, one asked about twice, one missing; and their page."""
    folder = tmp_path_factory.mktemp("report")
    names = [*sorted(path.name for path in IMAGES.glob("*.jpg")), "coffee.jpg", "gone.jpg"]
    lines = [json.dumps({"question_id": n, "image": name, "text": "?"}) for n, name in enumerate(names)]
    (folder / "q.jsonl").write_text("\n".join(lines))
    page = folder / "page.html"
    _mgtool(folder / "q.jsonl", "--images", IMAGES, "--out", folder / "boxes", "--report", page, "-q", code=3)
    return folder / "boxes"


def test_stats_say_what_the_summary_said(boxes: Path) -> None:
    said = json.loads(_mgtool("--stats", boxes, "--json").stdout)
    summary = json.loads((boxes / "run.json").read_text())["counts"]
    assert {**said, "duplicates": summary["duplicates"]} == summary
    assert (summary["pictures"], summary["duplicates"], summary["failures"]) == (3, 1, {"missing": 1})
    assert sum(summary["boxes_a_picture"].values()) == 3
    assert sum(summary["labels"].values()) == summary["boxes"]


def test_stats_of_several_files(boxes: Path) -> None:
    said = json.loads(_mgtool("--stats", boxes / "boxes-000000.jsonl", boxes, "--json").stdout)
    assert said["pictures"] == 6
    assert b"no such box file" in _mgtool("--stats", boxes / "no", code=2).stderr
    assert b"--stats" in _mgtool("--stats", "-", code=2, input=b"").stderr


def test_the_report_shows_each_picture(boxes: Path, tmp_path: Path) -> None:
    page = (boxes.parent / "page.html").read_text()
    assert page.count("data:image/webp") == 3
    assert "<b>1</b> missing" in page
    assert "<b>1</b> repeated" in page
    _mgtool("--stats", boxes, "--images", IMAGES, "--report", tmp_path / "again.html", "-q")
    again = (tmp_path / "again.html").read_text()
    assert again.count("data:image/webp") == 3
    _mgtool("--stats", boxes, "--report", tmp_path / "bare.html", "-q")
    assert (tmp_path / "bare.html").read_text().count("data:image/webp") == 0


def test_a_missing_out_is_one_line() -> None:
    assert _mgtool(IMAGES, code=2).stderr.splitlines() == [
        b"error: --out is missing: give the folder to write, or - for box lines on stdout"
    ]
