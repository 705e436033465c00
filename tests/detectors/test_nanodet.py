"""The shipped detector on real photographs."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mgtool import detectors
from mgtool.errors import UsageError

IMAGES = Path(__file__).parents[1] / "images"


@pytest.mark.parametrize(
    ("name", "label", "score"), [("astronaut_portrait.jpg", "person", 0.74), ("coffee.jpg", "cup", 0.53)]
)
def test_real_photographs(name: str, label: str, score: float) -> None:
    with Image.open(IMAGES / name) as file:
        picture = file.convert("RGB")
    (found,) = detectors.load("nanodet").detect([picture], None)
    assert found.labels[0] == label
    assert found.scores[0] == pytest.approx(score, abs=0.01)
    x0, y0, x1, y1 = found.boxes[0]
    assert 0 <= x0 < x1 <= picture.width
    assert 0 <= y0 < y1 <= picture.height


def test_the_threshold_is_the_lowest_score() -> None:
    with Image.open(IMAGES / "astronaut_portrait.jpg") as file:
        picture = file.convert("RGB")
    many = detectors.load("nanodet", threshold=0.1).detect([picture], None)[0]
    few = detectors.load("nanodet", threshold=0.5).detect([picture], None)[0]
    assert len(many.boxes) > len(few.boxes) == 1
    assert min(many.scores) >= 0.1


@pytest.mark.parametrize("spec", ["yolo", "nanodet:x", "mmdet", "hf:", ""])
def test_a_wrong_spec_names_the_right_ones(spec: str) -> None:
    with pytest.raises(UsageError, match=r"give one of nanodet, tiny, mmdet:"):
        detectors.load(spec)
