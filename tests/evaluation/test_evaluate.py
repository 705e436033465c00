"""`evaluate` from Python: typed options in, typed results out, nothing printed."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys

import pytest

from mgtool.commands import eval as command
from mgtool.errors import UsageError
from mgtool.evaluation.options import EvalOptions
from mgtool.stages import evaluate as stage


@pytest.fixture
def seedbench(bench):
    """Two questions, of which one is read differently by two of the variants; the second run has both wrong."""
    rows = [{"index": n, "question": "?", "A": "cat", "B": "dog", "answer": "B", "image": "0"} for n in (1, 2)]
    truth = bench.write("truth/SEEDBench_IMG.tsv", rows)
    said = bench.write("run/said.jsonl", [{"question_id": 1, "text": "Answer: B"}, {"question_id": 2, "text": "B"}])
    wrong = bench.write("other/wrong.jsonl", [{"question_id": n, "text": "A"} for n in (1, 2)])
    return truth, said, wrong


def test_nothing_is_written_without_a_folder(seedbench, bench, capsys) -> None:
    truth, said, _ = seedbench
    before = sorted(bench.folder.rglob("*"))
    evaluation = stage.evaluate(said, EvalOptions("seedbench", ground_truth=[truth]))
    assert evaluation.result.metrics["accuracy"].value == 100
    assert (evaluation.counts.expected, evaluation.counts.answered, evaluation.answers) == (2, 2, 2)
    assert (evaluation.comparison, evaluation.failures) == (None, [])
    assert "<td>accuracy</td><td>100.00</td>" in evaluation._repr_html_()
    assert sorted(bench.folder.rglob("*")) == before
    assert capsys.readouterr() == ("", "")


def test_the_folder_is_the_command_lines(mgtool, seedbench, bench) -> None:
    truth, said, wrong = seedbench
    ours, theirs = bench.folder / "ours", bench.folder / "theirs"
    evaluation = stage.evaluate(said, EvalOptions("seedbench", ground_truth=[truth], compare=str(wrong)), str(ours))
    assert evaluation.comparison is not None
    assert (evaluation.comparison.fixed, evaluation.comparison.broken) == (2, 0)
    options = ("--benchmark", "seedbench", "--ground-truth", truth, "--compare", wrong, "--out", theirs, "-q")
    assert mgtool("eval", said, *options)[0] == 0
    names = {"scores.json", "scores.jsonl", "comparison.json", "failures.jsonl", "report.html", "run.json"}
    assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()} == names
    for name in names - {"run.json"}:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()


def test_variants_and_plan(seedbench) -> None:
    truth, said, _ = seedbench
    options = EvalOptions("seedbench", ground_truth=[truth])
    found = stage.explain_variants(said, options)
    assert (found.variants, found.expected) == (("official", "vlmevalkit", "llava", "lmms-eval", "mg-llava"), 2)
    scores = {"official": 1.0, "vlmevalkit": 1.0, "llava": 0.0, "lmms-eval": 0.0, "mg-llava": 0.0}
    assert [(item.question_id, item.scores) for item in found.items] == [(1, scores)]
    assert stage.plan(said, options) == stage.EvalPlan("seedbench", "official", items=2, answers=2, unreadable=0)


def test_mistakes_name_the_field(seedbench) -> None:
    truth, said, _ = seedbench
    with pytest.raises(UsageError, match="`benchmark` is missing"):
        stage.evaluate(said, EvalOptions(ground_truth=[truth]))
    with pytest.raises(UsageError, match="`submission` needs `out` DIR"):
        stage.evaluate(said, EvalOptions("seedbench", ground_truth=[truth], submission=True))
    with pytest.raises(UsageError, match="`judge` needs `out` DIR"):
        stage.evaluate(said, EvalOptions("seedbench", ground_truth=[truth], judge="openai:x"))
    with pytest.raises(UsageError, match="`judge_workers` 0: give 1 or more"):
        EvalOptions("seedbench", judge_workers=0)


def test_the_command_line_takes_its_defaults_from_the_options() -> None:
    parameters = inspect.signature(command.evaluate).parameters
    defaults = {field.name: field.default for field in dataclasses.fields(EvalOptions)}
    assert {name: parameters[name].default for name in defaults} == defaults


def test_the_options_are_light() -> None:
    code = (
        "import sys, mgtool.evaluation.options; print(*{'numpy', 'msgspec', 'torch', 'scipy', 'PIL'} & {*sys.modules})"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert loaded.strip() == ""
