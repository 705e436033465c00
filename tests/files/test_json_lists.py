from __future__ import annotations

import io
import json
import random
from typing import Any

import pytest

from mgtool.errors import InputError
from mgtool.files import json_lists

LETTERS = 'ab"\\{}[],:\u00e9\n '


def read(data: bytes) -> list[Any]:
    return [json.loads(element) for element in json_lists.elements(io.BytesIO(data), where="x.json")]


def some_value(source: random.Random, depth: int = 0) -> Any:
    kind = source.random()
    many = range(source.randint(0, 3))
    if depth < 3 and kind < 0.3:
        return {some_text(source): some_value(source, depth + 1) for _ in many}
    if depth < 3 and kind < 0.5:
        return [some_value(source, depth + 1) for _ in many]
    return source.choice([1, -2.5e3, None, True, some_text(source)])


def some_text(source: random.Random) -> str:
    return "".join(source.choices(LETTERS, k=source.randint(0, 8)))


@pytest.mark.parametrize("chunk", [4, 9, 64])
def test_whole_lists_come_out_and_cut_ones_are_refused(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(json_lists, "_CHUNK", chunk)
    source = random.Random(chunk)
    for _ in range(500):
        values = [some_value(source) for _ in range(source.randint(0, 6))]
        data = json.dumps(values, indent=source.choice([None, 1]), ensure_ascii=source.random() < 0.5).encode()
        assert read(data + b"\n ") == values
        with pytest.raises(InputError, match=r"x\.json: not valid JSON"):
            read(data[: source.randrange(len(data))])


@pytest.mark.parametrize("text", ["", "{}", "[1] 2", "[{}]]", "[1 2]", "[{} {}]", "[{},,]", "[,{}]", "[,]", '["a]'])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(InputError, match=r"x\.json: not valid JSON"):
        read(text.encode())


def test_a_byte_order_mark() -> None:
    assert read(b"\xef\xbb\xbf [{}]") == [{}]


def test_a_long_element(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lists, "_CHUNK", 16)
    values = [{"a": "x" * 100_000, "b": [[1, {"c": "]"}]] * 1000}, 2, "3"]
    assert read(json.dumps(values).encode()) == values


def test_a_comma_behind_the_last_element_is_no_mistake_worth_a_file() -> None:
    assert list(json_lists.elements(io.BytesIO(b'[{"a": 1},\n{},\n]\n'), where="x.json")) == [b'{"a": 1}', b"{}"]
