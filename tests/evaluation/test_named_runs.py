"""Every number says what it is of: model, benchmark, split, variant, prompt, decoding, version, date and counts."""

from __future__ import annotations

import json
import re

import pytest

import mgtool as package

SHA = "c0ffee" * 10


@pytest.fixture
def runs(bench):
    """POPE's questions, two runs over them, the first of which has the record of the run beside it."""
    truth = [{"question_id": n, "image": f"{n}.jpg", "text": f"Is it {n}?", "label": "yes"} for n in range(4)]
    said = {"ours": ["yes"] * 4, "theirs": ["yes", "no", "no", "yes"]}
    paths = {}
    for name, texts in said.items():
        lines = [
            {"question_id": n, "image": f"{n}.jpg", "prompt": f"Is it {n}?", "text": text, "model_id": name}
            for n, text in enumerate(texts)
        ]
        paths[name] = bench.write(f"{name}/answers.jsonl", lines)
    options = {"task": "vqa", "max_new_tokens": 16, "decoding": {"temperature": 0.2}}
    model = {"path": "models/ours", "sha256": SHA}
    bench.write("ours/run.json", {"command": "infer", "options": options, "model": model})
    return bench.write("coco_pope_random.jsonl", truth), paths


def told(text: str) -> list[str]:
    """What a text leaves out of what it has to say."""
    wanted = ["ours", SHA[:12], "pope (official)", "random", "task vqa", "max_new_tokens 16", "temperature 0.2"]
    wanted += ["answers.jsonl", f"mgtool {package.__version__}", "4 of 4"]
    return [part for part in wanted if part not in text]


def test_tables_scores_and_report_name_the_run(mgtool, runs, bench) -> None:
    truth, paths = runs
    options = ("--benchmark", "pope", "--ground-truth", truth, "--split", "random", "--out", bench.folder / "out")
    for form in ("table", "markdown", "latex"):
        code, out, _ = mgtool("eval", paths["ours"], *options, "--format", form, "--overwrite")
        assert (code, told(out)) == (0, [])
        assert re.search(r"20\d\d-\d\d-\d\d", out)
    scores = json.loads((bench.folder / "out/scores.json").read_bytes())
    assert (scores["benchmark"], scores["variant"]) == ("pope", "official")
    named = scores["provenance"]
    assert (named["models"], named["model_sha256"], named["split"]) == (["ours"], SHA, "random")
    assert named["decoding"] == {"max_new_tokens": 16, "temperature": 0.2}
    assert scores["counts"]["answered"] == 4
    page = (bench.folder / "out/report.html").read_text()
    for part in ("ours", SHA[:16], "pope (official)", "random", "task vqa", "temperature 0.2", package.__version__):
        assert part in page


def test_both_runs_of_a_comparison_are_named(mgtool, runs, bench) -> None:
    truth, paths = runs
    options = ("--benchmark", "pope", "--ground-truth", truth, "--out", bench.folder / "out")
    code, table, said = mgtool("eval", paths["ours"], "--compare", paths["theirs"], *options)
    assert code == 0
    assert "n needed" in table
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert any(line.startswith("first: theirs; answers.jsonl") for line in lines)
    assert any(line.startswith(f"second: ours ({SHA[:12]})") for line in lines)
    comparison = json.loads((bench.folder / "out/comparison.json").read_bytes())
    assert (comparison["name"], comparison["first_run"]["models"]) == ("pope (official)", ["theirs"])
    assert comparison["second_run"]["model_sha256"] == SHA
    assert "theirs; answers.jsonl" in (bench.folder / "out/report.html").read_text()
