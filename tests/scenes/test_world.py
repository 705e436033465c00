"""Scenes: the same from the same number, with boxes that are exact, and backgrounds that tell the sets apart."""

from __future__ import annotations

from collections import Counter

import backgrounds
import numpy as np
import pytest
from PIL import Image
from sprites import SIDES, STYLES, names, plural, sprite
from world import MOST_COPIES, OVERLAP, SIGN, SIZE, SIZES, SMALL, SPLITS, TILE, arrange, draw


def test_a_number_gives_one_scene() -> None:
    first, again = arrange("val", 7), arrange("val", 7)
    assert first.things == again.things
    assert draw(first).tobytes() == draw(again).tobytes()
    assert draw(first).size == (SIZE, SIZE)


@pytest.mark.parametrize("split", SPLITS)
def test_sets_are_of_different_scenes(split: str) -> None:
    others = [arrange(other, 3).things for other in SPLITS if other != split]
    assert arrange(split, 3).things not in others


@pytest.mark.parametrize("split", ["train", "test-b"])
def test_boxes_are_those_of_what_is_drawn(split: str) -> None:
    """A thing drawn alone is opaque right up to its box, and nowhere beyond it."""
    scene = arrange(split, 11)
    sheets = []
    for patch, corner in scene.patches:
        sheet = Image.new("L", (SIZE, SIZE))
        sheet.paste(patch.getchannel("A"), corner)
        sheets.append(np.asarray(sheet) >= 128)
    found = set()
    for sheet in sheets:
        rows, columns = np.flatnonzero(sheet.any(axis=1)), np.flatnonzero(sheet.any(axis=0))
        found.add((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    assert {thing.box for thing in scene.things} <= found


def test_objects_are_of_very_different_sizes_and_hardly_overlap() -> None:
    scenes = [arrange("train", number) for number in range(200)]
    things = [thing for scene in scenes for thing in scene.things]
    numbers = {len(scene.things) for scene in scenes}
    assert min(numbers) >= 3
    assert max(numbers) <= 20
    assert max(numbers) - min(numbers) >= 12
    sizes = [thing.size for thing in things]
    assert min(sizes) <= SIZES[1]
    assert max(sizes) >= SIZES[-3]
    assert 0.4 < np.mean([size < SMALL for size in sizes]) < 0.7
    assert all(0 <= x0 < x1 <= SIZE and 0 <= y0 < y1 <= SIZE for x0, y0, x1, y1 in (thing.box for thing in things))
    for scene in scenes:
        boxes = [thing.box for thing in scene.things]
        for place, one in enumerate(boxes):
            assert all(_shared(one, other) <= OVERLAP * TILE**4 for other in boxes[:place])


def _shared(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """The overlap as a share of the square of the smaller one's longer side."""
    width = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    smaller = min(max(box[2] - box[0], box[3] - box[1]) for box in (one, other))
    return width * height / smaller**2


def test_only_the_counted_name_is_there_several_times_and_every_number_is_as_likely() -> None:
    scenes = [arrange("train", number) for number in range(1500)]
    for scene in scenes:
        counts = Counter(thing.name for thing in scene.things)
        assert all(count == 1 for name, count in counts.items() if name != scene.counted)
    numbers = Counter(sum(thing.name == scene.counted for thing in scene.things) for scene in scenes)
    assert set(numbers) == set(range(1, MOST_COPIES + 1))
    spread = (len(scenes) / MOST_COPIES) ** 0.5
    assert all(abs(count - len(scenes) / MOST_COPIES) < 4 * spread for count in numbers.values())


def test_backgrounds_of_tests_are_never_trained_on() -> None:
    assert not set(backgrounds._SEEN) & set(backgrounds._UNSEEN)
    assert not set(backgrounds._SEEN_PHOTOS) & set(backgrounds._UNSEEN_PHOTOS)
    assert {name: kind.unseen for name, kind in SPLITS.items()} == {
        "train": False, "val": False, "test": True, "test-b": True,
    }  # fmt: skip
    assert SPLITS["test-b"].style not in {SPLITS["train"].style, SPLITS["val"].style}


@pytest.mark.parametrize("style", STYLES)
def test_the_shipped_pack_holds_every_name(style: str) -> None:
    assert len(names()) >= 100
    assert SIGN not in names()
    assert len({plural(name) for name in names()} | set(names())) == 2 * len(names())
    pictures = {name: sprite(style, name, SIDES[style], flipped=False) for name in names()}
    assert all(max(picture.size) == SIDES[style] for picture in pictures.values())
    opaque = [np.mean(np.asarray(picture.getchannel("A")) > 128) for picture in pictures.values()]
    assert min(opaque) > 0.1
    assert len({picture.tobytes() for picture in pictures.values()}) == len(names())
