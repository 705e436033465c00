"""Boxes of several looks at one picture; expected values are those of the package `sahi` 0.12."""

from __future__ import annotations

import pytest

from mgtool.boxes.filters import Filters
from mgtool.boxes.merging import Merging
from mgtool.boxes.thresholds import LabelThresholds
from mgtool.errors import UsageError
from mgtool.records import Detections

FOUND = Detections(
    boxes=(
        (0, 0, 40, 40),
        (30, 0, 70, 40),
        (32, 2, 60, 38),
        (2, 2, 38, 60),
        (200, 100, 220, 120),
        (198, 98, 260, 180),
        (60, 0, 100, 40),
        (205, 105, 215, 115),
        (35, 5, 65, 35),
    ),
    scores=(0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.4, 0.3, 0.2),
    labels=("cat", "cat", "dog", "cat", "cup", "dog", "cat", "cup", "cat"),
)
CAT, SECOND, DOG, LAST = (
    ("cat", (0, 0, 40, 40)),
    ("cat", (30, 0, 70, 40)),
    ("dog", (32, 2, 60, 38)),
    ("cat", (60, 0, 100, 40)),
)
GROWN, CUP, LARGE = ("cat", (0, 0, 40, 60)), ("cup", (200, 100, 220, 120)), ("dog", (198, 98, 260, 180))


@pytest.mark.parametrize(
    ("merging", "expected"),
    [
        (Merging("greedy", "ios", 0.5), {GROWN, SECOND, DOG, CUP, LARGE, LAST}),
        (Merging("greedy", "ios", 0.5, True), {GROWN, SECOND, ("cup", LARGE[1]), LAST}),
        (Merging("greedy", "iou", 0.2), {GROWN, SECOND, DOG, CUP, LARGE, LAST}),
        (Merging("greedy", "iou", 0.2, True), {GROWN, SECOND, CUP, LARGE, LAST}),
        (Merging("nms", "ios", 0.5), {CAT, SECOND, DOG, CUP, LARGE, LAST}),
        (Merging("nms", "ios", 0.5, True), {CAT, SECOND, LARGE, LAST}),
        (Merging("nms", "iou", 0.2), {CAT, SECOND, DOG, CUP, LARGE, LAST}),
        (Merging("nms", "iou", 0.2, True), {CAT, SECOND, CUP, LARGE, LAST}),
    ],
)
def test_boxes_of_one_object_are_merged_as_sahi_does(merging: Merging, expected: set[object]) -> None:
    found = merging(FOUND)
    assert set(zip(found.labels, found.boxes, strict=True)) == expected
    assert list(found.scores) == sorted(found.scores, reverse=True)
    assert merging(Detections()) == Detections()


@pytest.mark.parametrize("text", ["", "soft", "nms:x", "nms:iou:2", "nms:iou:nan", "nms:iou:0.5:6", "greedy:ios:"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    if text == "greedy:ios:":
        assert Merging.parse(text) == Merging()
    else:
        with pytest.raises(UsageError, match="greedy or nms"):
            Merging.parse(text)


def test_suppression_across_labels() -> None:
    found = Detections(((0, 0, 10, 10), (0, 0, 10, 9), (0, 0, 10, 8)), (0.9, 0.8, 0.7), ("cat", "dog", "cat"))
    assert Filters(nms=0.5)(found).labels == ("cat", "dog")
    assert Filters(nms=0.5, class_agnostic=True)(found).labels == ("cat",)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("0.35", ("cat", "cat", "dog")),
        ("Cat=0.5,dog=0.1", ("cat", "dog", "cup")),
        ("0.3,cat=0.8", ("cat", "dog")),
    ],
)
def test_lowest_scores_by_label(text: str, kept: tuple[str, ...]) -> None:
    found = Detections(((0, 0, 10, 10),) * 4, (0.9, 0.4, 0.38, 0.25), ("cat", "cat", "dog", "cup"))
    rules = Filters(threshold=LabelThresholds.parse(text), own_threshold=0.2)
    assert rules(found).labels == kept


@pytest.mark.parametrize("text", ["cat", "cat=x", "0.1,0.2", "cat=2", "cat=nan", "=,"])
def test_what_is_no_threshold_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="threshold"):
        LabelThresholds.parse(text)
