"""Short answers: each benchmark's own idea of equal."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from mgtool import benchmarks
from mgtool.errors import InputError
from mgtool.scoring import predictions


def textvqa(bench, answers: list[str]):
    row = {"question_id": 34602, "image_id": "0054c91397f2fe05", "question": "What brand is it?", "answers": answers}
    return bench.write("TextVQA_0.5.1_val.json", {"data": [row, {**row, "question_id": 34603, "question": "Which?"}]})


def test_textvqa_always_normalises(bench, value) -> None:
    # all ten agree, yet "Nokia's" is tokenised ("nokia 's") and lowered: VQAv2 would compare the raw texts
    truth = textvqa(bench, ["Nokia's"] * 10)
    run = bench.score("textvqa", [truth], {34602: "nokia's", 34603: "nokia"})
    assert value(run, "accuracy") == 50
    assert run.scores[0].extracted == "nokia 's"


def test_textvqa_by_picture_and_prompt(bench, value) -> None:
    # LLaVA's answers carry the picture's id; the question is in the prompt, with or without OCR tokens
    truth = textvqa(bench, ["nokia"] * 10)
    suffix = "\nAnswer the question using a single word or phrase."
    with_ocr = "\nReference OCR token: NOKIA, 9:41" + suffix
    answers = [
        {"question_id": "0054c91397f2fe05", "prompt": f"What brand is it?{with_ocr}", "text": "Nokia"},
        {"question_id": "0054c91397f2fe05", "prompt": f"which?{with_ocr}", "text": "9:41"},
    ]
    run = bench.score("textvqa", [truth], answers)
    assert value(run, "accuracy") == 50
    assert run.result.counts.duplicated == 0
    assert run.result.name == "textvqa (official), OCR tokens in the prompt"
    plain = [{**answer, "prompt": answer["prompt"].split("\n")[0] + suffix} for answer in answers]
    assert bench.score("textvqa", [truth], plain).result.name == "textvqa (official), no OCR tokens"


def test_textvqa_answers_to_one_question_in_turn(bench, value) -> None:
    """LLaVA's evaluator scores every line; two questions of one text about one picture take two lines in turn."""
    row = {"image_id": "ab", "question": "What time is it?"}
    rows = [{**row, "question_id": 1, "answers": ["5"] * 10}, {**row, "question_id": 2, "answers": ["6"] * 10}]
    truth = bench.write("TextVQA_0.5.1_val.json", {"data": rows})
    prompt = "What time is it?\nAnswer the question using a single word or phrase."
    said = [{"question_id": "ab", "prompt": prompt, "text": text} for text in ("5", "6")]
    run = bench.score("textvqa", [truth], said)
    assert value(run, "accuracy") == 100
    assert (run.result.counts.duplicated, run.result.counts.missing) == (0, 0)
    run = bench.score("textvqa", [truth], [*said, said[0]])  # one more than there are questions: the last one again
    assert (run.result.counts.duplicated, [score.score for score in run.scores]) == (1, [1, 0])


def test_textvqa_needs_ten_answers(bench) -> None:
    with pytest.raises(InputError, match="question 34602: expected 10 answers, found 9"):
        bench.score("textvqa", [textvqa(bench, ["a"] * 9)], {34602: "a"})


def test_textvqa_leaves_one_out(bench) -> None:
    # 2 of 10: (2 * 1/3 + 8 * 2/3) / 10 = 0.6
    run = bench.score("textvqa", [textvqa(bench, ["nokia"] * 2 + ["samsung"] * 8)], {34602: "Nokia", 34603: "?"})
    assert run.scores[0].score == pytest.approx(0.6)


def gqa(bench, balanced: Sequence[str] = (), other: Sequence[str] = ()):
    """Two balanced questions and one that is not, with what the first and the last entail."""

    def entry(answer: str, structural: str, **fields: object) -> dict[str, object]:
        types = {"structural": structural, "semantic": "attr", "detailed": "existAttr"}
        groups = {"global": "color", "local": None}
        steps = [{"operation": "select", "argument": "dog"}, {"operation": "query", "argument": "name"}]
        base = {"question": "Is it red ?", "imageId": "n1", "isBalanced": True, "types": types, "groups": groups}
        return {**base, "semantic": steps, "answer": answer, "entailed": [], **fields}

    questions = {
        "01": entry("yes", "verify", entailed=balanced),
        "02": entry("red", "query"),
        "03": entry("no", "verify", isBalanced=False, entailed=other),
    }
    return bench.write("testdev_balanced_questions.json", questions)


def test_gqa_strict_equality(bench, value) -> None:
    # "Yes." -> yes, right; "red " keeps its space, wrong; the unbalanced one does not count
    run = bench.score("gqa", [gqa(bench)], {"01": "Yes.", "02": "red ", "03": "yes"})
    assert value(run, "accuracy") == 50
    assert (value(run, "binary"), value(run, "open")) == (100, 0)
    # "query: name" is no step
    assert run.result.breakdown["steps"]["1"].n == 2
    assert run.result.breakdown["words"]["4"].n == 2
    assert not {"validity", "plausibility"} & set(run.result.metrics)


def test_gqa_distribution(bench, value) -> None:
    # gold yes 1, red 1; said yes 1, red 0: ((1-1)²/1 + (0-1)²/1) weighted by 2 of 2 -> 1, over 100
    run = bench.score("gqa", [gqa(bench)], {"01": "yes", "02": "blue", "03": "yes"})
    assert value(run, "distribution") == 0.01


def test_gqa_consistency_needs_the_entailed_questions(bench, value) -> None:
    # 01 is right and entails 01 itself (left out), 02 (wrong) and 03 (right, though it is not balanced): 1/2
    truth = gqa(bench, balanced=["01", "02", "03"])
    run = bench.score("gqa", [truth], {"01": "yes", "02": "blue", "03": "no"})
    assert value(run, "consistency") == 50


def test_gqa_consistency_is_of_the_balanced_questions(bench, value) -> None:
    """Official `eval.py`: `updateConsistency` is called under `if question["isBalanced"]`.

    01 (balanced, right) entails 03 (right): 1; 03 (right, but not balanced) entails 02 (wrong) and does not count.
    """
    truth = gqa(bench, balanced=["03"], other=["02"])
    run = bench.score("gqa", [truth], {"01": "yes", "02": "blue", "03": "no"})
    assert value(run, "consistency") == 100
    assert run.result.metrics["consistency"].n == 1


def test_gqa_validity_and_plausibility_need_the_choices(bench, value) -> None:
    choices = {key: {"valid": ["yes", "no"], "plausible": ["no"]} for key in ("01", "02", "03")}
    run = bench.score("gqa", [gqa(bench), bench.write("val_choices.json", choices)], {"01": "yes", "02": "no"})
    assert (value(run, "validity"), value(run, "plausibility")) == (100, 50)


@pytest.mark.parametrize(
    ("answer", "text", "score"),
    [
        ("The  Cat", "the cat", 1.0),  # lower case, white space collapsed
        ("abcd", "abcx", 0.75),
        ("abcd", "abxy", 0.5),  # exactly the threshold counts
        ("abcd", "axyz", 0.0),  # under it nothing does
        # the divisor is the longer *raw* text: 1 edit / 9, although the collapsed texts have 4 letters
        ("ab  cd", "ab     cx", 1 - 1 / 9),
        ("", "", 1.0),
    ],
)
def test_anls(bench, answer: str, text: str, score: float) -> None:
    data = {"data": [{"questionId": 1, "question": "?", "image": "a.png", "answers": ["zzzzzzzz", answer]}]}
    run = bench.score("docvqa", [bench.write("val_v1.0.json", data)], {1: text})
    assert run.scores[0].score == pytest.approx(score)


def test_anls_is_over_all_ids(bench, value) -> None:
    data = {"data": [{"questionId": n, "question": "?", "answers": ["cat"], "answer_type": ["text"]} for n in (1, 2)]}
    run = bench.score("infovqa", [bench.write("infographicsVQA_val_v1.0.json", data)], {1: "cat"})
    assert value(run, "anls") == 50
    assert run.result.breakdown["answer_type"]["text"].value == 50


def test_stvqa_strips_only(bench) -> None:
    # white space inside stays: 1 edit over 7 characters
    data = {"data": [{"question_id": 1, "question": "?", "answers": ["ab  cd"]}]}
    run = bench.score("stvqa", [bench.write("val.json", data)], {1: " AB   cd"})
    assert run.scores[0].score == pytest.approx(1 - 1 / 7)


@pytest.mark.parametrize(
    ("target", "text", "right"),
    [
        ("10", "10.5", True),  # 5 % off
        ("10", "10.51", False),
        ("10", " 9.5\n", True),  # the answer is stripped
        ("0.1", "10%", True),  # per cent
        ("0", "0.0", False),  # a target of 0 is compared as text
        ("0", "0", True),
        ("Yes", "yes", True),
        ("yes", "yes.", False),
        ("2014", "2013", True),  # years are numbers as well
    ],
)
def test_relaxed_accuracy(bench, target: str, text: str, right: bool) -> None:
    truth = bench.write("test_human.json", [{"imgname": "1.png", "query": "?", "label": target}])
    assert bench.score("chartqa", [truth], {"human/0": text}).scores[0].score == right


def test_chartqa_is_the_mean_of_the_two(bench, value) -> None:
    human = bench.write("test_human.json", [{"imgname": "1.png", "query": f"q{n}", "label": "1"} for n in range(4)])
    machine = bench.write("test_augmented.json", [{"imgname": "1.png", "query": "q", "label": "1"}])
    # human 1/4, augmented 1/1: the mean of the two is 62.5, not 2/5
    run = bench.score("chartqa", [human, machine], {"human/2": "1", "augmented/0": "1.01"})
    assert (value(run, "human"), value(run, "augmented"), value(run, "accuracy")) == (25, 100, 62.5)


def test_a_chart_label_in_brackets_is_one_text(bench) -> None:
    """test_human.json has labels as "[2014, 2016]"; the official rule is equality, as they are no number.

    A table's cell and a list of Parquet or JSON are alternatives still.
    """
    rows = [{"imgname": "1.png", "query": f"q{n}", "label": "[2014, 2016]"} for n in range(3)]
    said = {"human/0": "2014", "human/1": "[2014, 2016]", "human/2": "1950"}
    run = bench.score("chartqa", [bench.write("test_human.json", rows)], said)
    assert [score.score for score in run.scores] == [0, 1, 0]
    table = bench.write("ChartQA_TEST.tsv", [{"index": 1, "question": "?", "answer": "['red', 'dark red']"}])
    assert bench.score("chartqa", [table], {1: "Red"}).scores[0].score == 1
    listed = bench.write("val_human.json", [{**rows[0], "label": ["red", "dark red"]}])
    assert bench.score("chartqa", [listed], {"human/0": "Red"}).scores[0].score == 1


@pytest.mark.parametrize("split", ["", "human"])
def test_numbers_of_a_chartqa_file_alone_are_ids(bench, value, split: str) -> None:
    human = bench.write("test_human.json", [{"imgname": "1.png", "query": f"q{n}", "label": str(n)} for n in range(4)])
    bench.write("test_augmented.json", [{"imgname": "1.png", "query": "q", "label": "7"}])
    truth = bench.folder if split else human
    assert value(bench.score("chartqa", [truth], {0: "0", 1: "1", 3: "7"}, split=split), "accuracy") == 50
    with pytest.raises(InputError, match="give `split`"):
        bench.score("chartqa", [bench.folder], {0: "0"})


def test_chartqa_by_picture_and_question(bench, value) -> None:
    truth = bench.write("test_human.json", [{"imgname": "7.png", "query": "How many?", "label": "3"}])
    prompt = "How many?\nAnswer the question using a single word or phrase."
    answers = [{"question_id": "x", "image": "charts/7.png", "prompt": prompt, "text": "3"}]
    assert value(bench.score("chartqa", [truth], answers), "human") == 100


def test_ocrvqa(bench, value) -> None:
    books = {
        "0134": {"questions": ["Who?", "What?"], "answers": ["Jo Doe", "Art"], "split": 3, "genre": "Art"},
        "0135": {"questions": ["Who?"], "answers": ["X"], "split": 1, "genre": "Art"},
    }
    run = bench.score("ocrvqa", [bench.write("dataset.json", books)], {"0134_0": " JO DOE\n", "0134_1": "Arts"})
    assert value(run, "accuracy") == 50
    assert run.result.counts.expected == 2  # the test split only


def test_tallyqa_number_words(bench, value) -> None:
    rows = [
        {"question_id": n, "image": "a.jpg", "image_id": 1, "question": "?", "answer": n, "issimple": n < 3}
        for n in range(1, 5)
    ]
    answers = {1: "One", 2: "2", 3: "four", 4: " FOUR "}
    run = bench.score("tallyqa", [bench.write("test.json", rows)], answers)
    assert value(run, "accuracy") == 75
    assert run.result.breakdown["complexity"]["complex"].value == 50


def test_vizwiz_without_ids(bench, value) -> None:
    answers = [{"answer": text, "answer_confidence": "yes"} for text in ["unanswerable"] * 9 + ["shampoo"]]
    rows = [
        {"image": f"VizWiz_val_0000000{n}.jpg", "question": "What?", "answers": answers, "answer_type": "other"}
        for n in (1, 2)
    ]
    said = [
        {"question_id": "VizWiz_val_00000001.jpg", "text": "Unanswerable."},
        {"question_id": 17, "image": "val/VizWiz_val_00000002.jpg", "text": "shampoo"},
    ]
    run = bench.score("vizwiz", [bench.write("val.json", rows)], said)
    # 9 of 10 -> 1; 1 of 10 -> (0 + 9 * 1/3) / 10 = 0.3: the mean is 65
    assert value(run, "accuracy") == 65
    file = benchmarks.get("vizwiz").submission(run.pairs, "test")
    assert json.loads(file.data)[1] == {"image": "VizWiz_val_00000002.jpg", "answer": "shampoo"}


@pytest.mark.parametrize(
    ("given", "text", "score"),
    [
        (["unanswerable"] * 10, "Unanswerable.", 1),  # VQA's script would compare the raw texts
        (["two"] * 5 + ["x"] * 5, "two", 0),  # the answer becomes 2, the annotators' stays two
        (["don't know"] * 10, "dont know", 0),  # the script's table has a typographic apostrophe there
        (["can't see"] * 10, "cant see", 1),  # and a straight one here
        (["somebody'd"] * 10, "somebody'd", 1),
        (["2"] * 2 + ["x"] * 8, "Two", 0.6),  # (2 * 1/3 + 8 * 2/3) / 10: annotators are left out by their place
    ],
)
def test_vizwiz_normalises_the_answer_alone(bench, given: list[str], text: str, score: float) -> None:
    """The VizWiz API's `vqaEval.py`: every answer goes through the normaliser, the annotators' never do."""
    row = {"image": "VizWiz_val_00000001.jpg", "question": "?", "answers": [{"answer": one} for one in given]}
    run = bench.score("vizwiz", [bench.write("val.json", [row])], {"VizWiz_val_00000001.jpg": text})
    assert run.scores[0].score == pytest.approx(score)


def test_vizwiz_reads_what_it_submits(bench, value) -> None:
    """The official results are `[{"image", "answer"}]`: the one question of a picture is known by it; 1 of 2 right."""
    rows = [
        {"image": f"VizWiz_val_0000000{n}.jpg", "question": "?", "answers": [{"answer": "cat"}] * 10} for n in (1, 2)
    ]
    truth = bench.write("val.json", rows)
    run = bench.score("vizwiz", [truth], [{"image": rows[0]["image"], "answer": "cat"}])
    assert value(run, "accuracy") == 50
    written = benchmarks.get("vizwiz").submission(run.pairs, "test")
    again = bench.score("vizwiz", [truth], predictions.read(written.data, where=written.name))
    assert (again.result.counts.answered, value(again, "accuracy")) == (2, 50)


@pytest.mark.parametrize(
    ("name", "files", "wrap"),
    [
        ("textvqa", ("TextVQA_0.5.1_{}.json", "train", "val"), True),
        ("docvqa", ("{}_v1.0_withQT.json", "train", "val"), True),
        ("infovqa", ("infographicsVQA_{}_v1.0_withQT.json", "train", "val"), True),
        ("stvqa", ("{}_task_3.json", "train", "test"), True),
        ("tallyqa", ("{}.json", "train", "test"), False),
        ("vizwiz", ("{}.json", "train", "val"), False),
    ],
)
def test_a_folder_with_several_splits(bench, name: str, files: tuple[str, str, str], wrap: bool) -> None:
    """One question a split, under the official files' names: `--split` leaves the other split's question out."""
    pattern, *splits = files
    for number, split in enumerate(splits):
        row = {"question_id": number, "image": f"{split}.jpg", "question": "?", "answer": "5", "answers": ["5"] * 10}
        row = {**row, "questionId": number} if name in ("docvqa", "infovqa") else row
        bench.write(pattern.format(split), {"data": [row]} if wrap else [row])
    assert bench.score(name, [bench.folder], {1: "5"}).result.counts.expected == 2
    run = bench.score(name, [bench.folder], {1: "5"}, split=splits[1])
    assert (run.result.counts.expected, run.result.counts.answered) == (1, 1)


@pytest.mark.parametrize("name", ["docvqa", "textvqa"])
def test_a_folder_with_a_test_split_without_answers(bench, value, name: str) -> None:
    row = {"question_id": 1, "questionId": 1, "image": "1.jpg", "question": "?", "answers": ["5"] * 10}
    bench.write("val.json", {"data": [row]})
    bench.write("test.json", {"data": [{"question_id": 2, "questionId": 2, "image": "2.jpg", "question": "?"}]})
    run = bench.score(name, [bench.folder], {1: "5"})
    assert run.result.counts.expected == 1
    assert run.result.metrics[benchmarks.get(name).headline].value == 100


def test_okvqa_is_scored_as_vqa(bench, value) -> None:
    entry = {"question_id": 5, "image_id": 1, "question_type": "three", "answers": [{"answer": "surf"}] * 10}
    run = bench.score("okvqa", [bench.write("mscoco_val2014_annotations.json", {"annotations": [entry]})], {5: "surf"})
    assert value(run, "accuracy") == 100


def test_vlmevalkit_tables(bench, value) -> None:
    rows = [{"index": 3, "question": "?", "answer": "['red', 'dark red']", "image": "x" * 300}]
    assert value(bench.score("docvqa", [bench.write("DocVQA_VAL.tsv", rows)], {3: "Red"}), "anls") == 100
    assert bench.score("docvqa", [bench.folder / "DocVQA_VAL.tsv"], {3: "Red"}).scores[0].image == ""


def test_ocrbench(bench, value) -> None:
    """A text inside the answer, its case in formulas alone: 3 of 4; three kinds of recognition are one group."""
    kinds = ("Regular Text Recognition", "Digit String Recognition", "Doc-oriented VQA")
    rows = [{"id": n, "question": "?", "answers": "Ab C", "type": kind} for n, kind in enumerate(kinds)]
    rows.append(
        {**rows[0], "id": 3, "dataset_name": "HME100k", "type": "Handwritten Mathematical Expression Recognition"}
    )
    truth = bench.write("FullTest.json", rows)
    run = bench.score("ocrbench", [truth], {0: "it is AB c.", 1: "ab", 2: "ab c", 3: "AbC"})
    assert value(run, "accuracy") == 75
    assert run.result.breakdown["group"]["Text Recognition"].value == 50
    assert bench.score("ocrbench", [truth], {3: "ab C"}).scores[3].score == 0
