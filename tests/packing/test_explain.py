"""`pack --explain`: what an input is taken for, and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mgtool.inputs.json_records import LAYOUTS
from mgtool.inputs.seen import KINDS

PHOTOS = Path(__file__).parents[2] / "examples/photos"


def test_it_says_kind_layout_failures_and_what_is_left_out(tmp_path: Path, mgtool) -> None:
    (tmp_path / "x.jsonl").write_text('{"image": "a.jpg", "text": "Q"}\n{"foo": 1}\n')
    code, out, err = mgtool("pack", tmp_path / "x.jsonl", "--explain")
    assert code == 3, err
    lines = out.splitlines()
    assert lines[0] == f"{tmp_path}/x.jsonl: JSON lines, as its lines are JSON objects"
    assert lines[1].strip() == "1 samples, 1 pictures, 0 videos, 1 turns"
    assert lines[2].strip().startswith("1 x question, by one of `text`, ")
    assert lines[3].strip() == "failed: 1 x bad_record"
    assert "neither picture, video nor text in `foo`" in lines[4]


@pytest.mark.parametrize(
    ("given", "kind", "layout"),
    [
        ("images", "folder of pictures", None),
        ("instances.json", "COCO file", "COCO image"),
        ("conversations.json", "JSON list", "conversation of LLaVA or ShareGPT"),
        ("pope_random.jsonl", "JSON lines", "question"),
    ],
)
def test_each_kind_as_json(given: str, kind: str, layout: str | None, mgtool) -> None:
    code, out, err = mgtool("pack", PHOTOS / given, "--explain", "--json", "--strict")
    (found,) = json.loads(out)["inputs"]
    assert (code, bool(found["left_out"])) == ((3, True) if kind == "COCO file" else (0, False)), err
    assert [one[1] for one in found["taken_for"]] == [kind]
    assert list(found["layouts"]) == ([layout] if layout else [])
    assert found["samples"]
    assert found["is_whole"]


def test_the_tables_of_kinds_and_layouts_say_how_each_is_told() -> None:
    assert all(KINDS.values())
    assert all(layout.told_by for layout in LAYOUTS)
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


def test_it_does_not_go_with_out(mgtool, tmp_path: Path) -> None:
    code, _, err = mgtool("pack", PHOTOS / "images", "--explain", "--out", tmp_path / "o")
    assert code == 2
    assert "do not go together" in err
