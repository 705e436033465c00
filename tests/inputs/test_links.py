"""Links among folders of pictures: each is followed, but not in more ways than anyone walks."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mgtool.inputs import folders
from mgtool.records import Failure


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Twelve folders, of which each has four links to the next: 16 million ways to the last."""
    for number in range(12):
        (tmp_path / f"{number}").mkdir()
        for link in range(4):
            (tmp_path / f"{number}" / f"l{link}").symlink_to(tmp_path / f"{number + 1}")
    (tmp_path / "12").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "12" / "a.png")
    return tmp_path / "0"


def test_many_ways_to_one_folder(tree: Path) -> None:
    found = list(folders.files(tree))
    failures = [one for one in found if isinstance(one, Failure)]
    assert 0 < len(failures) <= 12
    assert "more than 100 ways" in failures[0].detail
    assert 0 < len(found) - len(failures) <= 100


def test_a_few_ways_are_all_walked(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "real" / "a.png")
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / "in" / f"{number}").symlink_to(tmp_path / "real")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    assert [one.name for one in folders.files(tmp_path / "in") if isinstance(one, Path)] == ["a.png"] * 3
