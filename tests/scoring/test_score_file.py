"""What metrics need of scores on disk is what they would be of a list."""

from __future__ import annotations

import random

import numpy as np
import pytest

from mgtool.records import Score
from mgtool.scoring import item_index
from mgtool.scoring.benchmark import Item, by_field, mean_score
from mgtool.scoring.item_index import ItemIndex
from mgtool.scoring.score_file import ScoreFile, groups_of, has_field, kept_scores, numbers_in, together, where

COUNT = 3000


@pytest.fixture(scope="module", params=["few", "many"])
def both(request) -> tuple[list[Score], ScoreFile]:
    """Scores of which few, or many, numbers differ."""
    draw = random.Random(1)
    scores = [
        Score(
            question_id=number,
            prediction="a",
            extracted=None,
            target="b",
            score=draw.choice([0.0, 0.3, 1.0]) if request.param == "few" else draw.random(),
            group=f"picture {draw.randrange(700)}",
            fields={"kind": draw.choice(["x", "y", ["x", "z"], None]), "weight": number / 7},
        )
        for number in range(COUNT)
    ]
    file = kept_scores(iter(scores), ["kind"], most=100)
    assert isinstance(file, ScoreFile)
    return scores, file


def test_parts_and_means(both) -> None:
    scores, file = both
    expected, found = by_field(scores, "kind"), by_field(file, "kind")
    assert list(found) == list(expected) == ["x", "y", "z"]
    for value in expected:
        assert list(found[value]) == expected[value]
        assert mean_score(found[value]).estimate() == mean_score(expected[value]).estimate()
    assert mean_score(file).estimate() == mean_score(scores).estimate()


def test_parts_of_parts(both) -> None:
    scores, file = both
    expected, found = (where(each, lambda score: score.score > 0.2) for each in (scores, file))
    assert list(found) == list(expected)
    assert found[5:900:7] == expected[5:900:7]
    assert found[-1] == expected[-1]
    assert np.array_equal(numbers_in(found, "weight"), numbers_in(expected, "weight"))
    for value, part in by_field(expected, "kind").items():
        assert list(by_field(found, "kind")[value]) == part
    assert has_field(found, "kind")
    assert not has_field(found, "other")


def test_parts_behind_each_other(both) -> None:
    scores, file = both
    expected, found = (together([by_field(each, "kind")[value] for value in "zx"]) for each in (scores, file))
    assert list(found) == list(expected)
    assert groups_of(found).tolist() == groups_of(expected).tolist()
    assert list(together([file, found])) == [*scores, *expected]


def test_one_that_is_rare_is_read_alone(both) -> None:
    scores, file = both
    rare = where(file, lambda score: score.question_id % 997 == 0)
    assert list(rare) == scores[::997]


def test_names_find_their_items() -> None:
    items = [Item(id=number) for number in range(500)]
    index = ItemIndex(items, lambda item: (str(item.id), f"also {item.id}"))
    assert index.is_unique
    assert [index.find(f"also {number}") for number in (0, 499, 500)] == [0, 499, None]
    twice = ItemIndex([*items, items[3]])
    assert not twice.is_unique
    assert twice.find("3") == 500  # of several the last


def test_names_whose_hashes_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_index, "hash", lambda name: -1, raising=False)
    index = ItemIndex([Item(id=number) for number in range(50)])
    assert index.is_unique
    assert [index.find(str(number)) for number in (0, 7, 49, 50)] == [0, 7, 49, None]
