"""A-OKVQA, BLINK, MathVerse and RealWorldQA: the layouts of their files, and what is told of each variant."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq

from mgtool import benchmarks
from mgtool.records import Sample, Turn
from mgtool.scoring import predictions

PROBLEM = {"question": "Where?", "choices": ["a cat", "a dog"], "correct_choice_idx": 1, "image_id": 7}


def aokvqa(bench):
    rows = [
        {"question_id": f"q{n}", **PROBLEM, "direct_answers": ["dog"] * 2 + ["cat"], "difficult_direct_answer": n == 2}
        for n in range(3)
    ]
    return bench.write("aokvqa_v1p0_val.json", rows)


def test_a_letter_stands_for_its_choice(bench, value) -> None:
    run = bench.score("aokvqa", [aokvqa(bench)], {"q0": "(B)", "q1": "a dog", "q2": "A dog"})
    assert [score.score for score in run.scores] == [1, 1, 0]  # letter for letter, as the script compares
    assert run.scores[0].image == "000000000007.jpg"


def test_the_official_object_has_both_settings(bench, value) -> None:
    said = {f"q{n}": {"multiple_choice": "a dog", "direct_answer": "dog"} for n in range(3)}
    answers = predictions.read(json.dumps(said).encode(), where="predictions_val.json")
    assert value(bench.score("aokvqa", [aokvqa(bench)], answers), "accuracy") == 100
    direct = bench.score("aokvqa-da", [aokvqa(bench)], answers)
    assert value(direct, "accuracy") == round(100 * 2 / 3, 6)
    assert direct.result.metrics["accuracy"].n == 2  # one is hard to answer directly
    assert direct.needed == 2


def test_blink_comes_as_parquet(bench, value) -> None:
    rows = [
        {"idx": f"val_{task}_{n}", "sub_task": task, "question": "Which?", "choices": ["x", "y"], "answer": "(B)"}
        for task, count in (("Counting", 3), ("Jigsaw", 1))
        for n in range(count)
    ]
    path = bench.folder / "val.parquet"
    pq.write_table(pa.Table.from_pylist([{**row, "image_1": {"bytes": b"", "path": "a.jpg"}} for row in rows]), path)
    said = {row["idx"]: "(B)" if row["sub_task"] == "Counting" else "(A)" for row in rows}
    assert value(bench.score("blink", [path], said), "accuracy") == 50  # of the tasks
    assert value(bench.score("blink", [path], said, variant="vlmevalkit"), "accuracy") == 75


def test_blink_and_mathverse_ask_with_their_published_prompt() -> None:
    asked = (Turn("human", "Which?"),)
    blink = Sample(id=1, turns=asked, metadata={"prompt": "Which?\n(A) x\n(B) y"})
    assert benchmarks.get("blink").prompt(blink) == "Which?\n(A) x\n(B) y"
    verse = Sample(id=1, turns=asked, metadata={"query_wo": "Please answer.\nWhich?"})
    assert benchmarks.get("mathverse").prompt(verse) == "Please answer.\nWhich?"


def test_mathverse_without_a_judge_says_so(bench, value) -> None:
    metadata = {"subject": "Plane Geometry", "subfield": "Angle"}
    problem = {"sample_index": "1", "problem_index": "1", "problem_version": "Vision Only", "question": "x = ?"}
    truth = bench.write("testmini.json", [{**problem, "answer": "B", "image": "1.png", "metadata": metadata}])
    run = bench.score("mathverse", [truth], {"1": "B"})
    assert value(run, "accuracy") == 100
    assert run.result.notes[0].startswith("answers have to be equal")
    assert set(run.result.breakdown) == {"problem_version", "subject", "subfield"}


def test_realworldqa_has_answers_without_letters(bench, value) -> None:
    question = "How many?\nPlease answer directly with a single word or number."
    path = bench.folder / "test.parquet"
    pq.write_table(pa.Table.from_pylist([{"question": question, "answer": "Two"}] * 2), path)
    assert value(bench.score("realworldqa", [path], {0: "two.", 1: "It is two"}), "accuracy") == 50


def test_the_list_of_variants(mgtool) -> None:
    code, out, _ = mgtool("eval", "--list", "--variants", "--json")
    listed = json.loads(out)
    assert code == 0
    assert {row["benchmark"] for row in listed} == set(benchmarks.TABLE)
    assert all(row["does"] for row in listed)
    assert {row["variant"] for row in listed if row["benchmark"] == "mmmu"} == {
        *("official", "vlmevalkit", "mg-llava", "lmms-eval")
    }
    code, out, _ = mgtool("eval", "--list", "--variants", "--benchmark", "mmstar")
    assert (code, out.splitlines()[0]) == (0, "mmstar")
    assert out.count("\n") == 5
