"""What `pack --verify` looks at and lets others read, and what that costs."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mgtool as library
from mgtool.errors import UsageError
from mgtool.media import images
from mgtool.packing.options import Size
from mgtool.tars import comparison, other_readers, verify
from mgtool.tars.other_readers import Reader
from mgtool.tars.paths import find
from mgtool.tars.samples import read_parts
from mgtool.tars.verify_options import READERS_READ, SAMPLE_SAMPLES, SAMPLE_TARS


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five tars of 70 samples."""
    folder = tmp_path_factory.mktemp("many")
    Image.new("RGB", (8, 8)).save(folder / "x.jpg")
    lines = (json.dumps({"id": number, "image": "x.jpg", "text": "Q"}) for number in range(350))
    (folder / "x.jsonl").write_text("\n".join(lines))
    options = library.PackOptions(workers=1, shard_size=Size(70))
    library.pack([library.Source(folder / "x.jsonl")], folder / "tars", options)
    return folder / "tars"


def _keys(url: str) -> list[str]:
    with Path(url).open("rb") as file:
        return [raw.key for raw in read_parts(file)]


def test_a_sample_is_cut_from_the_first_the_middle_and_the_last_tar(many: Path) -> None:
    urls = find(many)
    with comparison.sample_of(urls) as chosen:
        assert [Path(url).name for url in chosen] == [Path(urls[number]).name for number in (0, 2, 4)]
        assert len(chosen) == SAMPLE_TARS
        for url in chosen:
            whole = many / Path(url).name
            assert _keys(url) == _keys(str(whole))[:SAMPLE_SAMPLES]
            assert Path(url).read_bytes()[:-1024] == whole.read_bytes()[: Path(url).stat().st_size - 1024]
    assert not any(Path(url).exists() for url in chosen)


def test_a_short_tar_stands_for_itself(tars_of_given: Path) -> None:
    with comparison.sample_of(find(tars_of_given)) as chosen:
        assert chosen == find(tars_of_given)


@pytest.mark.parametrize(("readers", "count"), [("sample", 3 * 64), ("all", 350), ("none", None)])
def test_readers_get_what_is_asked_and_it_is_said(
    readers: Any, count: int | None, many: Path, monkeypatch: pytest.MonkeyPatch, mgtool
) -> None:
    read = []

    def reader(urls: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        for url in urls:
            with Path(url).open("rb") as file:
                for raw in read_parts(file):
                    read.append(raw.key)
                    yield raw.key, dict(raw.parts)

    monkeypatch.setattr(verify, "READERS", {"one": Reader("json", "json", "", reader)})
    code, out, err = mgtool("pack", "--verify", many, "--readers", readers, "--json", "--workers", "1")
    assert code == 0, err
    said = json.loads(out)
    assert said["readers"] == {"one": "not run" if count is None else "agrees"}
    assert (said["readers_read"], len(read)) == (READERS_READ[readers], count or 0)
    assert said["samples"] == 350


def _ending(urls: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    os._exit(7)
    yield


def _loading(urls: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    import calendar  # noqa: F401 - stands for what a program loads

    raise ValueError("calendar" in sys.modules)
    yield


@pytest.mark.parametrize(("read", "says"), [(_ending, "exit code 7"), (_loading, "True")])
def test_a_program_runs_apart(read: Any, says: str, many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Reader("json", "json", "", read)
    monkeypatch.setitem(other_readers.READERS, "webdataset", one)
    monkeypatch.setattr(comparison, "_tell", functools.partial(_tell_of, one))
    monkeypatch.delitem(sys.modules, "calendar", raising=False)
    assert says in dict(comparison.differences(find(many)[:1], {"webdataset": one}))["webdataset"]
    assert "calendar" not in sys.modules


def _tell_of(reader: Reader, connection: Any, urls: Sequence[str], name: str) -> None:
    connection.send(comparison._difference(urls, reader))


def test_pictures_that_are_as_they_were_packed_are_not_decoded(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "READERS", {})
    decoded = []
    decode = images.decode
    monkeypatch.setattr(images, "decode", lambda data, **options: decoded.append(1) or decode(data, **options))
    first = find(many)[:1]
    assert verify.check_tars(first)[:2] == (70, [])
    assert not decoded
    assert verify.check_tars(first, check="decode")[:2] == (70, [])
    assert len(decoded) == 70
    damaged = bytearray(Path(first[0]).read_bytes())
    at = damaged.index(b"\xff\xda") + 14
    damaged[at : at + 4] = b"\xff\xd9\xff\xd9"
    shutil.copytree(many, tmp_path / "t")
    (tmp_path / "t" / Path(first[0]).name).write_bytes(damaged)
    checks = {finding.check for finding in verify.check_tars([str(tmp_path / "t" / Path(first[0]).name)])[1]}
    assert "sidecar" in checks
    assert checks & {"hash", "picture"}


@pytest.mark.parametrize("option", ["check", "readers"])
def test_a_value_of_no_known_form_is_one_line(option: str, many: Path) -> None:
    with pytest.raises(UsageError, match="choose one of"):
        library.verify(many, **{option: "some"})  # type: ignore[arg-type]
