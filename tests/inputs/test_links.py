"""Links among folders of pictures: each is followed, but not in more ways than anyone walks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from mgtool.boxes import formats
from mgtool.errors import InputError
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


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder with 1,500 others within each other."""
    here = os.open(".", os.O_RDONLY)
    root = tmp_path / "deep"
    root.mkdir()
    os.chdir(root)
    for _ in range(1500):
        Path("a").mkdir()
        os.chdir("a")
    os.fchdir(here)
    yield root
    subprocess.run(["rm", "-rf", str(root)], check=True)  # Python's own recurses
    os.close(here)


def test_folders_within_each_other(deep: Path, mgtool) -> None:
    Image.new("RGB", (4, 4)).save(deep / "b.png")
    failure, picture = folders.files(deep)
    assert isinstance(failure, Failure)
    assert "200 folders lead to it" in failure.detail
    assert isinstance(picture, Path)
    with pytest.raises(InputError, match="more folders within each other"):
        list(formats.entries(str(deep)))
    assert mgtool("detect", deep, "--detector", "tiny", "--workers", 0, "--out", deep.parent / "o", "-q")[0] == 3
    code, _, said = mgtool("pack", "--verify", deep, "-q")
    assert (code, said) == (2, f"error: {deep}: more folders within each other than are read\n")
