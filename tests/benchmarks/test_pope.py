"""POPE: one word decides, splits are apart, the mean F1 is the figure."""

from __future__ import annotations

import json

import pytest

from mgtool import benchmarks
from mgtool.errors import InputError
from mgtool.records import Sample, Turn


def lines(label_of: list[str], *, picture: str = "p") -> list[dict[str, object]]:
    return [
        {"question_id": n, "image": f"{picture}{n // 2}.jpg", "text": f"Is there a thing {n}?", "label": label}
        for n, label in enumerate(label_of, 1)
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes", "yes"),
        ("No", "no"),
        ("No, there is not", "no"),
        ("There is no dog.", "no"),
        ("NO", "yes"),  # only these three spellings count
        ("Yes. But not today", "yes"),  # the text before the first full stop
        ("It is not", "no"),
        ("no\nreally", "yes"),  # split on the space alone
        ("", "yes"),
        (".No", "yes"),
    ],
)
def test_reading_of_an_answer(text: str, said: str) -> None:
    bench = benchmarks.get("pope")
    item = benchmarks.Item(id=1, target="yes")
    assert bench.score(item, text, "official").extracted == said


def test_numbers_of_each_split_and_their_mean(bench, value) -> None:
    # random: labels yes yes no no, said yes no yes no: tp 1 fn 1 fp 1 tn 1 -> P = R = F1 = acc = 50, yes 50
    # popular: all right -> 100; adversarial: all said yes: tp 2 fp 2 -> P 50, R 100, F1 66.67, acc 50, yes 100
    truth = [
        bench.write(f"coco_pope_{split}.json", "\n".join(map(json.dumps, lines(["yes", "yes", "no", "no"]))))
        for split in ("random", "popular", "adversarial")
    ]
    said = {"random": "yes no yes no", "popular": "yes yes no no", "adversarial": "yes yes yes yes"}
    answers = [
        {"question_id": n, "text": word, "category": split}
        for split, words in said.items()
        for n, word in enumerate(words.split(), 1)
    ]
    run = bench.score("pope", truth, answers)
    assert value(run, "f1") == pytest.approx((50 + 100 + 200 / 3) / 3)
    assert [value(run, f"random.{m}") for m in ("accuracy", "precision", "recall", "f1", "yes_ratio")] == [50.0] * 5
    assert value(run, "popular.f1") == 100
    assert value(run, "adversarial.precision") == 50
    assert value(run, "adversarial.recall") == 100
    assert value(run, "adversarial.yes_ratio") == 100
    assert run.result.counts.expected == run.result.counts.answered == 12


def test_ids_match_never_positions(bench, value) -> None:
    truth = bench.write("coco_pope_random.json", "\n".join(map(json.dumps, lines(["yes", "no", "no"]))))
    run = bench.score("pope", [truth], {3: "No", 1: "Yes", 2: "no"})
    assert value(run, "random.accuracy") == 100


def test_repeated_ids_need_a_split(bench) -> None:
    truth = [
        bench.write(f"coco_pope_{split}.json", "\n".join(map(json.dumps, lines(["yes", "no"]))))
        for split in ("random", "popular")
    ]
    with pytest.raises(InputError, match="give `split`, `questions`"):
        bench.score("pope", truth, {1: "Yes", 2: "No"})
    run = bench.score("pope", [bench.folder], {1: "Yes", 2: "No"}, split="popular")
    assert list(run.result.metrics) == [
        "f1",
        *(f"popular.{m}" for m in ("accuracy", "precision", "recall", "f1", "yes_ratio")),
    ]


def test_question_file_gives_the_ids(bench, value) -> None:
    dumps = json.dumps
    truth = [
        bench.write("coco_pope_random.json", "\n".join(map(dumps, lines(["yes", "no"])))),
        bench.write("coco_pope_popular.json", "\n".join(map(dumps, lines(["no", "yes"])))),
    ]
    asked = [
        {
            **row,
            "question_id": 10 * k + row["question_id"],
            "category": split,
            "text": f"{row['text']}\nAnswer the question",
        }
        for k, split in enumerate(("popular", "random"))
        for row in lines(["", ""])
    ]
    questions = bench.write("llava_pope_test.jsonl", asked)
    # 1, 2 are popular (no, yes), 11, 12 are random (yes, no)
    run = bench.score("pope", truth, {1: "No", 2: "Yes", 11: "Yes", 12: "Yes"}, questions=questions)
    assert value(run, "popular.accuracy") == 100
    assert value(run, "random.accuracy") == 50


def test_missing_is_wrong_and_divisions_are_guarded(bench, value) -> None:
    truth = bench.write("coco_pope_random.json", "\n".join(map(json.dumps, lines(["yes", "yes", "no"]))))
    run = bench.score("pope", [truth], {3: "No"})
    # nothing was found: two misses; precision has no divisor
    assert value(run, "random.accuracy") == pytest.approx(100 / 3)
    assert value(run, "random.precision") == value(run, "random.recall") == value(run, "random.f1") == 0
    assert value(run, "random.yes_ratio") == 0
    assert run.result.counts.missing == 2
    assert [score.status for score in run.scores] == ["missing", "missing", "answered"]


def test_a_table_whose_questions_belong_to_several_splits(bench, value) -> None:
    truth = bench.write(
        "POPE.tsv",
        [
            {
                "index": 0,
                "question": "Is there a cat?",
                "answer": "Yes",
                "category": "adversarial,popular",
                "image": "x",
            },
            {"index": 1, "question": "A dog?", "answer": "No", "category": "random", "image": "0"},
        ],
    )
    run = bench.score("pope", [truth], [{"index": 0, "prediction": "Yes"}, {"index": 1, "prediction": "Yes"}])
    assert value(run, "adversarial.f1") == value(run, "popular.f1") == 100
    assert value(run, "random.accuracy") == 0
    # VLMEvalKit pools the splits, and item 0 is in two of them: 2 found, 1 false alarm, F1 = 2 * (2/3 * 1) / (2/3 + 1)
    answers = [{"index": 0, "prediction": "Yes"}, {"index": 1, "prediction": "Yes"}]
    assert value(bench.score("pope", [truth], answers, variant="vlmevalkit"), "f1") == 80


def test_variants_differ_where_no_word_is_there(bench, value) -> None:
    truth = bench.write("coco_pope_random.json", "\n".join(map(json.dumps, lines(["yes", "no"]))))
    answers = {1: "There is one", 2: "I see no, or yes"}
    assert value(bench.score("pope", [truth], answers), "random.accuracy") == 100
    assert value(bench.score("pope", [truth], answers, variant="vlmevalkit"), "random.accuracy") == 0


def test_lmms_eval_does_not_miss_what_is_neither(bench, value) -> None:
    # 1 is found; 2 is neither yes nor no: wrong, but no false negative; 3 is a false alarm
    truth = bench.write("coco_pope_random.json", "\n".join(map(json.dumps, lines(["yes", "yes", "no"]))))
    run = bench.score("pope", [truth], {1: "Yes", 2: "Yes, it is", 3: "yes"}, variant="lmms-eval")
    assert value(run, "random.accuracy") == pytest.approx(100 / 3)
    assert value(run, "random.recall") == 100
    assert value(run, "random.precision") == 50


def test_prompt() -> None:
    sample = Sample(id=1, turns=(Turn("human", "Is there a dog?"),))
    assert benchmarks.get("pope").prompt(sample) == "Is there a dog?\nPlease answer the question with yes or no."


def test_a_share_has_an_interval_even_where_it_is_all_or_nothing(bench) -> None:
    lines = [{"question_id": n, "image": f"{n}.jpg", "text": "Is it?", "label": "yes"} for n in range(10)]
    run = bench.score("pope", [bench.write("pope_random.jsonl", lines)], {str(n): "Yes" for n in range(10)})
    for metric in ("accuracy", "precision", "recall", "yes_ratio"):
        found = run.result.metrics[f"random.{metric}"]
        assert found.value == 100
        assert found.interval == pytest.approx((72.2467, 100), abs=1e-3)  # Wilson's, of 10 in 10
