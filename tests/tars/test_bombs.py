"""Tars that are larger than their files: a failure before memory is full."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from pathlib import Path

import pytest

from mgtool.records import Failure
from mgtool.tars import members, samples


def _tar(*given: tuple[str, bytes], **options: object) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", **options) as tar:
        for name, data in given:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def _failure(data: bytes, folder: Path) -> Failure:
    path = folder / "x.tar.gz"
    path.write_bytes(data)
    (found,) = samples.read_samples([str(path)])
    assert isinstance(found, Failure)
    return found


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_a_member_of_zeros(pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "_UNPACKED_BYTES", 1 << 22)
    found = _failure(pack(_tar(("a.jpg", bytes(1 << 25)))), tmp_path)
    assert found.reason == "unreadable"
    assert "packed bytes that unpack to" in found.detail


def test_zeros_behind_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "_UNPACKED_BYTES", 1 << 22)
    assert "after a" in _failure(gzip.compress(_tar(("a.txt", b"hello")) + bytes(1 << 25)), tmp_path).detail


def test_what_packs_well_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(_tar(*((f"{n}.txt", b"the same words " * 50) for n in range(2000)))))
    assert sum(1 for _ in samples.read_samples([str(path)])) == 2000


def test_a_header_that_only_extends_another(tmp_path: Path) -> None:
    data = _tar(("n" * 5_000_000 + ".txt", b"x"), format=tarfile.GNU_FORMAT)
    found = _failure(data, tmp_path)
    assert (found.reason, "extended header" in found.detail) == ("unreadable", True)


def test_members_without_end_of_one_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_MOST_BYTES", 1 << 20)
    path = tmp_path / "x.tar"
    path.write_bytes(_tar(*((f"a.{n}.jpg", bytes(1000)) for n in range(2000)), ("b.txt", b"hello")))
    first, second = samples.read_samples([str(path)])
    assert isinstance(first, Failure)
    assert (first.id, first.reason) == ("a", "bad_record")
    assert not isinstance(second, Failure)
