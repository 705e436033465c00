"""Suppression against torchvision's, limits, and the placement of boxes and pictures."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mgtool.boxes.placement import BoxRules, Placement, place
from mgtool.boxes.shrinking import Shrinking
from mgtool.boxes.suppression import best_per_label, nms
from mgtool.errors import ItemError
from mgtool.records import Detections

coordinate = st.integers(0, 40)
box = st.tuples(coordinate, coordinate, coordinate, coordinate).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)
detected = st.lists(st.tuples(box, st.sampled_from([0.1, 0.25, 0.5, 0.9]), st.sampled_from("abc")), max_size=40)


def arrays(items):
    boxes = np.array([b for b, _, _ in items], dtype=np.float32).reshape(-1, 4)
    return boxes, np.array([s for _, s, _ in items], dtype=np.float32), [label for _, _, label in items]


@settings(deadline=None, max_examples=300)
@given(detected, st.sampled_from([0.2, 0.25, 0.5]))
def test_nms_is_torchvision_s_within_each_label(items, iou):
    boxes, scores, labels = arrays(items)
    codes = torch.tensor([ord(label) for label in labels], dtype=torch.int64)
    theirs = torchvision.ops.batched_nms(torch.from_numpy(boxes), torch.from_numpy(scores), codes, iou)
    assert nms(boxes, scores, labels, iou).tolist() == theirs.tolist()


def test_an_overlap_of_exactly_the_threshold_is_suppressed_as_in_float32():
    boxes = np.array([[0, 0, 6, 1], [4, 0, 10, 1]], dtype=np.float32)  # shared 2, union 10
    scores = np.array([0.9, 0.8], dtype=np.float32)
    assert torchvision.ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.2).tolist() == [0]
    assert nms(boxes, scores, ["a", "a"], 0.2).tolist() == [0]


def test_labels_do_not_suppress_each_other():
    boxes = np.array([[0, 0, 9, 9]] * 3, dtype=np.float32)
    assert nms(boxes, np.array([0.1, 0.9, 0.5], dtype=np.float32), ["a", "b", "a"], 0.2).tolist() == [1, 2]


def grid_of(count, label="a"):
    """`count` boxes that do not overlap, best first."""
    boxes = tuple((10.0 * i, 0.0, 10.0 * i + 5, 5.0) for i in range(count))
    return Detections(boxes, tuple(1 - i / 1000 for i in range(count)), (label,) * count)


def joined(*several):
    return Detections(*(sum((getattr(d, name) for d in several), ()) for name in ("boxes", "scores", "labels")))


def test_labels_are_cut_only_above_the_limit_and_the_total_may_stay_above_it():
    at_limit, above = grid_of(100), grid_of(101)
    placement = Placement(2000, 2000, 768)
    assert len(place(at_limit, placement, BoxRules()).boxes) == 100
    assert len(place(above, placement, BoxRules()).boxes) == 20
    many = joined(*(grid_of(25, label) for label in "fedcba"))
    placed = place(many, placement, BoxRules())
    assert placed.labels == tuple(label for label in "fedcba" for _ in range(20))


def test_a_tight_limit_keeps_five_of_each_label():
    assert len(place(grid_of(49), Placement(1000, 1000, 768), BoxRules(limit=48)).boxes) == 5
    assert len(place(grid_of(51), Placement(1000, 1000, 768), BoxRules(limit=50)).boxes) == 20


def test_training_can_keep_one_of_each_label():
    placed = place(joined(grid_of(3), grid_of(2, "b")), Placement(100, 100, 768), BoxRules(), per_label=1)
    assert placed.labels == ("a", "b")


def test_labels_keep_their_order_of_first_appearance():
    assert best_per_label(["b", "a", "b", "a", "a"], 2).tolist() == [0, 2, 1, 3]


@pytest.mark.parametrize(
    ("size", "given_box", "moved"),
    [
        ((640, 427), (0, 0, 640, 427), (0, 127, 768, 640)),  # wide: floor(213 / 2) = 106 rows above
        ((427, 640), (0, 0, 427, 640), (127, 0, 640, 768)),
        ((768, 768), (1, 2, 3, 4), (1, 2, 3, 4)),
        ((1536, 1536), (1, 3, 5, 7), (0, 2, 2, 4)),  # 0.5, 1.5, 2.5, 3.5: half to even
        ((10, 10), (-5, -5, 20, 20), (0, 0, 768, 768)),
    ],
)
def test_boxes_are_padded_scaled_rounded_and_clipped(size, given_box, moved):
    placed = place(Detections((given_box,), (0.5,), ("a",)), Placement(*size, 768), BoxRules())
    assert placed.boxes.tolist() == [list(moved)]
    assert placed.boxes.dtype == np.float32


def test_boxes_wholly_outside_go_with_their_labels_and_touching_ones_stay():
    outside, touching = (101, 0, 110, 10), (100, 0, 110, 10)
    found = Detections((outside, touching, (-9, -9, -1, -1)), (0.9, 0.8, 0.7), ("out", "edge", "above"))
    placed = place(found, Placement(100, 100, 768), BoxRules())
    assert placed.labels == ("edge",)
    assert placed.boxes.tolist() == [[768, 0, 768, 77]]


@pytest.mark.parametrize("found", [Detections(), Detections(((500, 500, 600, 600),), (0.9,), ("far",))])
def test_one_box_stands_in_for_none(found):
    placed = place(found, Placement(100, 50, 768), BoxRules())
    assert placed.boxes.tolist() == [[0, 0, 0, 0]]
    assert placed.labels == ()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_bad_boxes(bad):
    with pytest.raises(ItemError, match="bad_boxes"):
        place(Detections(((0, 0, bad, 1),), (0.9,), ("a",)), Placement(10, 10, 768), BoxRules())


@given(st.integers(1, 60), st.integers(1, 60))
@settings(deadline=None, max_examples=50)
def test_picture_and_boxes_move_together(width, height):
    placement = Placement(width, height, 64)
    square = placement.move_picture(Image.new("RGB", (width, height), (255, 0, 0)), (0, 0, 255))
    assert square.size == (64, 64)
    whole = place(Detections(((0, 0, width, height),), (1.0,), ("all",)), placement, BoxRules()).boxes[0]
    centre = tuple(int((whole[i] + whole[i + 2]) / 2) for i in (0, 1))
    assert square.getpixel((min(centre[0], 63), min(centre[1], 63)))[0] >= 128


@pytest.mark.parametrize("size", [(300, 40), (40, 300), (97, 97), (64, 64), (5, 3)])
@pytest.mark.parametrize("band", [1 << 24, 1000, 1])
def test_bands_give_the_pixels_of_padding_and_resizing(size, band, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    side = max(size)
    square = Image.new("RGB", (side, side), (122, 116, 104))
    square.paste(picture, ((side - size[0]) // 2, (side - size[1]) // 2))
    monkeypatch.setattr("mgtool.boxes.placement.BAND_PIXELS", band)
    moved = Placement(*size, 64).move_picture(picture, (122, 116, 104))
    assert np.array_equal(np.asarray(moved), np.asarray(square.resize((64, 64), Image.Resampling.BICUBIC)))


def test_of_a_very_tall_picture_what_it_covers_is_computed(monkeypatch):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1200, 50, 3), dtype=np.uint8))
    square = Image.new("RGB", (1200, 1200), (122, 116, 104))
    square.paste(picture, (575, 0))
    monkeypatch.setattr("mgtool.boxes.placement._TALL", 0)
    placement = Placement(50, 1200, 64)
    assert placement._columns()[0] == (27, 37)
    moved = np.asarray(placement.move_picture(picture, (122, 116, 104))).astype(int)
    assert np.abs(moved - np.asarray(square.resize((64, 64), Image.Resampling.BICUBIC))).max() <= 1


def test_the_padding_of_a_long_picture_takes_no_time():
    began = time.process_time()
    Placement(64, 65_328, 336).move_picture(Image.new("RGB", (64, 65_328)), (122, 116, 104))
    assert time.process_time() - began < 5


def test_a_long_picture_takes_little_memory_and_an_endless_one_is_refused():
    line = Image.new("RGB", (65_000, 2), (200, 0, 0))  # its square would take 12 GB
    assert Placement(65_000, 2, 64).move_picture(line, (0, 0, 0)).size == (64, 64)
    with pytest.raises(ItemError, match="too_many_pixels"):
        Placement(5_000_000, 1, 64).move_picture(Image.new("RGB", (5_000_000, 1)), (0, 0, 0))


def test_a_square_picture_is_not_padded_and_the_padding_has_its_colour():
    wide = Placement(40, 20, 40).move_picture(Image.new("RGB", (40, 20), (9, 9, 9)), (122, 116, 104))
    assert wide.getpixel((20, 0)) == (122, 116, 104)
    assert wide.getpixel((20, 20)) == (9, 9, 9)
    assert Placement(20, 20, 20).offset == (0, 0)


def test_a_smaller_picture_keeps_its_boxes_in_place() -> None:
    shrinking = Shrinking(200, 100, 50)
    assert shrinking.size == (50, 25)
    assert shrinking.move_picture(Image.new("RGB", (200, 100))).size == (50, 25)
    found = ((0.0, 0.0, 200.0, 100.0), (20.0, 40.0, 30.0, 60.0))
    moved = shrinking.move_boxes(Detections(found, (0.5, 0.4), ("a", "b")))
    assert moved.boxes == ((0.0, 0.0, 50.0, 25.0), (5.0, 10.0, 7.5, 15.0))
    assert moved.scores == (0.5, 0.4)
    assert Shrinking(40, 30, 50).size == (40, 30)
    assert Shrinking(1000, 1, 100).size == (100, 1)
