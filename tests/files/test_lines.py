"""Lines of any length: what is read of them is bounded, and what stands behind them is read."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from mgtool.errors import RecordError
from mgtool.files import lines
from mgtool.inputs import sources
from mgtool.records import Failure


@pytest.mark.parametrize("data", [b"", b"a\nbb\n", b"abcd\nefgh\n", b"abcde\nf", b"a" * 100 + b"\nx\n", b"\n" * 9])
def test_of_each_line_a_beginning(data: bytes) -> None:
    found = list(lines.bounded(io.BytesIO(data), 4))
    whole = data.splitlines(keepends=True)
    assert [size for _, size in found] == [len(line) for line in whole]
    assert [line for line, _ in found] == [line[:4] for line in whole]


def test_the_first_line_may_be_longer() -> None:
    found = list(lines.bounded(io.BytesIO(b"a" * 9 + b"\n" + b"b" * 9 + b"\n"), 4, first=20))
    assert [line for line, _ in found] == [b"a" * 9 + b"\n", b"bbbb"]


def test_a_record_on_an_endless_line_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines.bounded, "__defaults__", (200,))
    line = '{"question_id": %d, "text": "%s"}\n'
    (tmp_path / "q.jsonl").write_text(line % (1, "?") + line % (2, "x" * 5000) + line % (3, "?"))
    first, long, last = sources.read_samples([str(tmp_path / "q.jsonl")])
    assert [first.id, last.id] == [1, 3]
    assert isinstance(long, Failure)
    assert long.reason == "bad_record"


def test_a_box_file_with_an_endless_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mgtool.boxes import formats
    from mgtool.boxes.formats import jsonl

    monkeypatch.setattr(jsonl, "_MOST_BYTES", 50)
    record = '{"image": "a.jpg", "sha256": "", "width": 640, "height": 480, "boxes": [], "scores": [], "labels": []}\n'
    (tmp_path / "boxes.jsonl").write_text(record * 2)
    with pytest.raises(RecordError, match=r"boxes\.jsonl:1: "):
        list(formats.read(str(tmp_path / "boxes.jsonl")))
