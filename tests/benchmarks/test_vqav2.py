"""VQAv2: ten annotators, normalised only where they differ."""

from __future__ import annotations

import json
import random

import pytest

from mgtool.errors import InputError


def annotation(number: int, answers: list[str], **more: object) -> dict[str, object]:
    listed = [{"answer": answer, "answer_confidence": "yes", "answer_id": n} for n, answer in enumerate(answers, 1)]
    return {"question_id": number, "image_id": number // 10, "answers": listed, **more}


def files(bench, annotations: list[dict[str, object]]):
    asked = [{"question_id": a["question_id"], "image_id": a["image_id"], "question": "What?"} for a in annotations]
    return [
        bench.write("v2_mscoco_val2014_annotations.json", {"annotations": annotations, "data_subtype": "val2014"}),
        bench.write("v2_OpenEnded_mscoco_val2014_questions.json", {"questions": asked}),
    ]


def test_accuracy_and_types(bench, value) -> None:
    truth = files(
        bench,
        [
            annotation(10, ["yes"] * 10, question_type="is the", answer_type="yes/no"),
            # "two" is 2 after normalisation; 2 matches of the others -> (2 * 1/3 + 8 * 2/3) / 10 = 0.6
            annotation(11, ["2"] * 2 + ["3"] * 8, question_type="how many", answer_type="number"),
            annotation(20, ["red"] * 5 + ["dark red"] * 5, question_type="what color", answer_type="other"),
        ],
    )
    run = bench.score("vqav2", truth, {10: " yes\n", 11: "Two", 20: "blue"})
    # (1 + 0.6 + 0) / 3 = 53.333 -> two digits
    assert value(run, "accuracy") == 53.33
    assert {k: m.value for k, m in run.result.breakdown["answer_type"].items()} == {
        "number": 60,
        "other": 0,
        "yes/no": 100,
    }
    assert set(run.result.breakdown) == {"question_type", "answer_type"}


@pytest.mark.parametrize(
    ("answers", "text", "score"),
    [
        (["Yes"] * 10, "yes", 0),  # all agree: compared raw, and the case differs
        (["Yes"] * 10, "Yes", 1),
        (["yes\t"] * 10, "yes", 1),  # but tabs go and ends are stripped
        (["Yes"] * 9 + ["no"], "yes", 1),  # they differ: normalised
        (["the dog"] * 10, "dog", 0),
        (["the dog"] * 9 + ["a dog"], "dog", 1),
        (["yes"] * 9 + ["yes "], "Yes", 0),  # stripped first, so all are equal and the raw texts are compared
    ],
)
def test_raw_where_all_agree(bench, answers: list[str], text: str, score: float) -> None:
    run = bench.score("vqav2", files(bench, [annotation(1, answers)]), {1: text})
    assert run.scores[0].score == score


def test_lmms_eval_always_normalises(bench) -> None:
    truth = files(bench, [annotation(1, ["yes"] * 10)])
    assert bench.score("vqav2", truth, {1: "Yes"}, variant="lmms-eval").scores[0].score == 1
    assert bench.score("vqav2", truth, {1: "Yes"}).scores[0].score == 0


def test_missing_duplicated_unknown(bench, value) -> None:
    truth = files(bench, [annotation(n, ["yes"] * 10) for n in (1, 2, 3, 4)])
    answers = [
        {"question_id": 1, "text": "no"},
        {"question_id": 1, "text": "yes"},  # the last one counts
        {"question_id": 2, "text": "yes", "finish_reason": "length"},
        {"question_id": 99, "text": "yes"},
    ]
    run = bench.score("vqav2", truth, answers)
    counts = run.result.counts
    assert (counts.expected, counts.answered, counts.missing, counts.failed) == (4, 2, 2, 0)
    assert (counts.duplicated, counts.truncated, counts.unknown) == (1, 1, 1)
    assert value(run, "accuracy") == 50
    only = bench.score("vqav2", truth, answers, only_answered=True)
    assert value(only, "accuracy") == 100
    assert only.result.name == "vqav2 (official), only answered"


def test_submission_for_the_server(bench) -> None:
    questions = bench.write(
        "v2_OpenEnded_mscoco_test-dev2015_questions.json",
        {"questions": [{"question_id": n, "image_id": n, "question": "What?"} for n in (1, 2)]},
    )
    from mgtool import benchmarks

    run = bench.score("vqav2", [questions], {1: "The Dog's, bowl."})
    file = benchmarks.get("vqav2").submission(run.pairs, "test-dev")
    assert file is not None
    # no answers are public: nothing is scored, and not as 0
    assert run.result.metrics["accuracy"].value is None
    assert run.result.notes[0].startswith("nothing is scored")
    # EvalAI's form: every question, through the M4C processor; what is missing is empty
    assert json.loads(file.data) == [{"question_id": 1, "answer": "dog 's bowl"}, {"question_id": 2, "answer": ""}]


def test_a_wrong_file_is_one_line(bench) -> None:
    wrong = bench.write("other.json", {"images": []})
    with pytest.raises(InputError, match=r"other\.json: expected a JSON object with `annotations`"):
        bench.score("vqav2", [wrong], {1: "yes"})


def test_means_on_ties_round_as_the_official_script_rounds_them(bench, value) -> None:
    # vqaEval.py: round(100 * float(sum(accuracies)) / len(accuracies), 2); of 16 items every second mean is a tie
    rng = random.Random(0)
    differ = 0
    for _ in range(200):
        matches = [rng.choice((0, 3, 4, 6)) for _ in range(16)]
        annotations = [annotation(n, ["a"] * m + ["b"] * (10 - m)) for n, m in enumerate(matches)]
        run = bench.score("vqav2", files(bench, annotations), dict.fromkeys(range(16), "a"))
        accuracies = [score.score for score in run.scores]
        assert value(run, "accuracy") == round(100 * float(sum(accuracies)) / len(accuracies), 2)
        differ += round(sum(100 * a for a in accuracies) / 16, 2) != value(run, "accuracy")
    assert differ  # the order of operations matters in these
