"""Conditions on samples: what they can say, and that nothing else can be reached by them."""

from __future__ import annotations

import pytest

from mgtool.errors import ItemError, UsageError
from mgtool.packing.conditions import Condition

FACTS = {
    "id": 7,
    "image": "a.jpg",
    "width": 400,
    "height": 300,
    "bytes": 9000,
    "pictures": 1,
    "boxes": 2,
    "labels": ("cat", "dog"),
    "turns": 2,
    "video": False,
    "metadata": {"source": "coco", "score": 0.5},
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("width >= 336 and boxes > 0", True),
        ("width * height < 100_000", False),
        ("300 <= width <= 500 or video", True),
        ("'cat' in labels and 'bird' not in labels", True),
        ("metadata['source'] == 'coco' and metadata['score'] > 0.4", True),
        ("not video and -boxes == -2 and bytes / width > 20", True),
        ("id % 2 == 0", False),
    ],
)
def test_conditions(text: str, holds: bool) -> None:
    assert Condition(text).holds(FACTS) is holds


@pytest.mark.parametrize(
    "text",
    [
        "9 ** 9 ** 9",
        "1 << 99999999",
        "image.__class__",
        "image.format",
        "open('x')",
        "__import__('os')",
        "[x for x in labels]",
        "(lambda: 1)()",
        "f'{width}'",
        "unknown > 1",
        "width >",
        "width; height",
        "w := 1",
        "",
        "(" * 500,
        "width > " + "1" * 2000,
    ],
)
def test_everything_else_is_refused_at_once(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Condition(text)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "metadata['none'] == 1",
        "width > image",
        "1 / (boxes - 2) > 0",
        "image * 99999999 == ''",
        "image % width",
        "-" * 900 + "1",
    ],
)
def test_what_cannot_be_asked_of_a_sample_is_its_failure(text: str) -> None:
    with pytest.raises(ItemError) as caught:
        Condition(text).holds(FACTS)
    assert caught.value.reason == "bad_record"
