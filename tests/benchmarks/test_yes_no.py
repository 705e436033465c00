"""MME and HallusionBench: pairs, figures, questions."""

from __future__ import annotations

import json

import pytest

from mgtool import benchmarks
from mgtool.errors import InputError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes", "yes"),
        ("No.", "no"),
        (" yes", "yes"),  # within the first four characters
        ("Well, yes", "other"),
        ("not", "no"),
        ("I know", "other"),  # "i kn": the n of know is the fourth character, its o the fifth
        ("", "other"),
    ],
)
def test_mme_reading(text: str, said: str) -> None:
    assert benchmarks.get("mme").score(benchmarks.Item(id=1, target="yes"), text, "official").extracted == said


def test_mme_of_lmms_eval_strips_first() -> None:
    item = benchmarks.Item(id=1, target="yes")
    said = {
        variant: benchmarks.get("mme").score(item, "\n ..yes", variant).extracted
        for variant in ("official", "lmms-eval")
    }
    assert said == {"official": "other", "lmms-eval": "yes"}


@pytest.mark.parametrize(("text", "said"), [("Y.", "yes"), ("n", "no"), ("x", "other"), ("y n", "other")])
def test_mme_of_lmms_eval_takes_a_letter(text: str, said: str) -> None:
    assert benchmarks.get("mme").score(benchmarks.Item(id=1, target="yes"), text, "lmms-eval").extracted == said


def test_mmvp_options_may_hold_parentheses(bench, value) -> None:
    options = {"A": "The dog (left)", "B": "The dog (right)"}
    table = [{"index": n, "question": "?", **options, "answer": letter} for n, letter in ((1, "B"), (2, "A"))]
    said = {1: "the dog (right)", 2: "the dog (left)"}
    assert value(bench.score("mmvp", [bench.write("MMVP.tsv", table)], said, variant="vlmevalkit"), "accuracy") == 100
    lines = "".join(f"{n},?,(a) The dog (left) (b) The dog (right),({c})\n" for n, c in ((1, "b"), (2, "a")))
    official = bench.write("Questions.csv", f"Index,Question,Options,Correct Answer\n{lines}")
    assert value(bench.score("mmvp", [official], said, variant="vlmevalkit"), "accuracy") == 100


def mme(bench):
    lines = "Is it a cat? Please answer yes or no.\tYes\nIs it a dog? Please answer yes or no.\tNo\n"
    for name in ("existence/0001.txt", "existence/0002.txt", "code_reasoning/questions_answers_YN/0003.txt"):
        bench.write(f"MME/{name}", lines)
    return bench.folder / "MME"


def said(picture: str, first: str, second: str) -> list[dict[str, str]]:
    # LLaVA's layout: the picture's id for both questions, the question with its own instruction in the prompt
    suffix = "\nAnswer the question using a single word or phrase."
    return [
        {"question_id": picture, "prompt": f"Is it a cat?{suffix}", "text": first},
        {"question_id": picture, "prompt": f"Is it a dog?{suffix}", "text": second},
    ]


def test_mme_points(bench, value) -> None:
    # existence: 3 of 4 right, 1 of 2 pictures with both: 75 + 50; code_reasoning: 2 of 2 and 1 of 1: 200
    answers = [
        *said("existence/0001.png", "Yes", "No"),
        *said("existence/0002.png", "Yes", "Yes"),
        *said("code_reasoning/0003.png", "yes", "no"),
    ]
    run = bench.score("mme", [mme(bench)], answers)
    assert (value(run, "perception"), value(run, "cognition")) == (125, 200)
    assert run.result.breakdown["task"]["existence"].value == 125
    assert run.result.breakdown["accuracy+"]["existence"].value == 50
    assert run.result.counts.duplicated == 0
    assert "position" in run.result.notes[0]


def test_a_picture_with_one_answer_is_none_with_both_right(bench, value) -> None:
    answers = [*said("existence/0001.png", "Yes", "No")[:1], *said("existence/0002.png", "Yes", "Yes")]
    # 2 of 3 answered questions are right, and no picture with both
    run = bench.score("mme", [mme(bench)], answers, only_answered=True)
    assert value(run, "perception") == pytest.approx(200 / 3, abs=1e-6)


def test_mme_answers_with_the_folder_between(bench, value) -> None:
    """LLaVA's own question file names `artwork/images/1.jpg`; its converter takes the first part and the last.

    Both questions of the one picture are right: 100 + 100.
    """
    truth = bench.write(
        "MME/artwork/questions_answers_YN/1.txt",
        "Is it a cat? Please answer yes or no.\tYes\nIs it a dog? Please answer yes or no.\tNo\n",
    )
    run = bench.score("mme", [truth.parents[2]], said("artwork/images/1.jpg", "Yes", "No"))
    assert value(run, "perception") == 200
    with pytest.raises(InputError, match="no answer belongs to mme"):
        bench.score("mme", [truth.parents[2]], {"elsewhere": "Yes"})


def test_mme_task_files_and_tables(bench, value) -> None:
    lines = "a.jpg\tIs it?\tYes\na.jpg\tIs it not?\tNo\n"
    answers = [
        {"question_id": "count/a.jpg", "prompt": "Is it?", "text": "yes"},
        {"question_id": "count/a.jpg", "prompt": "Is it not?", "text": "yes"},
    ]
    assert value(bench.score("mme", [bench.write("results/count.txt", lines)], answers), "perception") == 50
    rows = [
        {"index": n, "question": f"q{n}", "answer": "Yes", "category": "OCR", "image_path": "OCR/1.jpg"} for n in (0, 1)
    ]
    assert value(bench.score("mme", [bench.write("MME.tsv", rows)], {0: "yes", 1: "yes"}), "perception") == 200


def test_mme_results_folder(bench, value, mgtool) -> None:
    """The folder that `calculation.py` takes: a file for each task, and one line of no answer."""
    pairs = [("Is it a cat? Please answer yes or no.", "Yes"), ("Is it a dog? Please answer yes or no.", "No")]
    bench.write("Your_Results/existence.txt", "".join(f"1.jpg\t{q}\t{a}\n" for q, a in pairs))
    bench.write("LaVIN/existence.txt", "".join(f"1.jpg\t{q}\t{a}\t{a}\n" for q, a in pairs) + "torn\n")
    truth = bench.folder / "Your_Results"
    answers = benchmarks.get("mme").folder_answers(bench.folder / "LaVIN")
    run = bench.score("mme", [truth], answers)
    assert (value(run, "perception"), run.result.counts.unreadable) == (200, 1)
    code, out, _ = mgtool("eval", bench.folder / "LaVIN", "--benchmark", "mme", "--ground-truth", truth, "--json")
    assert (code, json.loads(out)["metrics"]["perception"]["value"]) == (3, 200)
    with pytest.raises(InputError, match=r"holds no TASK\.txt with picture, question, target and answer"):
        benchmarks.get("mme").folder_answers(truth)
    code, _, err = mgtool("eval", truth, "--benchmark", "vqav2", "--ground-truth", truth)
    assert code == 2
    assert "a folder: give the answers file" in err


def test_hallusionbench(bench, value) -> None:
    def row(category: str, figure: int, question: int, answer: int) -> dict[str, object]:
        ids = {"set_id": "0", "figure_id": str(figure), "question_id": str(question), "gt_answer": str(answer)}
        return {"category": category, "subcategory": "math", "question": "?", **ids}

    rows = [row("VS", 0, 0, 1), row("VS", 1, 0, 0), row("VS", 1, 1, 1), row("VD", 0, 0, 1)]
    answers = {"VS_math_0_0_0": "No", "VS_math_0_1_0": "no", "VS_math_0_1_1": "Yes.", "VD_math_0_0_0": "yes or no"}
    run = bench.score("hallusionbench", [bench.write("HallusionBench.json", rows)], answers)
    # answers: 2 of 4; figures VS 1 (right) and VD 0 (wrong), VS 0 has no figure: 1 of 2
    # questions: VS 0 (one wrong), VS 1 (right), VD 0 (wrong): 1 of 3
    assert value(run, "aAcc") == 50
    assert value(run, "fAcc") == 50
    assert value(run, "qAcc") == pytest.approx(100 / 3)
    other = bench.score("hallusionbench", [bench.folder / "HallusionBench.json"], answers, variant="vlmevalkit")
    # VLMEvalKit: VD's and VS's sets of one l2-category are one, so that figure 0 and question 0 hold a wrong answer
    assert value(other, "fAcc") == 50
    assert value(other, "qAcc") == 50


def test_hallusionbench_reads_its_own_results(bench, value) -> None:
    """`evaluation.py`'s file: `model_prediction`, and ids that are known only with category, set and figure; 1 of 2."""
    ids = {"category": "VD", "subcategory": "illusion", "set_id": "0", "question_id": "0"}
    asked = {"question": "?", "gt_answer": "1", "gt_answer_details": "It is."}
    rows = [{**ids, **asked, "figure_id": figure} for figure in ("0", "1")]
    said = [{**row, "model_prediction": text} for row, text in zip(rows, ("Yes, it is.", "No."), strict=True)]
    run = bench.score("hallusionbench", [bench.write("HallusionBench.json", rows)], said)
    assert value(run, "aAcc") == 50
    assert run.result.counts.missing == 0
