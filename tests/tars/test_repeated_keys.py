"""Keys that come twice are named, with the tar that has them first, in little memory."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from mgtool.tars.repeated_keys import KeyHashes, Repeated, repeated


def hashes(keys: list[str]) -> bytes:
    found = KeyHashes()
    for key in keys:
        found.add(key)
    return found.to_bytes()


def test_each_key_that_came_before_is_named(tmp_path: Path) -> None:
    keys = [["a", "b", "b", "c"], ["d", "b", "a"], [], ["e", "e", "\u00fc", "e", "d"]]
    urls = []
    for number, own in enumerate(keys):
        urls.append(str(tmp_path / f"{number}.tar"))
        with tarfile.open(urls[-1], "w") as tar:
            for at, key in enumerate(own):
                tar.addfile(tarfile.TarInfo(f"{key}.{at}"), io.BytesIO())
    found = list(repeated(urls, [hashes(own) for own in keys]))
    assert found == [Repeated(1, "b", 0), Repeated(1, "a", 0), Repeated(3, "e", 3), Repeated(3, "d", 1)]
    whole = Path(urls[3]).read_bytes()
    Path(urls[3]).write_bytes(whole[: whole.index(b"d.4") + 100])
    assert list(repeated(urls, [hashes(own) for own in keys])) == found[:2]
    assert list(repeated(urls[2:3], [b""])) == list(repeated([], [])) == []


def test_eight_bytes_a_sample() -> None:
    assert len(hashes([f"{number:09}" for number in range(1000)])) == 8000
    found = KeyHashes()
    for key in ("x", "y", "y"):
        found.add(key)
    assert (len(found), found.first, found.last) == (2, "x", "y")
