"""What identifies inputs behind URLs: what their servers tell of the content."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest
from PIL import Image
from served import served

from mgtool.errors import InputError
from mgtool.files import urls
from mgtool.inputs.fingerprints import fingerprint


@pytest.fixture
def store():
    """A store in memory."""
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.rm("/", recursive=True)


def test_a_file_by_its_time_or_size(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("0.png\n1.png\n")
    with served(tmp_path) as server:
        url = f"{server.url}/list.txt"
        first = fingerprint(url)
        assert fingerprint(f"{url}?token=secret") == first
        assert first.startswith("list.txt sha256:")
        before = file.stat().st_mtime_ns
        file.write_text("0.png\n2.png\n")
        os.utime(file, ns=(before + 10**9, before + 10**9))
        assert fingerprint(url) != first
        assert set(server.sent.values()) <= {0}


def test_a_folder_by_its_listing(store) -> None:
    for name in ("a.png", "b.png"):
        store.pipe_file(f"/pictures/{name}", b"x")
    first = fingerprint("memory://pictures")
    assert fingerprint("memory://pictures/") == first
    store.pipe_file("/pictures/c.png", b"x")
    assert fingerprint("memory://pictures") != first


def test_every_tar_of_a_pattern_counts(store) -> None:
    for name in ("x-0.tar", "x-1.tar"):
        store.pipe_file(f"/{name}", b"x")
    first = fingerprint("memory://x-{0..1}.tar")
    assert fingerprint("memory://x-{0..1}.tar") == first
    store.pipe_file("/x-1.tar", b"other")
    assert fingerprint("memory://x-{0..1}.tar") != first


def test_what_is_not_there_is_known_by_its_name() -> None:
    assert fingerprint("memory://nothing/here.png") == "memory://nothing/here.png"


def test_a_server_that_is_away_is_no_other_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "PATIENCE_S", 0.0)
    monkeypatch.setattr(urls, "FIRST_WAIT_S", 0.01)
    (tmp_path / "list.txt").write_text("0.png\n")
    with served(tmp_path) as server:
        server.away = {"list.txt"}
        with pytest.raises(InputError, match=r"list\.txt: cannot be reached"):
            fingerprint(f"{server.url}/list.txt")


def test_a_list_that_grew_is_named(mgtool, tmp_path: Path) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (20 + number, 16)).save(folder / f"{number}.png")
    (folder / "list.txt").write_text("0.png\n1.png\n")
    with served(folder) as server:
        words = ["detect", f"{server.url}/list.txt", "--workers", 0, "-q", "--out", tmp_path / "o"]
        assert mgtool(*words)[0] == 0
        assert mgtool(*words)[0] == 0
        (folder / "list.txt").write_text("0.png\n1.png\n2.png\n")
        code, _, said = mgtool(*words)
    assert (code, said.count("\n"), "inputs" in said) == (2, 1, True), said
