"""Answers and ground truth in the forms that users have."""

from __future__ import annotations

import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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
