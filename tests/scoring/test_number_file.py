"""Numbers on disk come back in their order, by their first bits, and sorted."""

from __future__ import annotations

import numpy as np
import pytest

from mgtool.scoring import number_file
from mgtool.scoring.benchmark import Item
from mgtool.scoring.compact import Names
from mgtool.scoring.item_index import ItemFinder
from mgtool.scoring.number_file import NumberFile, SortedNumbers


@pytest.fixture(params=[100, 1 << 16])
def numbers(request, monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], NumberFile]:
    """As many as take several files' blocks, some of them twice."""
    monkeypatch.setattr(number_file, "MOST_IN_MEMORY", request.param)
    monkeypatch.setattr(number_file, "_ENOUGH", 64)
    drawn = np.random.default_rng(0).integers(0, 1 << 64, 5000, np.uint64, endpoint=False).tolist()
    found = [*drawn, *drawn[:700], 0, (1 << 64) - 1]
    file = NumberFile()
    file.extend(found[:33])
    file.extend(found[33:])
    return found, file


def test_parts(numbers: tuple[list[int], NumberFile]) -> None:
    expected, file = numbers
    assert len(file) == len(expected)
    assert np.concatenate(list(file)).tolist() == expected
    places = []
    for where, some in file.parts:
        assert [expected[place] for place in where] == some.tolist()
        places += where.tolist()
    assert sorted(places) == list(range(len(expected)))


def test_sorted(numbers: tuple[list[int], NumberFile]) -> None:
    expected, file = numbers
    found = SortedNumbers(file)
    assert np.concatenate(list(found)).tolist() == sorted(expected)
    for least in (0, expected[10], expected[10] + 1, (1 << 64) - 1):
        assert list(found.since(least)) == sorted(number for number in expected if number >= least)


def test_names_are_numbered_as_they_appear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_file, "MOST_IN_MEMORY", 100)
    monkeypatch.setattr(number_file, "_ENOUGH", 64)
    drawn = [f"picture {number}" for number in np.random.default_rng(1).integers(0, 900, 3000).tolist()]
    order = {name: number for number, name in enumerate(dict.fromkeys(drawn))}
    names = Names()
    for begin in range(0, 3000, 70):
        names.extend(drawn[begin : begin + 70])
        assert len(names.codes) == min(begin + 70, 3000)
    assert names.codes.tolist() == [order[name] for name in drawn]


@pytest.mark.parametrize("most", [16, 1 << 16])
def test_items_are_found_in_any_order(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_file, "MOST_IN_MEMORY", most)
    items = [Item(id=number) for number in range(1000)]
    finder = ItemFinder(items)
    asked = [*range(500), 7, 8, 9, 999, 0, *np.random.default_rng(2).permutation(1000).tolist()]
    assert [finder.find(str(number)) for number in asked] == [(number, items[number]) for number in asked]
    assert finder.find("1000") is None
    twice = ItemFinder([*items, items[3]])
    assert [twice.find(name) for name in ("3", "4")] == [(1000, items[3]), (4, items[4])]
