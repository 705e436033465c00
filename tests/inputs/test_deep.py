"""Values nested too deeply and numbers of too many digits cost their record, or one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from mgtool.boxes import formats
from mgtool.errors import InputError
from mgtool.files import json_lists
from mgtool.inputs import sources
from mgtool.records import MAX_DEPTH, Failure, decode, dumps
from mgtool.scoring import predictions
from mgtool.scoring.ground_truth import Truth


def nested(levels: int) -> str:
    return '{"a":[' * (levels // 2) + "1" + "]}" * (levels // 2)


TOO_MUCH = [nested(200_000), nested(MAX_DEPTH + 2), nested(900), "9" * 5000]
QUESTION = '{"question_id": %d, "image": "a.jpg", "text": "Q", "n": %s}'


@pytest.mark.parametrize("value", TOO_MUCH)
@pytest.mark.parametrize("form", ["lines", "list", "coco", "tsv"])
def test_a_record_of_an_input(tmp_path: Path, form: str, value: str) -> None:
    records = [QUESTION % (1, value), QUESTION % (2, nested(MAX_DEPTH - 2))]
    images = [f'{{"id": {value}, "file_name": "a.jpg"}}', '{"id": 2, "file_name": "a.jpg"}']
    texts = {
        "lines": "\n".join(records),
        "list": f"[{','.join(records)}]",
        "coco": f'{{"images": [{",".join(images)}]}}',
        "tsv": f"index\timage_path\tquestion\n{value}\ta.jpg\tQ\n2\ta.jpg\tQ\n",
    }
    (tmp_path / ("x.tsv" if form == "tsv" else "x.json")).write_text(texts[form])
    first, second = sources.read_samples([str(next(tmp_path.iterdir()))])
    assert second.id == 2
    assert dumps(second)
    assert form == "tsv" or (isinstance(first, Failure) and first.reason == "bad_record")


@pytest.mark.parametrize("value", TOO_MUCH)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("boxes.json", '[{"id": 1, "boxes": %s}]'),
        ("ids.json", '{"1": {"boxes": %s}}'),
        ("one.json", '{"image": "a.jpg", "sha256": "x", "width": 9, "height": 9, "boxes": %s}'),
        ("boxes.jsonl", '{"image": "a.jpg", "sha256": "x", "width": 9, "height": 9, "boxes": %s}'),
    ],
)
def test_boxes(tmp_path: Path, name: str, text: str, value: str) -> None:
    (tmp_path / name).write_text(text % value)
    with pytest.raises(InputError):
        list(formats.read(str(tmp_path / name)))


@pytest.mark.parametrize("value", TOO_MUCH)
def test_answers_and_targets(tmp_path: Path, value: str) -> None:
    answers = f'{{"question_id": {value}, "text": "yes"}}\n{{"question_id": 2, "text": "yes"}}\n'
    found = predictions.read(answers.encode(), where="a.jsonl")
    assert [one.id for one in found.predictions][-1] == 2
    (tmp_path / "gt.jsonl").write_text(QUESTION % (1, value))
    with pytest.raises(InputError):
        Truth((tmp_path / "gt.jsonl",)).files[0].rows()


def test_what_is_left_of_a_value_is_still_too_deep() -> None:
    whole = f'{{"x": "}}]", "images": [{nested(10_000)}, {nested(10)}]}}'.encode()
    members = decode(json_lists.pruned(whole), dict[str, msgspec.Raw])
    deep, flat = decode(members["images"], list[msgspec.Raw])
    assert bytes(flat) == nested(10).encode()
    with pytest.raises(msgspec.DecodeError, match="levels"):
        decode(deep, object)


@pytest.mark.parametrize("value", ["[" * 5000 + "]" * 5000, "9" * 5000])
def test_a_config(tmp_path: Path, value: str) -> None:
    (tmp_path / "c.toml").write_text(f"workers = {value}\n")
    command = [sys.executable, "-m", "mgtool.commands.main", "pack", "x", "--out", "y", "--config", "c.toml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert (done.returncode, "c.toml" in done.stderr) == (2, True), done.stderr


def test_ordinary_records_are_as_they_were() -> None:
    record = {"boxes": [[0.5, 1, 2, 3]] * 500, "text": "[" * 500 + '\\"{'}
    assert decode(json.dumps(record), dict[str, object]) == record
