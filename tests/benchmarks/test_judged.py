"""Benchmarks whose answers a judge reads, held to what their originals ask and make of the replies."""

from __future__ import annotations

import json

import pytest
from judges import judge_at, score

from mgtool.errors import InputError
from mgtool.scoring import predictions


def test_llava_bench(bench, serve, value) -> None:
    asked = [
        {"question_id": n, "image": "1.jpg", "category": "conv" if n < 2 else "detail", "text": f"q{n}"}
        for n in range(3)
    ]
    truth = [
        bench.write("lb/questions.jsonl", asked),
        bench.write("lb/context.jsonl", [{"image": "1.jpg", "caption": "a cat"}]),
        bench.write("lb/answers_gpt4.jsonl", [{"question_id": n, "text": "reference"} for n in range(3)]),
    ]
    replies = {"q0": "8 6\nbecause", "q1": "9, 10", "q2": "8.0 4.0\n"}
    server = serve(lambda prompt: next(text for key, text in replies.items() if key in prompt))
    run = score(
        bench, "llava-bench", [truth[0].parent], dict.fromkeys(range(3), "model"), judge_at(server, bench.folder)
    )
    # "9, 10" splits into three cells and cannot be read: it counts as -1 twice; (6 - 1 + 4) / (8 - 1 + 8) = 60
    assert value(run, "score") == 60
    assert run.result.breakdown["category"]["conv"].value == pytest.approx(100 * 5 / 7)
    assert "1 replies of the judge could not be read: they count as -1" in run.result.notes[0]
    content = server.bodies[0]["messages"][-1]["content"]
    assert content.index("[Assistant 1]\nreference") < content.index("[Assistant 2]\nmodel")


def test_mmvp(bench, serve, value) -> None:
    rows = "Index,Question,Options,Correct Answer\n" + "".join(
        f"{n},Is it {n}?,(a) Open (b) Closed,(a)\n" for n in range(1, 5)
    )
    truth = bench.write("Questions.csv", rows)
    server = serve(lambda prompt: "No" if "answer:shut" in prompt else "yes")
    run = score(bench, "mmvp", [truth], {1: "open", 2: "open", 3: "open", 4: "shut"}, judge_at(server, bench.folder))
    assert (value(run, "accuracy"), value(run, "question_accuracy")) == (50, 75)
    plain = bench.score("mmvp", [truth], {1: "A.", 2: "Open", 3: "A", 4: "B"}, variant="vlmevalkit")
    assert (value(plain, "accuracy"), value(plain, "question_accuracy")) == (50, 75)


def test_video_qa(bench, serve, value) -> None:
    truth = [
        bench.write("test_q.json", [{"question_id": n, "question": f"q{n}?", "video_name": "v"} for n in range(3)]),
        bench.write("test_a.json", [{"question_id": n, "answer": "a cat"} for n in range(3)]),
    ]
    replies = {"q0": "{'pred': 'Yes!', 'score': 4.8}", "q1": "Sure: {'pred': 'No', 'score': 1}", "q2": "{'pred': yes}"}
    server = serve(lambda prompt: next(text for key, text in replies.items() if key in prompt))
    run = score(bench, "msvd-qa", truth, dict.fromkeys(range(3), "cat"), judge_at(server, bench.folder))
    assert value(run, "accuracy") == pytest.approx(100 / 3)
    assert value(run, "score") == pytest.approx(5 / 3)  # the original cuts 4.8 to 4
    assert "temperature" not in server.bodies[0]  # nor does it name a temperature


def test_a_reply_that_cannot_be_read_is_asked_for_again(bench, serve, value) -> None:
    replies = iter(["Hm.", "{'pred': 'yes', 'score': 4}", "Hm.", "Hm.", "B"])
    server = serve(lambda prompt: next(replies))
    truth = bench.write("q.json", [{"question_id": 1, "question": "q?", "answer": "a", "video_name": "v"}])
    run = score(bench, "msvd-qa", [truth], {1: "x"}, judge_at(server, bench.folder))
    assert (value(run, "accuracy"), value(run, "score")) == (100, 4)
    table = bench.write("S.tsv", [{"index": 1, "question": "?", "A": "cat", "B": "dog", "answer": "B"}])
    run = score(bench, "seedbench", [table], {1: "it barks"}, judge_at(server, bench.folder))
    assert (value(run, "accuracy"), sum(server.seen.values())) == (100, 5)
    again = judge_at(server, bench.folder)  # the journal tells the repeated questions apart
    assert value(score(bench, "seedbench", [table], {1: "it barks"}, again), "accuracy") == 100
    assert again.asked == 0


def test_a_choice_without_a_readable_reply_is_counted_as_the_judges(bench, serve) -> None:
    server = serve(lambda prompt: "Hm.")
    table = bench.write("S.tsv", [{"index": 1, "question": "?", "A": "cat", "B": "dog", "answer": "B"}])
    run = score(bench, "seedbench", [table], {1: "it barks"}, judge_at(server, bench.folder))
    assert run.result.notes == ["1 replies of the judge could not be read: they count as wrong"]
    assert sum(server.seen.values()) == 3


def test_vlmevalkit_asks_for_a_yes_or_no_hotter_and_hotter(bench, serve, value) -> None:
    replies = iter(["Unknown", "yes or no", "Yes"] + ["Unknown"] * 5 + ["B"])
    server = serve(lambda prompt: next(replies))
    rows = [
        {"index": n, "question": f"q{n}", "answer": "Yes", "category": "OCR", "image_path": f"OCR/{n}.jpg"}
        for n in (1, 2)
    ]
    truth = bench.write("MME.tsv", rows)
    judge = judge_at(server, bench.folder, workers=1)
    run = score(bench, "mme", [truth], {1: "It is", 2: "No"}, judge, variant="vlmevalkit")
    assert [item.score for item in run.scores] == [1, 0]
    assert [body["temperature"] for body in server.bodies] == [0.0, 0.5, 1.0]
    run = score(bench, "mme", [truth], {1: "Well", 2: "No"}, judge_at(server, bench.folder), variant="vlmevalkit")
    assert run.result.notes[-1] == "1 replies of the judge could not be read: they count as other, which is wrong"
    pairs = bench.write(
        "MMVP.tsv", [{"index": n, "question": "?", "A": "cat", "B": "dog", "answer": "B"} for n in (1, 2)]
    )
    judge = judge_at(server, bench.folder)
    run = score(bench, "mmvp", [pairs], {1: "it barks", 2: "a dog"}, judge, variant="vlmevalkit")
    assert value(run, "accuracy") == 100


def mathvista(bench):
    base = {"question": "?", "image": "1.png", "metadata": {"task": "math word problem", "skills": ["arithmetic"]}}
    multi = {"question_type": "multi_choice", "answer_type": "text", "choices": ["3/11", "8/11"]}
    decimal = {"question_type": "free_form", "answer_type": "float", "precision": 1.0}
    problems = {
        "1": {**base, **multi, "answer": "8/11"},
        "2": {**base, **decimal, "answer": "1.2"},
        "3": {**base, "question_type": "free_form", "answer_type": "integer", "answer": "14"},
        "4": {**base, **multi, "answer": "3/11"},
    }
    return bench.write("testmini.json", problems)


def test_mathvista_by_rule(bench, value) -> None:
    # 1: (B) in the sentence -> 8/11; 2: 1.24 rounds to 1.2; 3: nothing to be found without a judge; 4: a choice
    answers = {"1": 'The answer is "(B) eight elevenths".', "2": "1.24", "3": "It is 14", "4": "3/11"}
    run = score(bench, "mathvista", [mathvista(bench)], answers, None)
    assert [item.score for item in run.scores] == [1, 1, 0, 1]
    assert run.result.notes[0].startswith("1 replies")
    assert run.result.breakdown["skills"]["arithmetic"].n == 4


def test_mathvista_reads_its_own_results(bench) -> None:
    """`generate_response.py` writes the whole problems, target and all; one that failed has no `response`: 1 of 2."""
    truth = mathvista(bench)
    problems = json.loads(truth.read_bytes())
    said = {"2": {**problems["2"], "pid": "2", "response": "1.2"}, "3": {**problems["3"], "pid": "3", "error": "busy"}}
    answers = predictions.read(json.dumps(said).encode(), where="output.json")
    assert [(p.id, p.text) for p in answers.predictions] == [("2", "1.2")]
    assert [failure.id for failure in answers.failures] == ["3"]
    assert bench.score("mathvista", [truth], answers).scores[1].score == 1
    with pytest.raises(InputError, match="no answer in this file"):
        predictions.read(truth.read_bytes(), where="testmini.json")


def test_mathvista_strips_a_reply(bench, serve, value) -> None:
    problem = {
        "question": "?",
        "image": "1.png",
        "answer": "[2, 4]",
        "question_type": "free_form",
        "answer_type": "list",
    }
    server = serve(lambda prompt: " [2, 4]\n")
    truth = bench.write("list.json", {"1": problem})
    assert (
        value(score(bench, "mathvista", [truth], {"1": "The second"}, judge_at(server, bench.folder)), "accuracy")
        == 100
    )


def test_mm_vet_tables_list_capabilities_with_commas(bench, serve) -> None:
    rows = [
        {"index": n, "question": "?", "answer": "x", "category": category}
        for n, category in enumerate(("ocr,math", "ocr"))
    ]
    server = serve(lambda prompt: "1.0" if "| one |" in prompt else "0.0")
    run = score(bench, "mm-vet", [bench.write("MMVet.tsv", rows)], {0: "one", 1: "two"}, judge_at(server, bench.folder))
    assert {key: number.value for key, number in run.result.breakdown["capability"].items()} == {"math": 100, "ocr": 50}
    assert set(run.result.breakdown["capabilities"]) == {"math_ocr", "ocr"}


def test_mathvista_with_a_judge(bench, serve, value) -> None:
    server = serve(lambda prompt: "14.0")
    run = score(bench, "mathvista", [mathvista(bench)], {"3": "It is fourteen"}, judge_at(server, bench.folder))
    assert run.scores[2].score == 1  # int(float("14.0"))
    assert server.bodies[0]["max_tokens"] == 256


def test_mathvista_asks_about_every_sentence_when_there_is_a_judge(bench, serve) -> None:
    # the quick rule for `The answer is "..."` is off in the original, unless asked for
    server = serve(lambda prompt: "A")
    answers = {"1": 'The answer is "(B) eight elevenths".', "2": "", "4": "8/11"}
    run = score(bench, "mathvista", [mathvista(bench)], answers, judge_at(server, bench.folder))
    assert [item.extracted for item in run.scores] == ["3/11", None, None, "8/11"]
    assert len(server.bodies) == 1


def test_mathvista_takes_the_nearest_choice(bench) -> None:
    # "8/12" is one edit from 8/11 and three from 3/11
    run = score(bench, "mathvista", [mathvista(bench)], {"1": 'The answer is "8/12".'}, None)
    assert run.scores[0].extracted == "8/11"


def test_choices_that_the_rules_cannot_read(bench, serve, value) -> None:
    row = {"index": 1, "question": "What", "A": "cat", "B": "dog", "answer": "B", "category": "x", "image": "1"}
    truth = bench.write("MMBench_DEV_EN.tsv", [row])
    server = serve(lambda prompt: "B")
    run = score(bench, "mmbench", [truth], {1: "man's best friend"}, judge_at(server, bench.folder))
    assert value(run, "accuracy") == 100
    asked = server.bodies[0]["messages"][0]["content"]
    assert "Question: What?\nOptions: There are several options: \nA. cat\nB. dog\n\nAnswer: man's" in asked


def test_choices_in_chinese_are_asked_about_in_chinese(bench, serve, value) -> None:
    row = {"index": 1, "question": "这是什么", "A": "猫", "B": "狗", "answer": "B", "category": "x", "image": "1"}
    truth = bench.write("MMBench_DEV_CN.tsv", [row])
    server = serve(lambda prompt: "B" if prompt.startswith("你是一个") else "A")
    run = score(bench, "mmbench-cn", [truth], {1: "人类的朋友"}, judge_at(server, bench.folder))
    assert value(run, "accuracy") == 100


@pytest.mark.parametrize(
    ("reply", "figure", "right"),
    [
        ("Correct.", 1, 1),
        ("incorrect", 1, 0),  # holds the word correct too
        ("unclear", 1, 0),
        ("unclear", 0, 1),  # no figure to look at: not to know is right
    ],
)
def test_hallusionbench_as_the_official_script_asks(bench, serve, reply: str, figure: int, right: int) -> None:
    ids = {"set_id": "0", "figure_id": str(figure), "question_id": "0", "gt_answer": "1"}
    row = {"category": "VS", "subcategory": "map", "question": "Is it?", "gt_answer_details": "It is north.", **ids}
    truth = bench.write("HallusionBench.json", [row])
    server = serve(lambda prompt: reply)
    answers = {f"VS_map_0_{figure}_0": "north"}
    run = score(bench, "hallusionbench", [truth], answers, judge_at(server, bench.folder))
    assert run.scores[0].score == right
    body = server.bodies[0]
    assert "\nReference answer: It is north.\nPrediction answer:north\nOutput:" in body["messages"][0]["content"]
    assert "temperature" not in body  # the original names none
    by_rule = score(bench, "hallusionbench", [truth], answers, None)
    assert by_rule.scores[0].score == 0
    assert by_rule.result.notes[0].startswith("yes and no are read by rule")


@pytest.mark.parametrize(("reply", "right"), [("Yes", 1), ("no", 0), ("Yes.", 0), ("yes\n", 0)])
def test_mmvp_takes_yes_or_no_alone(bench, serve, reply: str, right: int) -> None:
    header = "Index,Question,Options,Correct Answer\n"
    truth = bench.write("Questions.csv", header + "1,Open?,(a) Yes (b) No,(a)\n2,Open?,(a) Yes (b) No,(b)\n")
    run = score(bench, "mmvp", [truth], {1: "a"}, judge_at(serve(lambda prompt: reply), bench.folder))
    assert run.scores[0].score == right
