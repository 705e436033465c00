"""`mgtool.open_tars` and `mgtool.TarIndex`: the samples that were packed, in order and at random."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import mgtool
from mgtool.errors import InputError, ItemError
from mgtool.inputs import sources
from mgtool.media import reading
from mgtool.records import Failure, Sample
from mgtool.tars.index import totals, write_index
from mgtool.tars.index_file import INDEX_FILE


def bytes_of(samples: list[Sample]) -> list[list[bytes | None]]:
    return [[media.data for media in sample.images] for sample in samples]


def test_what_was_packed_comes_back(given: Path, tars_of_given: Path) -> None:
    packed = list(mgtool.open_tars(tars_of_given))
    before = list(sources.read_samples([str(given / "train.json")], images=str(given / "photos")))
    assert [(s.id, s.turns, s.metadata) for s in packed] == [(s.id, s.turns, s.metadata) for s in before]
    assert bytes_of(packed) == [[reading.read_bytes(media) for media in sample.images] for sample in before]
    assert [media.detections[0].labels for media in packed[5].images] == [("cat",), ()]


def test_every_kind_of_source_gives_the_same(tars_of_given: Path) -> None:
    whole = list(mgtool.open_tars(tars_of_given))
    first = tars_of_given / "shard-000000.tar"
    assert list(mgtool.open_tars(f"{tars_of_given}/shard-{{000000..000002}}.tar")) == whole
    assert list(mgtool.open_tars(f"file://{tars_of_given}")) == whole
    assert list(mgtool.open_tars(sorted(tars_of_given.glob("*.tar")))) == whole
    assert list(mgtool.open_tars("-", stdin=io.BytesIO(first.read_bytes()))) == whole[:4]
    assert list(sources.read_samples([str(tars_of_given)])) == whole


def test_a_broken_tar_raises_or_is_told(tars_of_given: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tars"
    shutil.copytree(tars_of_given, folder)
    os.truncate(folder / "shard-000001.tar", 6000)
    with pytest.raises(InputError, match=r"shard-000001.*truncated"):
        list(mgtool.open_tars(folder))
    told: list[Failure] = []
    kept = list(mgtool.open_tars(folder, on_failure=told.append))
    assert [failure.reason for failure in told] == ["truncated"]
    assert {sample.id for sample in kept} >= {0, 1, 2, 3, 8, 9, 10}


def test_the_index_says_where_each_sample_lies(tars_of_given: Path) -> None:
    assert (tars_of_given / INDEX_FILE).is_file()
    index, whole = mgtool.TarIndex.of(tars_of_given), list(mgtool.open_tars(tars_of_given))
    assert len(index) == len(whole) == 11
    assert [index[at] for at in (10, 0, -1, 5)] == [whole[at] for at in (10, 0, -1, 5)]
    assert index[2:4] == whole[2:4]
    assert index.sample(7) == index.sample("7") == whole[7]
    entry = index.entry(5)
    assert entry[:3] == ("5", "000000005", "shard-000001.tar")
    assert (entry.width, entry.height, entry.boxes) == (64, 48, 1)
    assert index.entry(8).width == 0
    assert totals(tars_of_given / INDEX_FILE) == {
        "samples": 11,
        "with_pictures": 10,
        "boxes": sum(n % 4 for n in range(11) if n != 8),
    }
    with pytest.raises(ItemError, match="unknown_id"):
        index.sample("nobody")
    with pytest.raises(IndexError):
        index[11]


def test_an_index_is_made_where_there_is_none_or_an_old_one(tars_of_given: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tars"
    shutil.copytree(tars_of_given, folder)
    stored = mgtool.TarIndex.of(folder)
    (folder / "shard-000002.tar").unlink()
    assert len(mgtool.TarIndex.of(folder)) == 8
    (folder / INDEX_FILE).unlink()
    assert [mgtool.TarIndex.of(folder).entry(at) for at in range(8)] == [stored.entry(at) for at in range(8)]
    path = write_index(folder, [str(tar) for tar in sorted(folder.glob("*.tar"))])
    before = path.stat().st_mtime_ns
    assert write_index(folder, [str(tar) for tar in sorted(folder.glob("*.tar"))]).stat().st_mtime_ns == before
    assert pickle.loads(pickle.dumps(stored))[0] == stored[0]


def test_tars_of_several_folders_are_told_apart(given: Path, tmp_path: Path) -> None:
    """`pack` gives the tars of every folder the same names; here they have the same sizes, too."""
    records = json.loads((given / "train.json").read_text())
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, answer in zip(folders, ("Yes.", "No.."), strict=True):
        for record in records:
            record["conversations"][1]["value"] = answer
        (tmp_path / "x.json").write_text(json.dumps(records))
        pack = [sys.executable, "-m", "mgtool.commands.main", "pack", str(tmp_path / "x.json"), "--shard-size", "4"]
        subprocess.run([*pack, "--images", str(given / "photos"), "--out", str(folder), "-q"], check=True)
    for some in (folders, folders[::-1], [folders[1] / "shard-000001.tar", folders[0]]):
        assert list(mgtool.TarIndex.of(some)) == list(mgtool.open_tars(some))
    tars = [folders[0] / f"shard-00000{number}.tar" for number in (2, 0, 0)]
    assert list(mgtool.TarIndex.of(tars)) == list(mgtool.open_tars(tars))


def test_an_index_does_not_outlive_its_tars(given: Path, tmp_path: Path) -> None:
    """The tars of another order have the same names and sizes, and an index of their own."""
    command = [sys.executable, "-m", "mgtool.commands.main", "pack", str(given / "train.json"), "--overwrite", "-q"]
    options = ["--images", str(given / "photos"), "--out", str(tmp_path / "o"), "--shard-size", "20"]
    for seed in ("1", "2"):
        subprocess.run([*command, *options, "--shuffle", seed], check=True)
        index = mgtool.TarIndex.of(tmp_path / "o")
        assert list(index) == list(mgtool.open_tars(tmp_path / "o"))
        assert index.sample(3).id == 3


def test_an_index_that_does_not_fit_is_said(tars_of_given: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tars_of_given, tmp_path / "tars"))
    path = folder / "shard-000000.tar"
    with tarfile.open(path) as tar:
        members = [(info, tar.extractfile(info).read()) for info in tar]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for info, data in members:
            info.name = info.name.replace("000000001.", "100000001.")
            tar.addfile(info, io.BytesIO(data))
    index = mgtool.TarIndex.of(folder)
    assert index[0].id == 0
    with pytest.raises(ItemError, match=r"100000001 where samples\.parquet has 000000001"):
        index[1]


def test_compressed_tars_are_refused_for_random_access(tars_of_given: Path, tmp_path: Path) -> None:
    packed = tmp_path / "x.tar.gz"
    packed.write_bytes(gzip.compress((tars_of_given / "shard-000000.tar").read_bytes()))
    assert len(list(mgtool.open_tars(packed))) == 4
    with pytest.raises(InputError, match="compressed"):
        mgtool.TarIndex.of(packed)


def test_importing_mgtool_stays_light() -> None:
    code = (
        "import sys, mgtool; assert not {'torch', 'numpy', 'pyarrow', 'msgspec'} & set(sys.modules); mgtool.open_tars"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(getattr(mgtool, name) for name in mgtool.__all__)
    with pytest.raises(AttributeError, match="no attribute"):
        mgtool.nothing  # noqa: B018 - the access is what is tested
