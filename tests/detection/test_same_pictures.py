"""A picture under two names is detected once, and has an entry of each name wherever entries are by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import mgtool
from mgtool.boxes import formats

IMAGES = Path(__file__).parents[1] / "images"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "img"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(IMAGES / "coffee.jpg", folder / name)
    return folder


def test_coco_has_both_names(pictures: Path, tmp_path: Path) -> None:
    found = mgtool.detect([pictures], tmp_path / "o", mgtool.DetectOptions(format="coco", workers=0))
    assert (found.statistics.pictures, found.statistics.duplicates) == (1, 1)
    first, second = formats.read(str(tmp_path / "o"))
    assert ([first.image, second.image], first.boxes) == (["a.jpg", "b.jpg"], second.boxes)
    assert len(json.loads((tmp_path / "o" / "images.json").read_text())["images"]) == 2


def test_evaluation_finds_both(pictures: Path, tmp_path: Path) -> None:
    mgtool.detect([pictures], tmp_path / "o", mgtool.DetectOptions(workers=0))
    [record] = formats.read(str(tmp_path / "o"))
    names = sorted(set(record.labels or ()))
    truth: dict[str, Any] = {"annotations": [], "categories": [{"id": n, "name": name} for n, name in enumerate(names)]}
    truth["images"] = [{"id": n, "file_name": name} for n, name in enumerate(("a.jpg", "b.jpg"))]
    for picture in (0, 1):
        for (x0, y0, x1, y1), label in zip(record.boxes or (), record.labels or (), strict=True):
            own = {"image_id": picture, "category_id": names.index(label), "bbox": [x0, y0, x1 - x0, y1 - y0]}
            truth["annotations"].append({"id": len(truth["annotations"]) + 1, "iscrowd": 0, **own})
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    options = mgtool.EvalOptions("coco-detection", ground_truth=[tmp_path / "gt.json"], images=str(pictures))
    mgtool.evaluate(tmp_path / "o", options, out=tmp_path / "scores")
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert (round(scores["metrics"]["AP"]["value"], 6), scores["counts"]["missing"]) == (100, 0)
