"""Models x benchmarks in one table: values, significance, published values, going on."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import mgtool
from mgtool.errors import InputError, UsageError
from mgtool.evaluation.table import read_spec

ROOT = Path(__file__).parents[2]
QUESTIONS = [{"question_id": number, "image": f"{number}.jpg", "text": "Is it?"} for number in range(40)]


def put(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    truth = ({**one, "label": "yes" if number % 2 else "no"} for number, one in enumerate(QUESTIONS))
    put(tmp_path / "truth.jsonl", *truth)
    for name, texts in {"base": ("no", "no"), "better": ("no", "yes")}.items():
        rows = (
            {"question_id": one["question_id"], "prompt": "Is it?", "text": texts[number % 2], "model_id": name}
            for number, one in enumerate(QUESTIONS)
        )
        put(tmp_path / f"{name}.jsonl", *rows)
    file = tmp_path / "table.toml"
    file.write_text(
        'title = "T | %"\nbaseline = "base"\n'
        '[[benchmark]]\nname = "own"\nbenchmark = "pope"\nmetric = "all.accuracy"\n'
        'eval = { ground_truth = ["truth.jsonl"] }\n'
        '[[row]]\nname = "better"\nsource = "a paper"\nanswers = { own = "better.jsonl" }\npublished = { own = 90 }\n'
        '[[row]]\nname = "base"\nanswers = { own = "base.jsonl" }\n'
    )
    return file


def test_a_table_of_answers_that_are_there(spec: Path, tmp_path: Path) -> None:
    made = mgtool.table(spec, tmp_path / "out")
    better, base = made.cells
    assert (better.value.value, base.value.value, better.off_published) == (100.0, 50.0, 10.0)
    assert better.difference is not None
    assert better.difference.p_value is not None
    assert better.difference.p_value < 0.001
    assert (better.difference.difference, base.difference) == (50.0, None)
    (header, first, second) = csv.reader((tmp_path / "out/table.csv").read_text().splitlines())
    assert dict(zip(header, first, strict=True))["p"] == "< 0.001"
    assert second[0] == "base"
    assert "100.00* (" in (tmp_path / "out/table.md").read_text()
    assert r"better & 100.00*" in (tmp_path / "out/table.tex").read_text()
    assert "a paper" in (tmp_path / "out/table.html").read_text()
    assert json.loads((tmp_path / "out/table.json").read_text())["cells"][0]["published"] == 90


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('baseline = "base"', 'baseline = "bse"', "did you mean base"),
        ("published = { own", "published = { other", "the benchmarks are own"),
        ("[[row]]", "[[rows]]", "rows"),
        ("title", "[", "not readable as TOML"),
        ("eval = {", "eval = { grund_truth = [], ", "grund_truth is no field"),
        ('"all.accuracy"', '"all.acuracy"', "did you mean all.accuracy"),
        ('answers = { own = "base.jsonl" }', "", "neither `inputs`"),
    ],
)
def test_what_is_wrong_is_named(spec: Path, tmp_path: Path, old: str, new: str, says: str) -> None:
    spec.write_text(spec.read_text().replace(old, new))
    with pytest.raises((InputError, UsageError), match=says):
        mgtool.table(spec, tmp_path / "out")


def test_the_paper_s_tables_can_be_read() -> None:
    sizes = {path.name: read_spec(path) for path in sorted((ROOT / "examples/paper").glob("*.toml"))}
    main = sizes["main.toml"]
    assert (len(main.rows), len(main.columns)) == (5, 12)
    assert sum(len(row.published) for row in main.rows) == 57
    assert set(sizes) == {"ablation.toml", "main.toml", "tiny.toml", "video.toml"}


def test_what_the_boxes_bring_in_one_command(tmp_path: Path, mgtool) -> None:
    words = ("table", ROOT / "examples/paper/tiny.toml", "--out", tmp_path / "out")
    code, out, said = mgtool(*words, "-q", "--format", "markdown")
    assert code == 0, said
    rows = [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("|")]
    assert rows[2:] == ["tiny without boxes", "tiny"]
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("answers.jsonl")}
    assert len(files) == 2
    code, again, _ = mgtool(*words, "-q", "--json")
    assert code == 0
    found = json.loads(again)["cells"]
    assert [cell["column"] for cell in found] == ["pope", "pope"]
    assert found[1]["difference"]["n"] == found[0]["value"]["n"] > 0
    assert files == {path: path.stat().st_mtime_ns for path in files}
