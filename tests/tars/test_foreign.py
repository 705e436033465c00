"""Tars as others write them: every part is kept or counted, odd members cost only themselves."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mgtool.inputs import sources
from mgtool.records import Failure, LeftOut, Sample
from mgtool.tars.index import TarIndex
from tests.support.nasty import encode, photo

PICTURE = encode(photo(), "JPEG")


def write(path: Path, members: Sequence[tuple[str, bytes]], kinds: Any = (), format: int = tarfile.USTAR_FORMAT) -> str:
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(data), dict(kinds).get(name, tarfile.REGTYPE)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def read(given: str) -> tuple[list[Any], dict[str, Any]]:
    left_out = LeftOut()
    return list(sources.read_samples([given], left_out=left_out)), left_out.summary()


def test_labels_and_texts_are_kept_and_the_rest_is_counted(tmp_path: Path) -> None:
    members = [("README", b"x"), ("0.cls", b"7"), ("0.jfif", PICTURE), ("0.outputs.txt", b"a cat"), ("0.pyd", b"\0")]
    [sample], left_out = read(write(tmp_path / "x.tar", members))
    assert [media.name for media in sample.images] == ["0.jfif"]
    assert sample.metadata == {"cls": 7, "outputs.txt": "a cat"}
    assert left_out == {
        "members of tars without an ending": {"count": 1, "examples": ["README"]},
        ".pyd members of tars": {"count": 1, "examples": ["0.pyd"]},
    }


def test_a_picture_is_known_by_its_bytes(tmp_path: Path) -> None:
    [sample], left_out = read(write(tmp_path / "x.tar", [("0.photo", PICTURE)]))
    assert len(sample.images) == 1
    assert not left_out


def test_a_part_that_comes_twice_is_not_lost(tmp_path: Path) -> None:
    found, _ = read(write(tmp_path / "x.tar", [("0.jpg", PICTURE), ("0.txt", b"x"), ("0.jpg", PICTURE + b"1")]))
    assert [sample.images[0].data for sample in found] == [PICTURE, PICTURE + b"1"]


@pytest.mark.parametrize(
    ("text", "metadata"),
    [
        (b'{"a": NaN, "b": [Infinity]}', {"a": None, "b": [None]}),
        (b'{"a": "\\ud83d"}', {"a": "\\ud83d"}),
        (b"[1]", {"json": [1]}),
        (b'"x"', {"json": "x"}),
        (b"{no", {"json": "{no"}),
        (b'{"conversations": 5}', {"conversations": 5}),
    ],
)
def test_json_beside_a_picture_never_costs_the_picture(tmp_path: Path, text: bytes, metadata: Any) -> None:
    [sample], _ = read(write(tmp_path / "x.tar", [("0.jpg", PICTURE), ("0.json", text)]))
    assert isinstance(sample, Sample), sample
    assert sample.images[0].data == PICTURE
    assert sample.metadata == metadata


@pytest.mark.parametrize("kind", [b"V", b"D", b"M", b"Z"])
def test_a_member_of_another_type_ends_nothing(tmp_path: Path, kind: bytes) -> None:
    members = [("0.jpg", PICTURE), ("odd", b""), ("1.jpg", PICTURE)]
    found, _ = read(write(tmp_path / "x.tar", members, {"odd": kind}))
    assert [sample.id for sample in found] == ["0", "1"]


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_a_sparse_member_is_a_failure_of_its_sample_alone(tmp_path: Path, form: str) -> None:
    members = [("0.jpg", PICTURE), ("1.jpg", b"x" * 600), ("2.jpg", PICTURE)]
    path = tmp_path / "x.tar"
    if form == "gnu":
        write(path, members, {"1.jpg": b"S"})
    else:
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, data in members:
                info = tarfile.TarInfo("GNUSparseFile.1/x" if name == "1.jpg" else name)
                info.size = len(data)
                info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.name": name} if name == "1.jpg" else {}
                tar.addfile(info, io.BytesIO(data))
    first, sparse, last = read(str(path))[0]
    assert isinstance(sparse, Failure)
    assert (first.id, sparse.id, sparse.reason, last.id) == ("0", "1", "unsupported", "2")


def test_a_tar_of_before_posix_and_a_compressed_one(tmp_path: Path) -> None:
    given = write(tmp_path / "x.tar", [("0.jpg", PICTURE)])
    data = bytearray(Path(given).read_bytes())
    data[257:265] = bytes(8)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    Path(given).write_bytes(data)
    assert len(TarIndex.of(given)) == len(read(given)[0]) == 1
    (tmp_path / "z.tar").write_bytes(b"\x28\xb5\x2f\xfd" + PICTURE)
    [failure] = read(str(tmp_path / "z.tar"))[0]
    assert (failure.reason, "compressed with zstd" in failure.detail) == ("unsupported", True)


def test_what_stands_behind_the_end_of_a_tar_is_counted(tmp_path: Path) -> None:
    given = write(tmp_path / "x.tar", [("0.jpg", PICTURE)])
    Path(given).write_bytes(2 * Path(given).read_bytes())
    found, left_out = read(given)
    assert (len(found), left_out["bytes behind the end of a tar"]["count"]) == (1, 1)
