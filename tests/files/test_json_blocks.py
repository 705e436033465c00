"""Long lists and objects in pieces: what comes out is what a whole decoding gives, or that it cannot be read."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import msgspec
import pytest

from mgtool.files import json_blocks
from mgtool.files.json_blocks import OddJsonError, Source

STYLES: list[dict[str, Any]] = [{}, {"indent": 1}, {"separators": (",", ":")}]


def records(draw: random.Random) -> list[dict[str, Any]]:
    """Some that hold lists, and texts with brackets."""
    return [
        {"id": n, "inner": [{"text": '}, {"id": é\\ "' * draw.randrange(2)}] * draw.randrange(3), "b": {"id": n}}
        for n in range(draw.randrange(12))
    ]


@pytest.fixture(params=[40, 200, 1 << 20])
def chunk(request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_blocks, "CHUNK", request.param)


def listed(data: bytes) -> list[Any] | None:
    """What is read of a list; None where it is refused."""
    source = Source(io.BytesIO(data))
    try:
        found = list(source.listed(dict))
        source.end()
    except OddJsonError:
        return None
    return found


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("style", STYLES)
def test_lists_and_objects(style: dict[str, Any]) -> None:
    draw = random.Random(0)
    for _ in range(40):
        rows = records(draw)
        assert listed(b"\xef\xbb\xbf " + json.dumps(rows, **style).encode()) == rows
        named = {f"key {n}": row for n, row in enumerate(rows)}
        assert dict(Source(io.BytesIO(json.dumps(named, **style).encode())).named(dict)) == named
        document = {
            "info": {"a": [1, {"b": 2}]},
            "n": 1.5,
            "t": "x}],",
            "other": rows,
            "e": [],
            "rows": rows,
            "z": None,
        }
        members = Source(io.BytesIO(json.dumps(document, **style).encode())).members()
        assert [row for member in members if member.name == "rows" for row in member.listed(dict)] == rows


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("style", STYLES)
def test_what_is_damaged_is_refused_where_a_whole_decoding_refuses_it(style: dict[str, Any]) -> None:
    draw = random.Random(1)
    for _ in range(150):
        data = bytearray(json.dumps(records(draw), **style).encode())
        place = draw.randrange(len(data) + 1)
        damages = (b"", data[place : place + 1] + bytes([draw.choice(b',]}{[" 0')]))
        damaged = bytes(data[:place] + draw.choice(damages) + data[place + 1 :]) if place % 3 else bytes(data[:place])
        try:
            expected = msgspec.json.decode(damaged, type=list[dict[str, Any]])
        except (msgspec.DecodeError, UnicodeDecodeError):
            expected = None
        assert listed(damaged) == expected, damaged


@pytest.mark.parametrize(
    "data", [b'{"a": 1 "b": []}', b'{"a": 1,}', b'{"a":}', b'{"a": x, "b": []}', b'{"b": []} 1', b"[]", b""]
)
def test_objects_that_are_none(data: bytes) -> None:
    with pytest.raises(OddJsonError):
        list(Source(io.BytesIO(data)).members())
