"""Which boxes are kept."""

from __future__ import annotations

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from mgtool.boxes.filters import Filters
from mgtool.errors import ItemError, UsageError
from mgtool.records import Detections

FOUND = Detections(
    ((0.0, 0.0, 10.0, 10.0), (0.5, 0.0, 10.0, 10.0), (-3.7, 2.0, 5.9, 4.5), (0.0, 0.0, 9.0, 10.0)),
    (0.9, 0.8, 0.7, 0.6),
    ("Cat", "Dog", "cup", "Cat"),
    ("cat", "dog"),
)


def _labels(rules: Filters) -> list[tuple[str, float]]:
    kept = rules(FOUND)
    assert kept.tags == FOUND.tags
    assert [FOUND.boxes[FOUND.scores.index(score)] for score in kept.scores] == list(kept.boxes) or rules.round
    return list(zip(kept.labels, kept.scores, strict=True))


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        (Filters(), [("Cat", 0.9), ("Dog", 0.8), ("cup", 0.7), ("Cat", 0.6)]),
        (Filters(keep=("cat", "cup")), [("Cat", 0.9), ("cup", 0.7), ("Cat", 0.6)]),
        (Filters(keep=()), []),
        (Filters(drop=("CAT",)), [("Dog", 0.8), ("cup", 0.7)]),
        (Filters(keep=("cat", "cup"), drop=("cat",)), [("cup", 0.7)]),
        (Filters(threshold=0.7), [("Cat", 0.9), ("Dog", 0.8), ("cup", 0.7)]),
        (Filters(min_size=2.5), [("Cat", 0.9), ("Dog", 0.8), ("cup", 0.7), ("Cat", 0.6)]),
        (Filters(min_size=2.6), [("Cat", 0.9), ("Dog", 0.8), ("Cat", 0.6)]),
        (Filters(min_size=9.5), [("Cat", 0.9), ("Dog", 0.8)]),
        (Filters(nms=0.5), [("Cat", 0.9), ("Dog", 0.8), ("cup", 0.7)]),
        (Filters(nms=0.95), [("Cat", 0.9), ("Dog", 0.8), ("cup", 0.7), ("Cat", 0.6)]),
        (Filters(max_boxes=2), [("Cat", 0.9), ("Dog", 0.8)]),
        (Filters(max_boxes=0), []),
        (Filters(nms=0.5, drop=("dog",), max_boxes=2), [("Cat", 0.9), ("cup", 0.7)]),
    ],
)
def test_each_rule(rules: Filters, kept: list[tuple[str, float]]) -> None:
    assert _labels(rules) == kept


def test_whole_pixels_are_towards_zero() -> None:
    boxes = Filters(round=True)(FOUND).boxes
    assert boxes == ((0, 0, 10, 10), (0, 0, 10, 10), (-3, 2, 5, 4), (0, 0, 9, 10))


coordinate = st.integers(0, 30)
box = st.tuples(coordinate, coordinate, coordinate, coordinate).map(
    lambda c: tuple(float(v) for v in (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])))
)
objects = st.lists(st.tuples(box, st.sampled_from([0.1, 0.25, 0.5, 0.9]), st.sampled_from("abc")), max_size=20)


@settings(deadline=None, max_examples=100)
@given(objects, st.integers(0, 12), st.integers(0, 5))
def test_all_rules_together_are_torchvision_s_one_after_the_other(items: list, side: int, most: int) -> None:
    items = sorted(items, key=lambda item: -item[1])
    found = Detections(*zip(*items, strict=True)) if items else Detections()
    left = [(b, s, n) for b, s, n in items if n != "c" and min(b[2] - b[0], b[3] - b[1]) >= side]
    boxes = torch.tensor([b for b, _, _ in left]).reshape(-1, 4)
    names = torch.tensor([ord(n) for _, _, n in left], dtype=torch.int64)
    rows = torchvision.ops.batched_nms(boxes, torch.tensor([s for _, s, _ in left]), names, 0.4).tolist()
    expected = [left[row] for row in rows][:most]
    kept = Filters(drop=("c",), min_size=side, nms=0.4, max_boxes=most)(found)
    assert list(zip(kept.boxes, kept.scores, kept.labels, strict=True)) == expected


def test_the_identity_names_the_rules_that_are_set() -> None:
    assert Filters().identity == ""
    assert Filters(drop=("cat",), max_boxes=3).identity == "drop=('cat',) max_boxes=3"


@pytest.mark.parametrize(
    ("rules", "message"),
    [({"min_size": -1}, "`min_size` -1"), ({"nms": 2.0}, "`nms` 2"), ({"max_boxes": -1}, "`max_boxes` -1")],
)
def test_mistakes_are_one_line(rules: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Filters(**rules)


@pytest.mark.parametrize(
    ("box", "score"),
    [((0.0, float("nan"), 1.0, 1.0), 0.5), ((0, 0, 1, float("inf")), 0.5), ((0, 0, 1, 1), float("nan"))],
)
def test_what_is_not_finite_is_an_error(box: tuple[float, ...], score: float) -> None:
    with pytest.raises(ItemError, match="bad_boxes"):
        Filters()(Detections((box,), (score,), ("cat",)))
