"""A disk without room for what is coming is said before anything is written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import nasty
import pytest

from mgtool.boxes.index import BoxIndex
from mgtool.errors import OutputError
from mgtool.files.space import check_space, size_on_disk
from mgtool.packing.options import Source
from mgtool.stages.pack import pack
from mgtool.stages.unpack import unpack


class Usage(NamedTuple):
    free: int


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        (tmp_path / f"photos/{number}.jpg").write_bytes(nasty.encode(nasty.photo(number), "JPEG"))
    return tmp_path / "photos"


def test_estimates(photos: Path, tmp_path: Path) -> None:
    sizes = [path.stat().st_size for path in photos.iterdir()]
    assert size_on_disk([photos]) == size_on_disk(photos.iterdir()) == sum(sizes)
    assert size_on_disk(["https://a.org/x", tmp_path / "gone", "a\0b"]) == 0
    check_space(tmp_path / "not" / "there", 1, "")
    with pytest.raises(OutputError, match=r"1,000,000,000,000.00 GB do not fit .* free: go"):
        check_space(tmp_path / "not" / "there", 10**21, "go")


def test_what_does_not_fit_is_not_begun(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack([Source([str(photos)])], tmp_path / "tars")
    (tmp_path / "boxes.jsonl").write_text("{}\n")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(2))
    with pytest.raises(OutputError, match="do not fit"):
        pack([Source([str(photos)])], tmp_path / "more")
    assert not list((tmp_path / "more").glob("*.tar"))
    with pytest.raises(OutputError, match="do not fit"):
        unpack(tmp_path / "tars", tmp_path / "unpacked")
    with pytest.raises(OutputError, match="`tmp` names another folder"):
        BoxIndex(str(tmp_path / "boxes.jsonl"))
    assert pack([Source([str(photos)])], tmp_path / "tars").counts["samples"] == 3  # it is there already
