"""Multiple choice: which letter an answer names, and what counts as right."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mgtool import benchmarks
from mgtool.errors import InputError
from mgtool.records import Sample, Turn
from mgtool.scoring import predictions
from mgtool.scoring.ground_truth import Truth
from mgtool.scoring.multiple_choice import first_letters, inferred

OPTIONS = {"A": "teddy bear", "B": "rabbit", "C": "cat", "D": "dog"}


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("(B).", "B"),
        ("**B**: rabbit", "B"),
        ("I say B because it is", "B"),  # among the last four tokens
        ("B because it is a pet", None),  # five tokens from the end, and no text alone
        ("A or B", None),  # two letters
        ("The answer is B, as it has long ears and hops about", "B"),
        ("the answer is a long story", "A"),  # no word boundary in the official pattern
        ("a rabbit", "B"),  # the text of one option alone
        ("cat and dog", None),
        ("Z", "Z"),  # a refusal, which is never right
        ("I'm sorry, but without the image provided B", "Z"),
        ("rabbit " + "really " * 8, None),  # more than twice as long as all options together
        ("", None),
    ],
)
def test_inference(text: str, letter: str | None) -> None:
    assert inferred(text, OPTIONS) == letter


@pytest.mark.parametrize(
    ("text", "letters"), [("Answer: B", "A"), ("E", None), ("AB", "AB"), ("so, B", "B"), ("Because", "B")]
)
def test_reference_implementation(text: str, letters: str | None) -> None:
    assert first_letters(text) == letters


def row(index: int, answer: str, **more: object) -> dict[str, object]:
    base = {"index": index, "question": "What is it?", "A": "cat", "B": "dog", "answer": answer}
    return {**base, "category": "object", "l2-category": "perception", "image": "1", **more}


def test_an_option_that_pandas_takes_for_missing_is_none_in_vlmevalkit_alone(bench, value) -> None:
    # VLMEvalKit reads the table with pandas: `None` is no option, so that B cannot be named; "none" is one
    truth = bench.write("MMStar.tsv", [row(0, "B", B="None"), row(1, "B", B="none")])
    run = bench.score("mmstar", [truth], {0: "B", 1: "B"}, variant="vlmevalkit")
    assert [score.score for score in run.scores] == [0, 1]
    assert run.result.notes == [
        "1 answers name no option that can be read, and count as wrong",
        "1 options are spelled as pandas spells a missing cell (None, NA, ...), and are none here",
        "the right option of 1 questions is missing: no answer to them can be right",
    ]
    for name in ("mmstar", "seedbench", "mmbench", "ai2d"):
        assert [score.score for score in bench.score(name, [truth], {0: "B", 1: "B"}).scores] == [1, 1], name
    (asked,) = benchmarks.get("seedbench").load(Truth((bench.write("one.tsv", [row(0, "A", A="NA")]),)))
    assert asked.fields["options"] == {"A": "NA", "B": "dog"}
    prompt = benchmarks.get("seedbench").prompt(
        Sample(id=0, turns=(Turn("human", "?"),), metadata={"A": "NA", "B": "b"})
    )
    assert "A. NA" in prompt
    choices = {"choice_a": "cat", "choice_b": "None", "answer": "B", "data_type": "image", "data_id": "p"}
    official = bench.write("SEED.json", {"questions": [{"question_id": 1, "question": "?", **choices}]})
    assert value(bench.score("seedbench", [official], {1: "B"}), "accuracy") == 100


def test_circular(bench, value) -> None:
    # question 1: both rotations right; question 2: only the first -> circular 50, vanilla 100
    rows = [row(1, "A"), row(2, "B"), row(1_000_001, "B"), row(1_000_002, "A")]
    truth = bench.write("MMBench_DEV_EN.tsv", rows)
    run = bench.score("mmbench", [truth], {1: "A", 2: "B", 1_000_001: "B.", 1_000_002: "B"})
    assert (value(run, "accuracy"), value(run, "vanilla")) == (50, 100)
    assert run.result.breakdown["category"]["object"].value == 50
    assert run.result.metrics["accuracy"].n == 2


def test_a_missing_rotation_is_wrong(bench, value) -> None:
    truth = bench.write("MMBench_DEV_EN.tsv", [row(1, "A"), row(1_000_001, "B")])
    run = bench.score("mmbench", [truth], {1: "A"})
    assert (value(run, "accuracy"), value(run, "vanilla")) == (0, 100)


def llava_round(index: int, number: int, text: str, letters: str = "AB") -> dict[str, object]:
    """A line of LLaVA's `--all-rounds` file: `letters` are the options' own, in the order in which they were shown."""
    line = {"question_id": index, "round_id": number, "text": text, "prompt": "?", "option_char": list(letters)}
    return {**line, "options": [{"A": "cat", "B": "dog"}[letter] for letter in letters]}


def test_all_rounds_of_llava(bench, value) -> None:
    # 1: dog is shown at B, then at A: right in both; 2: cat at A, then at B, but A again: right in round 0 only;
    # 3: the text of the option; 4: no further round
    truth = bench.write("mmbench_dev.tsv", [row(1, "B"), row(2, "A"), row(3, "B"), row(4, "A")])
    answers = [
        *(llava_round(1, 0, "B"), llava_round(1, 1, "A", "BA")),
        *(llava_round(2, 0, "A"), llava_round(2, 1, "A", "BA")),
        *(llava_round(3, 1, "a dog", "BA"), llava_round(3, 0, "dog")),
        llava_round(4, 0, "B"),
    ]
    run = bench.score("mmbench", [truth], answers)
    assert (value(run, "accuracy"), value(run, "vanilla")) == (50, 75)
    assert run.result.counts.duplicated == 0
    assert [score.fields.get("all_rounds") for score in run.scores] == [True, False, True, False]
    assert value(bench.score("mmbench", [truth], answers, variant="mg-llava"), "accuracy") == 25  # no letter in 3


def test_unread_answers_are_said(bench) -> None:
    truth = bench.write("MMBench_DEV_EN.tsv", [row(1, "A"), row(2, "B")])
    run = bench.score("mmbench", [truth], {1: "A", 2: "cat dog"})
    assert run.result.notes == ["1 answers name no option that can be read, and count as wrong"]


def test_variants(bench, value) -> None:
    truth = bench.write("MMBench_DEV_EN.tsv", [row(1, "B")])
    assert value(bench.score("mmbench", [truth], {1: "Answer: B"}), "accuracy") == 100
    assert value(bench.score("mmbench", [truth], {1: "Answer: B"}, variant="mg-llava"), "accuracy") == 0


def test_submission_is_a_workbook(bench) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    rows = [{k: v for k, v in row(7, "").items() if k != "answer"} | {"question": "=1+1"}]
    run = bench.score("mmbench", [bench.write("MMBench_TEST_EN.tsv", rows)], {7: "-B"})
    file = benchmarks.get("mmbench").submission(run.pairs, "test")
    sheet = openpyxl.load_workbook(io.BytesIO(file.data)).active
    assert list(sheet.values) == [
        ("index", "question", "A", "B", "prediction"),
        (7, "=1+1", "cat", "dog", "-B"),
    ]
    assert {cell.data_type for cell in sheet[2]} == {"n", "s"}  # texts, and no formula


def test_ccbench_is_circular_too(bench, value) -> None:
    truth = bench.write("CCBench.tsv", [row(1, "A", question="这是什么？"), row(1_000_001, "B", question="这是什么？")])
    assert value(bench.score("ccbench", [truth], {1: "A", 1_000_001: "A"}), "accuracy") == 0


def test_seedbench_pictures_only(bench, value) -> None:
    def question(number: str, kind: str) -> dict[str, object]:
        choices = {"choice_a": "cat", "choice_b": "dog", "choice_c": "", "choice_d": ""}
        base = {"question_id": number, "question": "?", "answer": "A", "data_type": kind, "data_id": "p"}
        return {**base, **choices, "question_type_id": 1}

    questions = [question("101", "image"), question("102", "image"), question("v1", "video")]
    truth = bench.write("SEED-Bench.json", {"questions": questions, "question_type": {"Scene Understanding": 1}})
    run = bench.score("seedbench", [truth], {101: "A", 102: "a dog"})
    assert value(run, "accuracy") == 50
    assert run.result.breakdown["category"]["Scene Understanding"].n == 2


def test_mmmu_open_questions_are_read_as_the_variant_has_it(bench, value) -> None:
    # the reference implementation compares a letter with the text of the answer, which it never equals
    rows = [
        {"index": 1, "question": "How many?", "answer": "24", "split": "validation"},
        {"index": 2, "question": "How many?", "answer": "['2', 'two']", "split": "validation"},
        row(3, "B", split="validation"),
    ]
    truth, said = bench.write("MMMU_DEV_VAL.tsv", rows), {1: "A", 2: "so it is two", 3: "B"}
    scores = {
        variant: [score.score for score in bench.score("mmmu", [truth], said, variant=variant).scores]
        for variant in ("official", "vlmevalkit", "mg-llava")
    }
    assert scores == {"official": [0, 1, 1], "vlmevalkit": [1, 0, 1], "mg-llava": [0, 0, 1]}


def test_mmmu_reads_the_files_of_its_authors(bench, value) -> None:
    """output.json has questions, targets and answers in one; answer_dict_val.json goes with answers read already."""
    rows = [
        {
            "id": f"validation_Art_Theory_{n}",
            "question_type": "multiple-choice",
            "answer": letter,
            "all_choices": ["A", "B"],
            "index2ans": {"A": "one", "B": "two"},
            "response": "B",
        }
        for n, letter in enumerate("AB")
    ]
    rows.append(
        {"id": "validation_Art_9", "question_type": "short-answer", "answer": ["0.5", "1/2"], "response": "1/2"}
    )
    known = {row["id"]: {"question_type": row["question_type"], "ground_truth": row["answer"]} for row in rows}
    answers = bench.write("total_val_output.json", {row["id"]: row["response"] for row in rows})
    output = bench.write("output.json", rows)
    said = {path: predictions.read(path.read_bytes(), where=path.name) for path in (answers, output)}
    for truth in (output, bench.write("rows.jsonl", rows), bench.write("answer_dict_val.json", known)):
        for path in said:
            run = bench.score("mmmu", [truth], said[path])
            assert [score.score for score in run.scores] == [0, 1, 1]
            assert run.result.breakdown["category"]["Art_Theory"].n == 2
    for subject, part in (("Art", rows[2:]), ("Art_Theory", rows[:2])):
        bench.write(f"llava/{subject}/output.json", part)
    run = bench.score("mmmu", [bench.folder / "llava"], benchmarks.get("mmmu").folder_answers(bench.folder / "llava"))
    assert [score.score for score in run.scores] == [1, 0, 1]
    with pytest.raises(InputError, match=r"holds no SUBJECT/output\.json"):
        benchmarks.get("mmmu").folder_answers(bench.folder / "llava" / "Art")
    with pytest.raises(InputError, match="expected rows with an id, options and answer"):
        bench.score("mmmu", [answers], said[output])


def test_vlmevalkit_makes_an_option_a_where_pandas_finds_none(bench) -> None:
    truth = bench.write("MMMU_DEV_VAL.tsv", [row(1, "A", A="None", split="validation")])
    run = bench.score("mmmu", [truth], {1: "A"}, variant="vlmevalkit")
    assert (run.scores[0].score, run.result.notes) == (1, [])


def test_mmmu_counts_the_choices_that_were_drawn(bench) -> None:
    # Python's generator with seed 42 draws A, A, B of two letters
    truth = bench.write("MMMU_DEV_VAL.tsv", [row(n, "A", split="validation") for n in range(4)])
    run = bench.score("mmmu", [truth], {0: "?", 1: "?", 2: "A", 3: "?"})
    assert [(score.extracted, score.score) for score in run.scores] == [("A", 1), ("A", 1), ("A", 1), ("B", 0)]
    assert run.result.notes[0].startswith("3 answers name no choice: one was drawn for each")
    assert run.result.notes[0].endswith("and 2 of them are right")


def test_mmmu_open_questions_become_choices(bench, value) -> None:
    rows = [
        row(1, "B", split="validation"),
        {
            "index": 2,
            "question": "How much?",
            "answer": "8.4",
            "category": "Physics",
            "split": "validation",
            "image": "x",
        },
        row(3, "A", split="dev"),
    ]
    run = bench.score("mmmu", [bench.write("MMMU_DEV_VAL.tsv", rows)], {1: "B", 2: "It is 8.4", 3: "B"})
    assert value(run, "accuracy") == 100  # the dev question is not of the validation split
    assert run.result.counts.expected == 2


def test_mmstar_and_ai2d(bench, value) -> None:
    rows = [row(0, "A", l2_category="coarse"), row(1, "B", l2_category="fine")]
    run = bench.score("mmstar", [bench.write("MMStar.tsv", rows)], {0: "A", 1: "A"})
    assert value(run, "accuracy") == 50
    assert run.result.breakdown["l2_category"]["fine"].value == 0
    assert value(bench.score("ai2d", [bench.write("AI2D_TEST.tsv", rows)], {0: "A", 1: "B"}), "accuracy") == 100


@pytest.mark.parametrize(
    ("tail", "options"),
    [
        ("Options: A: cat, B: Dr. B. Smith, C: 3, 4, and 5, D: hen", ["cat", "Dr. B. Smith", "3, 4, and 5", "hen"]),
        ("Options: A: cat, B: dog", ["cat", "dog"]),
        ("Choices:\n(A) 135\n(B) 140\n(C) 145\n(D) 150", ["135", "140", "145", "150"]),
        ("", ["", "", "", ""]),  # the letters at least
    ],
)
def test_mmstar_options_in_the_question(bench, tail: str, options: list[str]) -> None:
    """Lin-Chen/MMStar's Parquet has no columns A to D: the options are the end of the question."""
    table = {"index": [0, 1], "question": [f"Which?\n{tail}"] * 2, "image": [b"x" * 300] * 2, "answer": ["A", "B"]}
    path = bench.folder / "mmstar.parquet"
    pq.write_table(pa.table(table), path)
    run = bench.score("mmstar", [path], {0: "A", 1: "A"})
    assert list(run.scores[0].fields["options"].values()) == options
    assert [score.score for score in run.scores] == [1, 0]


def mmmu(folder: Path) -> Path:
    """MMMU/MMMU of the Hub: a folder for each subject, a file for each split, which only names and ids tell."""
    for subject in ("Art", "Music"):
        (folder / subject).mkdir(parents=True)
        for split, answer in (("dev", "A"), ("validation", "B"), ("test", "?")):
            row = {"id": f"{split}_{subject}_1", "question": "?", "options": "['x', 'y']", "answer": answer}
            table = pa.table({name: [cell] for name, cell in row.items()})
            pq.write_table(table, folder / subject / f"{split}-00000-of-00001.parquet")
    return folder


def test_mmmu_of_the_hub(bench, value) -> None:
    """Two subjects with one question a split: validation is scored, and of the test split nothing is known."""
    truth = mmmu(bench.folder / "MMMU")
    said = {f"{split}_Art_1": "B" for split in ("dev", "validation", "test")}
    for split in ("", "validation"):
        run = bench.score("mmmu", [truth], said, split=split)
        assert (run.result.counts.expected, value(run, "accuracy")) == (2, 50)
    assert value(bench.score("mmmu", [truth / "Art"], said, split="dev"), "accuracy") == 0
    hidden = bench.score("mmmu", [truth], said, split="test")
    assert [score.target for score in hidden.scores] == [None, None]
    assert hidden.result.metrics["accuracy"].value is None


def science(bench):
    def problem(answer: int, **more: object) -> dict[str, object]:
        base = {"question": "?", "choices": ["yes", "no"], "answer": answer, "hint": "", "image": None}
        return {**base, "subject": "natural science", "grade": "grade4", **more}

    problems = {
        "1": problem(0, image="image.png"),
        "2": problem(1, hint="Read this."),
        "3": problem(0, image="image.png", subject="social science", grade="grade8"),
        "4": problem(0),
    }
    return [
        bench.write("problems.json", problems),
        bench.write("pid_splits.json", {"test": ["1", "2", "3"], "train": ["4"]}),
    ]


def test_scienceqa(bench, value) -> None:
    # 1 right with a picture, 3 wrong with a picture, 2 right without
    run = bench.score("scienceqa", science(bench), {"1": "A. yes", "2": "The answer is B.", "3": "B"})
    assert value(run, "accuracy") == pytest.approx(200 / 3)
    assert value(run, "image_accuracy") == 50
    assert {k: m.value for k, m in run.result.breakdown["subject"].items()} == {"NAT": 100, "SOC": 0}
    assert {k: m.n for k, m in run.result.breakdown["context"].items()} == {"IMG": 2, "TXT": 1}
    assert set(run.result.breakdown["grade"]) == {"G1-6", "G7-12"}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("A", "A"),
        ("A.", None),  # only "A. " with its space
        ("A. yes", "A"),
        (" A", None),
        ("The answer is A. The answer is B.", None),  # found twice
        ("The answer is B", None),  # the pattern wants a character after the letter
        ("C", None),  # not among this question's choices
    ],
)
def test_scienceqa_reading(bench, text: str, read: str | None) -> None:
    run = bench.score("scienceqa", science(bench), {"1": text, "2": "A", "3": "A"})
    assert run.scores[0].extracted == read


@pytest.mark.parametrize(("text", "read"), [(" a ", "A"), ("A.", "A"), ("A.yes", "A"), ("The answer is A.", None)])
def test_scienceqa_of_lmms_eval(bench, text: str, read: str | None) -> None:
    run = bench.score("scienceqa", science(bench), {"1": text, "2": "A", "3": "A"}, variant="lmms-eval")
    assert run.scores[0].extracted == read


def test_scienceqa_prompts_decide_what_has_a_picture(bench, value) -> None:
    answers = [
        {"question_id": "1", "prompt": "What?", "text": "A"},
        {"question_id": "2", "prompt": "<image>\nWhat?", "text": "A"},
        {"question_id": "3", "prompt": "<image>\nWhat?", "text": "A"},
    ]
    assert value(bench.score("scienceqa", science(bench), answers), "image_accuracy") == 50
