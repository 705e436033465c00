"""A box file stands in place of all boxes that samples carry, in `pack` as in `infer`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mgtool.boxes.lookup import opened_boxes
from mgtool.errors import ItemError
from mgtool.files import hashing
from mgtool.packing.options import PackOptions, Source
from mgtool.records import Sample
from mgtool.stages.pack import pack
from mgtool.tars.samples import open_tars


def line(name: str, side: float) -> dict[str, Any]:
    return {"image": name, "boxes": [[0, 0, side, side]], "scores": [0.5], "labels": ["cat"]}


@pytest.fixture
def carrying(tmp_path: Path) -> Path:
    """Tars of two pictures with a box each, and beside them a box file that knows the first one alone."""
    (tmp_path / "photos").mkdir()
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (16, 16), colour).save(tmp_path / "photos" / name)
    both, one = tmp_path / "both.jsonl", tmp_path / "one.jsonl"
    both.write_text("\n".join(json.dumps(line(name, 8)) for name in ("a.png", "b.png")))
    one.write_text(json.dumps(line("a.png", 4)))
    pack([Source(tmp_path / "photos", boxes=both)], tmp_path / "tars", PackOptions(workers=1))
    return tmp_path


def boxes_of(samples: list[Sample]) -> list[tuple[Any, ...]]:
    return [detections.boxes for sample in samples for detections in sample.images[0].detections or ()]


@pytest.mark.parametrize(
    ("policy", "kept"), [("fail", [((0, 0, 4, 4),)]), ("skip", [((0, 0, 4, 4),)]), ("empty", [((0, 0, 4, 4),), ()])]
)
def test_what_a_box_file_lacks_has_no_boxes(carrying: Path, policy: Any, kept: list[Any]) -> None:
    out, options = io.BytesIO(), PackOptions(workers=1, missing_boxes=policy)
    packed = pack([Source(carrying / "tars", boxes=carrying / "one.jsonl")], out, options)
    assert [failure.reason for failure in packed.failed] == (["no_boxes"] if policy == "fail" else [])
    assert boxes_of(list(open_tars("-", stdin=io.BytesIO(out.getvalue())))) == kept


def test_without_a_box_file_samples_keep_their_own(carrying: Path) -> None:
    out = io.BytesIO()
    pack([Source(carrying / "tars")], out, PackOptions(workers=1))
    assert boxes_of(list(open_tars("-", stdin=io.BytesIO(out.getvalue())))) == [((0, 0, 8, 8),)] * 2


def test_answers_are_given_by_the_same_rule(carrying: Path) -> None:
    with opened_boxes(str(carrying / "one.jsonl")) as boxes:
        first, second = (
            (sample, sample.images[0], sample.images[0].data or b"") for sample in open_tars(carrying / "tars")
        )
        found = boxes.find(*first, hashing.sha256(first[2]))
        assert [one.boxes for one in found or ()] == [((0, 0, 4, 4),)]
        with pytest.raises(ItemError, match="no_boxes"):
            boxes.find(*second, hashing.sha256(second[2]))
