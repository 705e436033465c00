"""Answers and ground truth in the forms that users have."""

from __future__ import annotations

import io
import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl import Workbook

from mgtool.errors import InputError, RecordError
from mgtool.scoring import predictions
from mgtool.scoring.ground_truth import Document, Truth


@pytest.mark.parametrize(
    "text",
    [
        '{"question_id": 7, "prompt": "?", "text": "a dog", "model_id": "m", "metadata": {}}\n',  # LLaVA
        '[{"question_id": 7, "answer": "a dog"}]',  # VQA and POPE
        '[{"questionId": 7, "prediction": "a dog"}]',  # GQA
        '[{"image_id": 7, "caption": "a dog"}]',  # COCO captions
        '{"7": "a dog"}',  # MM-Vet
        '{"acc": 1, "outputs": {"7": "a dog"}}',  # LLaVA's ScienceQA
        '{"predictions": [{"index": 7, "prediction": "a dog"}]}',
        '\n\n{"id": 7, "question": "?", "answer": "the target", "pred": "a dog"}\n',  # video QA
        '{"7": ["a dog"]}',  # pycocoevalcap
        '{"7": [{"image_id": 7, "caption": "a dog"}]}',
    ],
)
def test_layouts(text: str) -> None:
    answers = predictions.read(text.encode(), where="answers.json")
    assert [(str(p.id), p.text) for p in answers.predictions] == [("7", "a dog")]
    assert answers.failures == []
    assert predictions.read(b"\xef\xbb\xbf" + text.encode(), where="answers.json") == answers


@pytest.mark.parametrize(
    ("name", "text"), [("a.json", '[{"id": "1"}]'), ("a.jsonl", '{"id": "1"}\n'), ("a.csv", "id\n1\n")]
)
def test_a_byte_order_mark_is_skipped(tmp_path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert Document(tmp_path / name).rows() == [{"id": "1"}]


def test_a_byte_order_mark_before_an_object_is_skipped(tmp_path) -> None:
    (tmp_path / "a.json").write_text('{"rows": [1]}', encoding="utf-8-sig")
    document = Document(tmp_path / "a.json")
    assert document.json(dict[str, list[int]]) == {"rows": [1]}
    assert document.part("rows", list[int]) == [1]


@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        ("a.jsonl", '{"question_id": 1.0, "text": "a"}\n{"question_id": "1.0", "text": "a"}\n', [1, "1.0"]),
        ("a.json", '[{"question_id": "007", "text": "a"}, {"question_id": "v1_0", "text": "a"}]', ["007", "v1_0"]),
        ("a.csv", "index,prediction\n12.0,a\n007,a\n1.50,a\nv1.0,a\n", ["12", "007", "1.50", "v1.0"]),
        ("a.jsonl", '{"question_id": [1], "index": true, "id": 0.5, "image": 12, "text": "a"}\n', ["12"]),
    ],
)
def test_whole_numbers_are_ids_however_pandas_writes_them(name: str, text: str, ids: list[object]) -> None:
    found = predictions.read(text.encode(), where=name).predictions
    assert [(p.id, type(p.id)) for p in found] == [(one, type(one)) for one in ids]


def test_ids_of_tables_agree_however_pandas_writes_them(tmp_path) -> None:
    (tmp_path / "truth.tsv").write_text("index\tscore\n3.0\t2.0\n")
    assert Document(tmp_path / "truth.tsv").rows() == [{"index": "3", "score": "2.0"}]


def test_tables_of_answers() -> None:
    answers = predictions.read(b"index\tquestion\tanswer\tprediction\n7\t?\tB\tA\n", where="run.tsv")
    assert [(p.id, p.text) for p in answers.predictions] == [("7", "A")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.tsv", "index\tanswer\tprediction\n7\tB\t\n"),
        ("run.csv", "index,answer,prediction\n7,B,\n"),
        ("run.tsv", "index\tanswer\tprediction\n7\tB\n"),  # the row ends early
        ("run.json", '[{"index": 7, "answer": "B", "prediction": null}]'),
        ("run.jsonl", '{"index": 7, "answer": "B", "prediction": ""}\n'),
        ("run.json", '{"7": null}'),
    ],
)
def test_an_empty_prediction_is_never_the_target(bench, name: str, text: str) -> None:
    """VLMEvalKit's files have the target under `answer`: a model that said nothing is wrong, 0 of 1."""
    row = {"index": 7, "question": "?", "A": "cat", "B": "dog", "answer": "B"}
    answers = predictions.read(text.encode(), where=name)
    run = bench.score("mmstar", [bench.write("MMStar.tsv", [row])], answers)
    assert (run.scores[0].prediction, run.scores[0].score) == ("", 0)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"text": "Is it?", "label": "no", "answer": "No"}, "No"),  # POPE's question, with the answer beside it
        ({"text": "Is it?", "label": "no", "answer": None}, ""),
        ({"text": "Is it?", "label": "no", "pred": "No"}, "No"),
        ({"text": "No", "label": "no"}, "No"),
        ({"text": "No", "label": "no", "prompt": "Is it?", "answer": "no"}, "No"),  # LLaVA's, with its prompt
    ],
)
def test_a_question_is_not_its_answer(more: dict[str, object], said: str) -> None:
    """AoiDragon/POPE's `evaluate.py` reads `answer` from the answers and `label` from the questions."""
    line = json.dumps({"question_id": 1, "image": "a.jpg", **more}).encode()
    assert [p.text for p in predictions.read(line, where="a.jsonl").predictions] == [said]


def test_a_workbook_of_answers() -> None:
    """VLMEvalKit's default output: pandas writes one sheet, an empty cell for an empty prediction."""
    book = Workbook()
    for row in (["index", "question", "answer", "prediction"], [7, "?", "B", "A"], [8, "?", "B", None]):
        book.active.append(row)
    file = io.BytesIO()
    book.save(file)
    answers = predictions.read(file.getvalue(), where="run.xlsx")
    assert [(p.id, p.text) for p in answers.predictions] == [(7, "A"), (8, "")]
    with pytest.raises(InputError, match=r"run\.xlsx: not a readable workbook"):
        predictions.read(b"index,prediction\n", where="run.xlsx")


def test_a_list_without_an_answer_is_no_answers_file() -> None:
    """As for JSON lines: a file of other things is an error in one line, not a score of 0."""
    with pytest.raises(InputError, match=r"a\.json: no answer in this file; the first record: no answer; expected"):
        predictions.read(b'[{"question_id": 1, "said": "a"}, {"question_id": 2}]', where="a.json")


def test_numbers_are_texts_and_cut_off_answers_are_known() -> None:
    line = {"question_id": 1, "text": 3, "finish_reason": "length", "category": "x", "metadata": {"a": 1}}
    answer = predictions.read(json.dumps(line).encode(), where="a.jsonl").predictions[0]
    assert (answer.text, answer.truncated, answer.fields) == ("3", True, {"a": 1, "category": "x"})


@pytest.mark.parametrize(
    "more",
    [
        {"options": [1, None]},
        {"options": "A. cat"},
        {"round_id": "x", "option_char": 3},
        {"prompt": None},
        {"prompt": ["?"]},
        {"image": 5},
        {"image": {"path": "1.jpg"}},
        {"metadata": "none"},
        {"metadata": None},
        {"finish_reason": 1},
        {"finish_reason": ["stop"]},
        {"category": ["x"], "split": {}},
        {"id": ["x"], "answer": ["cat", "dog"]},
        {"logprob": float("nan"), "category": float("-inf")},
    ],
)
def test_fields_that_others_use_otherwise_do_no_harm(bench, more: dict[str, object]) -> None:
    row = {"index": 1, "question": "?", "A": "cat", "B": "dog", "answer": "A", "category": "x", "image": "1"}
    run = bench.score("mmbench", [bench.write("MMBench_DEV_EN.tsv", [row])], [{"question_id": 1, "text": "A", **more}])
    assert run.result.metrics["accuracy"].value == 100


@pytest.mark.parametrize(("said", "text"), [(["a"], "a"), ([3], "3"), ([None], ""), (True, "true"), (False, "false")])
def test_one_value_is_a_text(said: object, text: str) -> None:
    line = json.dumps({"question_id": 1, "text": said}).encode()
    assert [p.text for p in predictions.read(line, where="a.jsonl").predictions] == [text]


def test_what_is_no_text_is_a_failure_of_its_id() -> None:
    said = [["a", "b"], [], {"a": 1}, [{"a": 1}], float("nan")]
    lines = [{"question_id": n, "text": text, "answer": "the target"} for n, text in enumerate(said)]
    answers = predictions.read(json.dumps([*lines, {"question_id": 9, "text": "a"}]).encode(), where="a.json")
    assert [p.id for p in answers.predictions] == [9]
    assert [(failure.id, failure.reason) for failure in answers.failures] == [(n, "bad_record") for n in range(5)]


def test_an_object_of_captions_loses_only_the_entries_that_are_none() -> None:
    text = b'{"1": ["a cat"], "2": ["a", "b"], "3": [], "4": [{"caption": "a dog"}], "5": [1]}'
    answers = predictions.read(text, where="a.json")
    assert [(p.id, p.text) for p in answers.predictions] == [("1", "a cat"), ("4", "a dog")]
    assert [failure.id for failure in answers.failures] == ["2", "3", "5"]


ODD = [
    {"question_id": 1, "text": "a", "score": float("nan")},
    {"question_id": 2, "text": "b\ud83d", "options": ["\udc00"]},
    {"question_id": 3, "text": float("inf")},
    {"question_id": 4, "text": "\U0001f600 \\ud800"},
    {"question_id": 5, "text": "c", "index": 10**30},
]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", "".join(json.dumps(line) + "\n" for line in ODD)),
        ("a.json", json.dumps(ODD)),
        ("a.json", json.dumps(ODD, indent=1)),
        ("a.json", json.dumps({"predictions": ODD, "accuracy": float("nan")})),
        ("a.json", json.dumps({"accuracy": float("nan"), "results": ODD}, indent=1)),
        ("a.json", json.dumps({line["question_id"]: line["text"] for line in ODD})),
        ("a.json", json.dumps({line["question_id"]: line["text"] for line in ODD}, indent=1)),
    ],
)
def test_what_python_writes_as_json_is_read(name: str, text: str) -> None:
    """NaN, Infinity and halves of surrogate pairs, which `json.dump` writes, cost at most the answer they stand in."""
    answers = predictions.read(text.encode(), where=name)
    found = {str(p.id): p.text for p in answers.predictions}
    assert found == {"1": "a", "2": "b\ufffd", "4": "\U0001f600 \\ud800", "5": "c"}
    assert [(str(failure.id), failure.reason) for failure in answers.failures] == [("3", "bad_record")]


def test_elements_that_cannot_be_read_are_named() -> None:
    text = b'[{"id": 1, "text": "a"}, {"id": 2, "text": a}, {"id": 3, "text": "\xff"}, 4, {"id": 5, "text": "b"}]'
    answers = predictions.read(text, where="a.json")
    assert [p.id for p in answers.predictions] == [1, 5]
    assert [failure.id for failure in answers.failures] == ["record 2", "record 3", "record 4"]


@pytest.mark.parametrize("text", ['[{"id": 1, "text": "a"}, {"id": 2, "te', '[{"id": 1, "text": "a"} {"id": 2}]'])
def test_a_list_that_is_none_has_no_answers(text: str) -> None:
    with pytest.raises(InputError, match=r"a\.json: not valid JSON"):
        predictions.read(text.encode(), where="a.json")


def test_nesting_without_end_costs_its_line_alone() -> None:
    deep = '{"question_id": 2, "text": ' + "[" * 100_000 + "]" * 100_000 + "}"
    for text in (f'{{"question_id": 1, "text": "a"}}\n{deep}\n', f'[{{"question_id": 1, "text": "a"}}, {deep}]'):
        answers = predictions.read(text.encode(), where="a.json")
        assert ([p.id for p in answers.predictions], len(answers.failures)) == ([1], 1)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('index\tprediction\n1\t"a\n2\ta\n', 2),
        ('index\tprediction\n1\t"a\nb"\n2\t"\n3\tc', 4),
        ('index\t"prediction\n1\ta\n', 1),
    ],
)
def test_a_quote_that_never_closes_is_refused(text: str, line: int) -> None:
    """Else the rest of the file is one answer."""
    with pytest.raises(InputError, match=rf"a\.tsv: not a readable table: the record of line {line} opens a quote"):
        predictions.read(text.encode(), where="a.tsv")


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_quotes_that_pandas_reads(end: str) -> None:
    text = 'index\tprediction\n1\t"two\nlines, ""said"""\n2\tsay "hi" now\n3\t"a"b\n4\t"last"' + end
    found = predictions.read(text.encode(), where="a.tsv").predictions
    assert [p.text for p in found] == ['two\nlines, "said"', 'say "hi" now', "ab", "last"]


def test_failures_of_any_origin_never_stop_an_evaluation(tmp_path) -> None:
    """What an earlier evaluation wrote there is found again, and is no failure of the run."""
    own = {"id": 1, "stage": "infer", "reason": "truncated", "detail": "ends too early"}
    lines = [
        own,
        {"id": 2.0, "error": "out of luck", "loss": float("nan")},
        {**own, "id": 3, "reason": "bad_luck"},
        {**own, "id": 4, "stage": "eval"},
        {"id": 5, "stage": "eval", "reason": "bad_luck"},
        {"error": "all of it"},
        [6],
    ]
    text = "\ufeff" + "".join(json.dumps(line) + "\n" for line in lines) + '{"id": 7, "sta'
    (tmp_path / "failures.jsonl").write_text(text, encoding="utf-8")
    found = predictions.read_failures(tmp_path / "answers.jsonl")
    assert [(failure.id, failure.reason) for failure in found] == [
        (1, "truncated"),
        (2, "model_error"),
        (3, "model_error"),
    ]
    assert "out of luck" in found[1].detail
    assert predictions.read_failures(tmp_path / "failures.jsonl") == []


def test_lines_that_cannot_be_read_are_named() -> None:
    text = b'{"question_id": 1, "text": "a"}\nnonsense\n{"text": "b"}\n{"question_id": 4}\n\xff\n'
    answers = predictions.read(text, where="a.jsonl")
    assert len(answers.predictions) == 1
    assert [failure.id for failure in answers.failures] == ["line 2", "line 3", 4, "line 5"]
    assert {failure.reason for failure in answers.failures} == {"bad_record"}


@pytest.mark.parametrize("text", [b"just words\n", b'{"a": [1]}', b"[1, 2"])
def test_what_is_no_answers_file(text: bytes) -> None:
    with pytest.raises(InputError, match=r"a\.json"):
        predictions.read(text, where="a.json")


def test_an_empty_file_has_no_answers() -> None:
    assert predictions.read(b"", where="a.jsonl").predictions == []


def test_zip_parquet_and_folders(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("inner/annotations.json", '{"annotations": [{"id": 1}]}')
        archive.writestr("__MACOSX/x.json", "{}")
        archive.writestr("readme.md", "no")
    pictures = pa.array([{"bytes": b"x", "path": "1.jpg"}])
    pq.write_table(pa.table({"id": ["q1"], "options": ["['a', 'b']"], "image": pictures}), tmp_path / "b.parquet")
    documents = Truth((tmp_path,)).files
    assert [document.name for document in documents] == ["annotations.json", "b.parquet"]
    assert documents[0].part("annotations", list[dict[str, int]]) == [{"id": 1}]
    assert documents[1].rows() == [{"id": "q1", "options": "['a', 'b']", "image": "1.jpg"}]


def test_the_parts_of_a_data_set_of_the_hub(tmp_path) -> None:
    for part in ("Art", "Music"):
        (tmp_path / part).mkdir()
        pq.write_table(pa.table({"id": [f"test_{part}_1"]}), tmp_path / part / "test-00000-of-00001.parquet")
    assert [row["id"] for d in Truth((tmp_path,)).files for row in d.rows()] == ["test_Art_1", "test_Music_1"]


def test_errors_name_file_line_and_field(tmp_path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n{"id": \n')
    with pytest.raises(RecordError, match=r"a\.jsonl:2"):
        Document(tmp_path / "a.jsonl").rows()
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"b\.parquet: cannot be read as Parquet"):
        Document(tmp_path / "b.parquet").rows()
    (tmp_path / "c.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"c\.zip: cannot be read as a zip archive"):
        _ = Truth((tmp_path / "c.zip",)).files
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: holds no \.csv"):
        _ = Truth((tmp_path / "empty",)).files


def test_logs_of_lmms_eval() -> None:
    """The answer is `filtered_resps`, a text or a list of one; the id is a metric's, or the question's beside."""
    metric = {"seed_all": {"pred": "A", "answer": "B", "question_id": "101"}}
    entries = [
        {"doc_id": 0, "target": "B", **metric, "filtered_resps": "A", "input": "Which?"},
        {"doc_id": 1, "target": "B", **metric, "resps": [["A"]], "filtered_resps": ["A"]},
        {
            "doc_id": 2,
            "doc": {"id": "v_7", "question": "What?", "category": "OCR"},
            "filtered_resps": [["x"]],
            "accuracy": 1,
        },
        {"doc_id": 3, "filtered_resps": "x", "accuracy": 1},
    ]
    data = "".join(json.dumps(entry) + "\n" for entry in entries).encode()
    found = predictions.read(data, where="20260101_120000_samples_seedbench.jsonl")
    assert [(one.id, one.text, one.prompt) for one in found.predictions] == [
        ("101", "A", "Which?"),
        ("101", "A", ""),
        ("v_7", "x", "What?"),
    ]
    assert found.predictions[2].fields == {"category": "OCR"}
    assert [failure.id for failure in found.failures] == ["line 4"]
