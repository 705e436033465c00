"""Outputs in Azure's blob storage: a real server, by the same way as those in S3."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure_server import CONTAINER, azure_server, variables
from PIL import Image

from mgtool.files.lease import Leases
from mgtool.files.lock import HeldError
from mgtool.files.store import Store
from mgtool.runs.remote_output import refresh, writing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("npm") is None, reason="the server is a package of npm"),
]
PICTURE = Path(__file__).parents[1] / "images" / "coffee.jpg"


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with azure_server() as port:
        yield port


@pytest.fixture
def url(server: int, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    for name, value in variables(server).items():
        monkeypatch.setenv(name, value)
    return f"az://{CONTAINER}/{request.node.name}"


def _files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "run.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _stored(url: str) -> dict[str, bytes]:
    store = Store(url)
    found = {name: store.read(name) for name in store.files() if name != "run.json"}
    return {name: one[0] for name, one in found.items() if one is not None}


def test_detect_and_pack_have_the_bytes_of_a_folder(mgtool, url: str, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with Image.open(PICTURE) as picture:
        for number in range(8):
            picture.crop((number, 0, number + 200, 150)).save(tmp_path / "pictures" / f"{number:02d}.png")
    for command in ("detect", "pack"):
        words = (command, tmp_path / "pictures", "--shard-size", 3)
        assert mgtool(*words, "--out", tmp_path / command, "-q")[0] == 0
        code, out, err = mgtool(*words, "--out", f"{url}/{command}", "--json")
        assert (code, json.loads(out)["out"]) == (0, f"{url}/{command}"), err
        assert _stored(f"{url}/{command}") == _files(tmp_path / command)
        assert mgtool(*words, "--out", f"{url}/{command}", "-q")[0] == 0


def test_one_writer(url: str) -> None:
    leases = Leases(Store(url), "")
    with leases.hold("00000-of-00002"), leases.hold("00001-of-00002"), pytest.raises(HeldError), leases.hold(""):
        pass
    assert Store(url).files() == {}


def test_what_was_put_is_not_fetched_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with writing(url) as folder:
        monkeypatch.setattr(Store, "fetch", lambda *_: pytest.fail("it is here"))
        (folder / "boxes.jsonl").write_bytes(b"one\n")
        refresh(folder)
        assert (folder / "boxes.jsonl").read_bytes() == b"one\n"
