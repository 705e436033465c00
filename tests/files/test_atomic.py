"""Outputs get to their place whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgtool.errors import OutputError
from mgtool.files.atomic import move_files


def test_files_are_moved_and_the_one_that_counts_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aside, order = tmp_path / ".aside", []
    aside.mkdir()
    for name in ("config.json", "a.json", "model.safetensors"):
        (aside / name).write_text(name)
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, to: order.append(path.name) or replace(path, to))
    move_files(aside, tmp_path, last="config.json")
    assert order[-1] == "config.json"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "config.json", "model.safetensors"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    aside = tmp_path / ".aside"
    aside.mkdir()
    (aside / "config.json").write_text("{}")
    with pytest.raises(OutputError, match="cannot be written"):
        move_files(aside, tmp_path / "nowhere", last="config.json")
    assert (aside / "config.json").exists()
