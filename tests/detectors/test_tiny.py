"""The shipped detector of the example scenes, on scenes of the kind that it was never trained on."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgtool import detectors
from mgtool.detectors import tiny

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "scenes"))
from world import SIZE, arrange, draw

SCENES = [arrange("test", number) for number in range(5000, 5030)]


@pytest.fixture(scope="module")
def detector() -> detectors.Detector:
    return detectors.load("tiny", device="cpu")


def _overlaps(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(n, 4) and (m, 4) -> (n, m) intersection over union."""
    corner = np.maximum(found[:, None, :2], true[None, :, :2])
    opposite = np.minimum(found[:, None, 2:], true[None, :, 2:])
    shared = np.clip(opposite - corner, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (found, true)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


def test_it_finds_most_objects_and_little_else(detector: detectors.Detector) -> None:
    matched = wrong = objects = 0
    for scene, found in zip(SCENES, detector.detect([draw(scene) for scene in SCENES], None), strict=True):
        true = np.array([thing.box for thing in scene.things], dtype=np.float32)
        assert set(found.labels) <= {"object"}
        assert list(found.scores) == sorted(found.scores, reverse=True)
        overlaps = _overlaps(np.array(found.boxes, dtype=np.float32).reshape(-1, 4), true)
        matched += int((overlaps > 0.5).any(axis=0).sum())
        wrong += int((overlaps.max(axis=1, initial=0) < 0.5).sum())
        objects += len(true)
    assert matched > 0.85 * objects
    assert wrong < 0.2 * objects


def test_boxes_lie_in_the_picture_whatever_its_shape(detector: detectors.Detector) -> None:
    """A scene in the middle of a wide picture, twice as large, has the same boxes there."""
    picture = draw(SCENES[0])
    wide = Image.new("RGB", (4 * SIZE, 2 * SIZE), tiny.PADDING)
    wide.paste(picture.resize((2 * SIZE, 2 * SIZE), Image.Resampling.BICUBIC), (SIZE, 0))
    bordered = Image.new("RGB", (2 * SIZE, 2 * SIZE), tiny.PADDING)
    bordered.paste(picture, (SIZE // 2, SIZE // 2))
    in_wide, in_bordered = detector.detect([wide, bordered], None)
    moved = np.array(in_bordered.boxes) * 2 - np.array([SIZE, SIZE, SIZE, SIZE]) + np.array([SIZE, 0, SIZE, 0])
    overlaps = _overlaps(np.array(in_wide.boxes), moved)
    assert len(overlaps) >= 2
    assert (overlaps.max(axis=1) > 0.6).mean() > 0.8


def test_batches_and_thresholds(detector: detectors.Detector) -> None:
    pictures = [draw(scene) for scene in SCENES[:3]]
    together = detector.detect(pictures, None)
    assert together == [detector.detect([picture], None)[0] for picture in pictures]
    assert detector.detect([], None) == []
    few = detectors.load("tiny", threshold=0.8).detect(pictures, None)
    assert sum(len(found.boxes) for found in few) < sum(len(found.boxes) for found in together)
    assert min(score for found in few for score in found.scores) >= 0.8


def test_the_weights_are_small() -> None:
    weights = resources.files(detectors) / "weights" / tiny.Tiny.weights
    assert len(weights.read_bytes()) < 3_000_000
