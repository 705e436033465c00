"""Word lists: those that ship are the data sets' own, the others are read from files and options."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from mgtool.detectors import mmdetection, vocabulary
from mgtool.errors import UsageError


def _made_anew() -> dict[str, tuple[str, ...]]:
    """The lists as an installed MMDetection gives them, changed as the folder's README says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mmdetection.import_mmdet()
        from mmdet.datasets import CocoDataset, LVISV1Dataset, Objects365V2Dataset
        from mmdet.evaluation import get_classes
    return {
        "coco": tuple(CocoDataset.METAINFO["classes"]),
        "lvis": tuple(name.replace("_", " ") for name in LVISV1Dataset.METAINFO["classes"]),
        "objects365": tuple(name.lower().strip() for name in Objects365V2Dataset.METAINFO["classes"]),
        "openimages": tuple(name.lower() for name in get_classes("oid_v6")),
    }


def test_the_lists_that_ship_are_the_data_sets_own() -> None:
    assert {name: vocabulary.shipped(name) for name in vocabulary.SHIPPED} == _made_anew()


@pytest.mark.parametrize(("name", "count"), [("coco", 80), ("lvis", 1203), ("objects365", 365), ("openimages", 601)])
def test_a_list_that_ships_is_read_whole_by_its_name(name: str, count: int) -> None:
    words = vocabulary.read(name)
    assert len(words) == count
    assert all(word == word.strip() for word in words)


def test_a_text_file_and_a_comma_list(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\ufeffred cup\n\n  cat \ncat\n", encoding="utf-8")
    assert vocabulary.read(str(path)) == vocabulary.read("red cup, cat") == ("red cup", "cat")


def test_names_of_lists_have_no_case_and_a_comma_makes_a_word(tmp_path: Path, monkeypatch) -> None:
    assert vocabulary.read("COCO") == vocabulary.shipped("coco")
    assert vocabulary.read("cocoa,") == ("cocoa",)
    monkeypatch.chdir(tmp_path)
    Path("openimages.txt").write_text("cup\n")
    assert vocabulary.read("openimages.txt") == ("cup",)


def test_mistakes_are_one_line_that_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"`keep` , : no words; give coco, lvis, objects365, openimages, a text file"):
        vocabulary.read(", ", option="keep")
    with pytest.raises(UsageError, match=r"`vocabulary` objects-365: did you mean objects365\? .*: objects-365,"):
        vocabulary.read("objects-365")
    with pytest.raises(UsageError, match=r"`vocabulary` .*none\.txt: cannot be read"):
        vocabulary.read(str(tmp_path / "none.txt"))
