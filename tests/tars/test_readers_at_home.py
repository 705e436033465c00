"""What other programs' readers do beside reading: nothing is told to a server, nothing is left in a user's caches."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

import mgtool
from mgtool.tars import other_readers

PICTURES = Path(__file__).parents[1] / "images"


def test_datasets_stays_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(datasets.load, "get_session", lambda: asked.append("a server"))
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    mgtool.pack([mgtool.Source(str(PICTURES / "coffee.jpg"))], tmp_path / "tars", mgtool.PackOptions(workers=1))
    with other_readers.quietly():
        rows = list(other_readers.READERS["datasets"].read([str(tmp_path / "tars" / "shard-000000.tar")]))
    assert len(rows) == 1
    assert not asked
    assert not (tmp_path / "cache").exists()
    assert datasets.config.HF_UPDATE_DOWNLOAD_COUNTS
