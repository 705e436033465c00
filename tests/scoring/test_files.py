"""Answers and ground truth in the forms that users have."""

from __future__ import annotations

import io
import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl import Workbook

from mgtool.benchmarks import predictions
from mgtool.benchmarks.files import Document, Truth
from mgtool.errors import InputError, RecordError


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
    ],
)
def test_layouts(text: str) -> None:
    answers = predictions.read(text.encode(), where="answers.json")
    assert [(str(p.id), p.text) for p in answers.predictions] == [("7", "a dog")]
    assert answers.failures == []


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


@pytest.mark.parametrize("more", [{"options": [1, None]}, {"options": "A. cat"}, {"round_id": "x", "option_char": 3}])
def test_fields_that_others_use_otherwise_do_no_harm(bench, more: dict[str, object]) -> None:
    row = {"index": 1, "question": "?", "A": "cat", "B": "dog", "answer": "A", "category": "x", "image": "1"}
    run = bench.score("mmbench", [bench.write("MMBench_DEV_EN.tsv", [row])], [{"question_id": 1, "text": "A", **more}])
    assert run.result.metrics["accuracy"].value == 100


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
    assert documents[1].rows() == [{"id": "q1", "options": "['a', 'b']"}]


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
