"""`mgtool pack --verify`: each thing that can be wrong is said, with the sample it is wrong with; nothing else is."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nasty
import numpy as np
import pytest

from mgtool.tars import verify
from mgtool.tars.other_readers import READERS
from mgtool.tars.paths import find

JPEG = nasty.encode(nasty.photo(), "JPEG")


@pytest.fixture(autouse=True)
def no_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers have tests of their own, and some take seconds to start."""
    monkeypatch.setattr(verify, "READERS", {})


@pytest.fixture
def folder(tars_of_given: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tars_of_given, tmp_path / "tars"))


def found(source: Path) -> list[tuple[str, str, str]]:
    return [(one.check, one.tar, one.key) for one in verify.check_tars(find(source))[1]]


def rewrite(tar: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Make a tar again with other members, and remove what describes it."""
    with tarfile.open(tar) as old:
        members = [(info.name, old.extractfile(info).read()) for info in old]
    write(tar, [(name, new) for name, data in members if (new := change(name, data)) is not None])
    tar.with_suffix(".json").unlink()
    (tar.parent / "index.json").unlink()


def write(tar: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(tar, "w") as new:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            new.addfile(info, io.BytesIO(data))
    return tar


def edited(**fields: Any) -> Callable[[str, bytes], bytes]:
    def change(name: str, data: bytes) -> bytes:
        return json.dumps({**json.loads(data), **fields}).encode() if name == "000000002.json" else data

    return change


def replaced(name: str, data: bytes | None) -> Callable[[str, bytes], bytes | None]:
    return lambda found, old: data if found == name else old


def boxes(*rows: tuple[float, ...]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(rows, np.float32).reshape(-1, 4))
    return buffer.getvalue()


def test_good_tars_have_no_findings(folder: Path) -> None:
    assert verify.check_tars(find(folder)) == (11, [], {})
    assert verify.check_tars(find(folder), workers=2) == (11, [], {})


OTHER = nasty.encode(nasty.photo(99), "JPEG")
SMALL = nasty.encode(nasty.photo(2, (32, 24)), "JPEG")


@pytest.mark.parametrize(
    ("change", "checks"),
    [
        (replaced("000000002.jpg", OTHER), ["hash"]),
        (replaced("000000002.jpg", SMALL), ["hash", "hash"]),
        (replaced("000000002.jpg", OTHER[:900]), ["picture"]),
        (replaced("000000002.jpg", b""), ["picture"]),
        (replaced("000000002.jpg", nasty.bomb(30_000, 30_000)), ["picture"]),
        (replaced("000000002.jpg", None), ["parts", "record"]),
        (replaced("000000002.boxes.npy", b"no array"), ["record"]),
        (replaced("000000002.boxes.npy", boxes((0, 0, 66, 9), (0, 0, 1, 1))), ["boxes"]),
        (replaced("000000002.boxes.npy", boxes((9, 0, 3, 9), (0, 0, 1, 1))), ["boxes"]),
        (replaced("000000002.boxes.npy", boxes((0, 0, 64.5, 48), (0, 0, 1, 1))), []),
        (replaced("000000002.boxes.npy", boxes(*[(0, 0, 1, 1)] * 9)), ["record"]),
        (replaced("000000002.json", b"{"), ["json"]),
        (edited(video=None), ["json", "record"]),
        (edited(metadata="[1]"), ["record"]),
        (edited(frame_times=[0]), ["json"]),
        (edited(conversations=[]), ["json"]),
        (edited(more=1), ["json"]),
        (edited(pictures=5), ["record"]),
    ],
)  # fmt: skip
def test_a_bad_sample_is_named(folder: Path, change: Callable[[str, bytes], bytes | None], checks: list[str]) -> None:
    rewrite(folder / "shard-000000.tar", change)
    assert found(folder) == [(check, "shard-000000.tar", "000000002") for check in checks]


def test_a_shard_that_its_descriptions_do_not_fit(folder: Path) -> None:
    tar = folder / "shard-000001.tar"
    data = bytearray(tar.read_bytes())
    data[-1] = 0x20
    tar.write_bytes(data)
    assert found(folder) == [("sidecar", tar.name, ""), ("index", tar.name, "")]


def test_tars_that_are_cut_empty_or_none(folder: Path) -> None:
    os.truncate(folder / "shard-000000.tar", 5000)
    (folder / "shard-000001.tar").write_bytes(b"")
    (folder / "shard-000002.tar").write_bytes(b"no tar" * 1000)
    tars = [finding[1] for finding in found(folder) if finding[0] == "tar"]
    assert tars == ["shard-000000.tar", "shard-000001.tar", "shard-000002.tar"]


def test_keys_that_occur_twice(folder: Path) -> None:
    shutil.copy(folder / "shard-000000.tar", folder / "shard-000009.tar")
    assert found(folder) == [("key", "shard-000009.tar", f"{number:09}") for number in range(4)]
    twice = write(folder.parent / "twice.tar", [("a.jpg", JPEG), ("a.jpg", OTHER), ("b.jpg", JPEG), ("a.jpg", JPEG)])
    assert found(twice) == [("key", "twice.tar", "a"), ("key", "twice.tar", "a")]


def test_hostile_members_are_findings_and_are_not_followed(tmp_path: Path) -> None:
    tar = tmp_path / "x.tar"
    with tarfile.open(tar, "w") as new:
        for name, kind in (("../out.jpg", tarfile.REGTYPE), ("/abs.jpg", tarfile.REGTYPE), ("l.jpg", tarfile.SYMTYPE),
                           ("h.jpg", tarfile.LNKTYPE), ("d.jpg", tarfile.CHRTYPE)):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            info.size = len(JPEG) if kind == tarfile.REGTYPE else 0
            new.addfile(info, io.BytesIO(JPEG) if info.size else None)
    assert [finding[0] for finding in found(tar)] == ["name", "name", "member", "member", "member"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["x.tar"]
    assert not (tmp_path.parent / "out.jpg").exists()


def test_tars_of_other_writers(tmp_path: Path) -> None:
    good = [("d/a.jpg", JPEG), ("d/a.txt", b"a cat"), ("d/b.jpg", JPEG), ("d/b.txt", b"a dog")]
    assert found(write(tmp_path / "good.tar", good)) == []
    mixed = [("a.jpg", JPEG), ("b.png", nasty.encode(nasty.photo(), "PNG"))]
    assert found(write(tmp_path / "mixed.tar", mixed)) == [("parts", "mixed.tar", "b")]
    unsaid = [("a.json", b'{"error": null}'), ("b.json", b'{"error": null}')]  # as img2dataset writes; readers agree
    assert found(write(tmp_path / "unsaid.tar", unsaid)) == []
    said = [("c.json", b'{"error": null}'), ("d.json", b'{"error": "gone"}')]
    assert found(write(tmp_path / "said.tar", said)) == [("json", "said.tar", "d")]
    types = [("a.json", b'{"score": 1.0, "x": "y"}'), ("b.json", b'{"score": 1, "x": "y"}'), ("c.json", b'{"x": null}')]
    assert [one[::2] for one in found(write(tmp_path / "types.tar", types))] == [("json", "b"), ("json", "c")]


def test_differences_between_tars_are_found(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", [("0.jpg", JPEG), ("0.json", b'{"x": 1}')])
    write(tmp_path / "b.tar", [("1.jpg", JPEG), ("1.json", b'{"x": 1.5}')])
    write(tmp_path / "c.tar", [("2.jpg", JPEG)])
    assert found(tmp_path) == [("json", "b.tar", "1"), ("parts", "c.tar", "2")]


def test_many_findings_of_one_kind_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "MOST_FINDINGS", 3)
    tar = write(tmp_path / "x.tar", [(f"{number}.jpg", b"nothing") for number in range(10)])
    _, findings, _ = verify.check_tars(find(tar))
    assert [finding.key for finding in findings] == ["0", "1", "2", ""]
    assert findings[-1].detail == "and 7 more"


def test_what_a_reader_makes_of_the_tars_is_compared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = READERS["webdataset"]

    def short(urls: Any) -> Any:
        return (row for row in real.read(urls[:-1]))

    def changed(urls: Any) -> Any:
        return ((key, {**parts, "jpg": b"other"}) for key, parts in real.read(urls))

    def raising(urls: Any) -> Any:
        raise TypeError("cannot read\nthis")

    readers = {
        name: real._replace(read=read) for name, read in (("short", short), ("changed", changed), ("bad", raising))
    }
    monkeypatch.setattr(verify, "READERS", {**readers, "real": real, "none": real._replace(module="no.such.module")})
    _, findings, outcome = verify.check_tars(find(folder))
    assert outcome == {
        "short": "differs",
        "changed": "differs",
        "bad": "differs",
        "real": "agrees",
        "none": "not installed",
    }
    assert [finding.detail for finding in findings] == [
        "short: reads nothing where 000000008 stands",
        "changed: 000000000: other bytes in jpg",
        "bad: cannot read",
    ]


def run(*args: object, expect: int) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "mgtool.commands.main", "pack", *map(str, args)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == expect, done.stderr.decode()
    return done


def test_the_command(tmp_path: Path) -> None:
    tar = write(tmp_path / "x.tar", [("../a.jpg", JPEG), ("b.jpg", OTHER[:900])])
    text = run("--verify", tar, expect=3).stdout.decode().splitlines()
    assert [line.split(": ")[:3] for line in text] == [["x.tar", "../a", "name"], ["x.tar", "b", "picture"]]
    report = json.loads(run("--verify", tar, "--json", "-q", expect=3).stdout)
    assert (report["samples"], [finding["check"] for finding in report["findings"]]) == (2, ["name", "picture"])
    assert report["readers"]["webdataset"] == "not run"
    run("--verify", tar, "--allow-failures", 2, "-q", expect=0)
    for wrong in (["--verify", tar, "--out", tmp_path / "o"], ["--verify", "-"], ["--verify", tmp_path / "no"], [tar]):
        assert len(run(*wrong, expect=2).stderr.strip().splitlines()) == 1


def test_what_readers_run_together_or_never_reach_is_found(tmp_path: Path) -> None:
    dotted = [(f"img.{number}.{part}", JPEG) for number in range(3) for part in ("jpg", "txt")]
    assert ("key", "a.tar", "img") in found(write(tmp_path / "a.tar", dotted))
    joined = write(tmp_path / "b.tar", [("0.jpg", JPEG)])
    joined.write_bytes(2 * joined.read_bytes())
    assert found(joined) == [("tar", "b.tar", "")]
    twice = write(tmp_path / "c.tar", [("0.jpg", JPEG), ("0.txt", b"x"), ("0.jpg", JPEG)])
    assert ("key", "c.tar", "0") in found(twice)


def test_pictures_of_several_cameras_are_no_finding(tmp_path: Path) -> None:
    members = [(f"{number}.{side}.jpg", JPEG) for number in range(2) for side in ("left", "right")]
    assert found(write(tmp_path / "x.tar", members)) == []


def test_a_reader_that_cannot_start_says_nothing_of_the_tars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def refuse(**options: Any) -> None:
        assert options["address"] == "local"
        raise ConnectionError("no cluster")

    monkeypatch.setattr(ray, "init", refuse)
    here = READERS["ray"]._replace()  # a copy runs in this process
    monkeypatch.setattr(verify, "READERS", {"ray": here})
    _, findings, outcome = verify.check_tars([str(write(tmp_path / "x.tar", [("0.jpg", JPEG)]))])
    assert (findings, outcome) == ([], {"ray": "not run"})
