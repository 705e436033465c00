"""Pictures looked at in squares and sizes; the squares are those of the package `sahi`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

import mgtool
from mgtool.boxes.merging import Merging
from mgtool.boxes.thresholds import LabelThresholds
from mgtool.detection.views import ViewingDetector, Views, slices
from mgtool.errors import UsageError
from mgtool.records import Detections

IMAGES = Path(__file__).parents[1] / "images"


@dataclass
class Seeing:
    """Finds the red pixels of each picture as one box, the surer the larger it is; words are labels."""

    identity: str = "seeing"
    own_threshold: float = 0.5
    batches: list[int] = field(default_factory=list)

    def detect(self, pictures: Sequence[Image.Image], words: Sequence[Sequence[str]] | None) -> list[Detections]:
        self.batches.append(len(pictures))
        boxes = [picture.getchannel("R").point(lambda value: 255 * (value > 127)).getbbox() for picture in pictures]
        labels = ["red"] * len(pictures) if words is None else [one[0] for one in words]
        return [
            Detections((box,), ((box[2] - box[0]) * (box[3] - box[1]) / 1e5,), (label,)) if box else Detections()
            for box, label in zip(boxes, labels, strict=True)
        ]


def red(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    picture = Image.new("RGB", (width, height))
    picture.paste((255, 0, 0), box)
    return picture


def test_squares_cover_the_picture() -> None:
    assert slices(150, 70, 64, 0.2) == [
        (0, 0, 64, 64),
        (52, 0, 116, 64),
        (86, 0, 150, 64),
        (0, 6, 64, 70),
        (52, 6, 116, 70),
        (86, 6, 150, 70),
    ]
    assert slices(64, 10, 64, 0.2) == [(0, 0, 64, 10)]
    with pytest.raises(UsageError, match="slices of one picture"):
        slices(10_000, 10_000, 10, 0.9)


@pytest.mark.parametrize(
    "views", [Views(64), Views(40, 0.5), Views(64, scales=(1.0, 2.0)), Views(scales=(0.5, 2.0)), Views(64, max_size=75)]
)
def test_an_object_is_found_once_in_the_picture_s_pixels(views: Views) -> None:
    seeing = Seeing()
    pictures = [red(150, 70, (40, 20, 100, 50)), red(20, 90, (4, 30, 16, 60))]
    first, second = ViewingDetector(seeing, views, Merging()).detect(pictures, [["cat"], ["dog"]])
    assert (first.labels, second.labels) == (("cat",), ("dog",))
    assert first.boxes[0] == pytest.approx((40, 20, 100, 50), abs=1.5)
    assert second.boxes[0] == pytest.approx((4, 30, 16, 60), abs=1.5)
    assert max(seeing.batches) <= len(pictures)


def test_small_objects_of_a_large_picture(tmp_path: Path, mgtool) -> None:
    with Image.open(IMAGES / "coffee.jpg") as picture:
        wide = Image.new("RGB", (picture.width * 4, picture.height * 2))
        wide.paste(picture, (picture.width * 2, picture.height))
        wide.save(tmp_path / "wide.png")
    counts = {}
    for name, words in {"plain": [], "sliced": ["--slice", "600"]}.items():
        out = tmp_path / name
        code, _, said = mgtool("detect", tmp_path / "wide.png", "--out", out, "--workers", "0", "-q", *words)
        assert code == 0, said
        (line,) = (out / "boxes-000000.jsonl").read_text().splitlines()
        counts[name] = len(json.loads(line)["boxes"])
    assert counts["sliced"] > counts["plain"]
    assert mgtool("detect", tmp_path / "wide.png", "--out", tmp_path / "plain", "--slice", "500", "-q")[0] == 2


def test_thresholds_by_label_reach_below_the_detector_s_own(tmp_path: Path) -> None:
    def labels(threshold: float | None) -> dict[str, int]:
        options = mgtool.DetectOptions(threshold=threshold, workers=0)
        found = mgtool.detect([IMAGES], tmp_path / repr(threshold), options)
        return dict(found.statistics.labels)

    own, low = labels(None), labels(0.2)
    rare = next(label for label in low if label not in own)
    assert labels(LabelThresholds({rare: 0.2})) == {**own, rare: low[rare]}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"overlap": 1.0}, "overlap"),
        ({"slice": -1}, "slice"),
        ({"scales": "x"}, "scales"),
        ({"scales": "0,1"}, "scales"),
        ({"merge": "x"}, "merge"),
        ({"iou": 2}, "iou"),
        ({"class_agnostic": True}, "class_agnostic"),
        ({"detector": "boxes:x", "slice": 64}, "slice"),
    ],
)
def test_what_makes_no_views_is_refused(options: dict[str, object], names: str) -> None:
    with pytest.raises(UsageError, match=f"`{names}`"):
        mgtool.DetectOptions(**options).check()  # type: ignore[arg-type]
