"""Models x benchmarks in one table: values, significance, published values, going on."""

from __future__ import annotations

import csv
import json
import socket
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
    assert set(sizes) == {"ablation.toml", "llava.toml", "main.toml", "tiny.toml", "video.toml"}


def test_cells_at_the_same_time_are_those_one_after_the_other(spec: Path, tmp_path: Path) -> None:
    """Their answers lie in another folder than the TOML."""
    elsewhere = tmp_path / "tables"
    elsewhere.mkdir()
    spec.rename(elsewhere / spec.name)
    said: list[str] = []
    counted: list[int] = []
    options = mgtool.TableOptions(data=tmp_path, jobs=2)
    both = mgtool.table(elsewhere / spec.name, tmp_path / "both", options, advance=counted.append, tell=said.append)
    one = mgtool.table(elsewhere / spec.name, tmp_path / "one", mgtool.TableOptions(data=tmp_path))
    assert both.cells == one.cells
    assert (sum(counted), said) == (2, ["base: own", "better: own"])
    assert (tmp_path / "both/table.csv").read_bytes() == (tmp_path / "one/table.csv").read_bytes()
    with pytest.raises(InputError, match=r"base\.jsonl"):
        mgtool.table(elsewhere / spec.name, tmp_path / "none")


def test_a_dry_run_says_what_is_done_for_each_cell(tmp_path: Path, mgtool) -> None:
    words = ("table", ROOT / "examples/paper/tiny.toml", "--out", tmp_path / "out", "--dry-run")
    code, out, said = mgtool(*words)
    assert (code, said) == (0, "")
    assert out.splitlines() == [
        "tiny without boxes: pope  asks tiny, scores",
        "tiny: pope                finds boxes, asks tiny, scores",
    ]
    assert not (tmp_path / "out").exists()
    assert json.loads(mgtool(*words, "--json")[1])["tiny: pope"] == "finds boxes, asks tiny, scores"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--jobs", "0"), "--jobs 0: give a number from 1 on"),
        (("--jobs", "2", "--engine", "ray"), "the cluster shares the work out"),
        (("--ray-address", "a:1"), "is of --engine ray"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(
    words: tuple[str, ...], says: str, tmp_path: Path, mgtool
) -> None:
    code, _, said = mgtool("table", ROOT / "examples/paper/tiny.toml", "--out", tmp_path / "out", *words)
    assert (code, len(said.splitlines())) == (2, 1)
    assert says in said


def test_a_cell_on_ray_asks_for_the_cluster_that_is_named(spec: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    text = spec.read_text().replace('answers = { own = "base.jsonl" }', 'infer = { model = "tiny" }')
    spec.write_text(text.replace("metric =", 'inputs = ["truth.jsonl"]\nmetric ='))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UsageError, match=rf"^`ray_address` {address}: .*refused"):
        mgtool.table(spec, tmp_path / "out", mgtool.TableOptions(engine="ray", ray_address=address))


@pytest.mark.slow
def test_a_table_made_on_a_cluster_is_that_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    spec, out = ROOT / "examples/paper/tiny.toml", tmp_path / "out"
    mgtool.table(spec, tmp_path / "one")
    nodes = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        mgtool.table(spec, out, mgtool.TableOptions(engine="ray", ray_address=nodes.address))
    finally:
        nodes.shutdown()
    for name in ("table.csv", "table.md", "table.tex", "table.json"):
        assert (out / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    records = [json.loads(path.read_text()) for path in out.rglob("*run.json")]
    made = {record["command"]: record["times"].get("nodes") for record in records}
    assert {command for command, nodes in made.items() if nodes} == {"detect", "infer"}


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
