"""Outputs in an object store: a real S3 server, kills, other machines, and a network that fails."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs
from PIL import Image
from s3_server import BUCKET, bad_proxy, content, environment, listed, s3_server, variables

from mgtool.files.lease import Leases
from mgtool.files.lock import HeldError
from mgtool.files.store import Store
from mgtool.runs.remote_output import writing

PICTURE = Path(__file__).parents[1] / "images" / "coffee.jpg"


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture
def s3(server: int, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A URL of this test's own."""
    for name, value in variables(server).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()  # of tests before, which knew no server
    return f"s3://{BUCKET}/{request.node.name}"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    with Image.open(PICTURE) as picture:
        for number in range(12):
            picture.crop((number, 0, number + 200, 150)).save(folder / f"{number:02d}.png")
    return folder


def _files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "run.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _stored(server: int, url: str) -> dict[str, bytes]:
    prefix = url.removeprefix(f"s3://{BUCKET}/") + "/"
    names = [name.removeprefix(prefix) for name in listed(server) if name.startswith(prefix)]
    assert "run.json" in names
    return {name: content(server, prefix + name) for name in names if name != "run.json"}


def test_detect_into_a_store_has_the_bytes_of_a_folder(mgtool, server: int, s3: str, pictures: Path, tmp_path: Path):
    assert mgtool("detect", pictures, "--out", tmp_path / "boxes", "--shard-size", 5, "-q")[0] == 0
    code, out, err = mgtool("detect", pictures, "--out", s3, "--shard-size", 5, "--json")
    assert code == 0, err
    assert json.loads(out)["out"] == s3
    assert _stored(server, s3) == _files(tmp_path / "boxes")
    code, _, err = mgtool("detect", pictures, "--out", s3, "--shard-size", 5)
    assert (code, "was complete; nothing was left to do" in err) == (0, True)


def test_pack_into_a_store_has_the_bytes_of_a_folder(mgtool, server: int, s3: str, pictures: Path, tmp_path: Path):
    options = ("--shard-size", 5, "-q")
    assert mgtool("pack", pictures, "--out", tmp_path / "tars", *options)[0] == 0
    assert mgtool("pack", pictures, "--out", s3, *options)[0] == 0
    assert _stored(server, s3) == _files(tmp_path / "tars")


def test_pack_appends_to_what_is_in_a_store(mgtool, server: int, s3: str, pictures: Path, tmp_path: Path):
    some = tmp_path / "some"
    shutil.copytree(pictures, some)
    for out in (tmp_path / "tars", s3):
        (some / "11.png").rename(tmp_path / "11.png")
        assert mgtool("pack", some, "--out", out, "--shard-size", 5, "-q")[0] == 0
        (tmp_path / "11.png").rename(some / "11.png")
        code, _, err = mgtool("pack", some, "--out", out, "--shard-size", 5, "--append", "-q")
        assert code == 0, err
    assert _stored(server, s3) == _files(tmp_path / "tars")


def test_answers_and_scores_in_a_store(mgtool, server: int, s3: str, tmp_path: Path):
    questions = tmp_path / "questions.jsonl"
    lines = [{"id": at, "image": PICTURE.name, "question": f"What is number {at}?"} for at in range(6)]
    questions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked = ("infer", questions, "--model", "tiny", "--images", PICTURE.parent, "--max-new-tokens", 4, "-q")
    assert mgtool(*asked, "--out", tmp_path / "here" / "answers.jsonl")[0] == 0
    for rank in (1, 0):
        code, _, err = mgtool(*asked, "--out", f"{s3}/answers.jsonl", "--rank", rank, "--world-size", 2)
        assert code == 0, err
    stored = _stored(server, s3)
    assert stored["answers.jsonl"] == (tmp_path / "here" / "answers.jsonl").read_bytes()
    assert stored["failures.jsonl"] == b""


def test_ranks_share_out_a_detection_into_a_store(mgtool, server: int, s3: str, pictures: Path, tmp_path: Path):
    assert mgtool("detect", pictures, "--out", tmp_path / "boxes", "-q")[0] == 0
    for rank in (2, 0, 1):
        code, _, err = mgtool("detect", pictures, "--out", s3, "--rank", rank, "--world-size", 3, "-q")
        assert code == 0, err
    assert _stored(server, s3) == _files(tmp_path / "boxes")


def test_a_killed_run_goes_on_from_what_the_store_has(server: int, s3: str, pictures: Path, tmp_path: Path, mgtool):
    url = f"{s3}/boxes"
    words = ["detect", pictures, "--out", url, "--shard-size", 2, "--workers", 0, "--batch-size", 1, "--tmp", tmp_path]
    command = [sys.executable, "-m", "mgtool.commands.main", *map(str, words)]
    with subprocess.Popen(command, env=environment(server), stderr=subprocess.PIPE) as run:
        for _ in range(600):
            if any("jsonl" in name for name in listed(server) if s3.rpartition("/")[2] in name):
                break
            time.sleep(0.05)
        run.send_signal(signal.SIGKILL)
    assert mgtool(*words, "-q")[0] == 0
    assert mgtool("detect", pictures, "--out", tmp_path / "boxes", "--shard-size", 2, "-q")[0] == 0
    assert _stored(server, url) == _files(tmp_path / "boxes")
    assert not list(tmp_path.glob(f"mgtool-*-{run.pid}-*"))


def test_one_writer_a_store(mgtool, server: int, s3: str, pictures: Path):
    leases = Leases(Store(s3), "")
    other = json.dumps({"host": "node7", "pid": 4, "start": "1", "since": "2026-01-02 03:04:05"}).encode()
    Store(s3).put(leases.name(""), other)
    began = time.monotonic()
    with pytest.raises(HeldError), _beating(Store(s3), leases.name(""), other), writing(s3):
        pass
    assert time.monotonic() - began < 30
    with leases.hold("00000-of-00002"), leases.hold("00001-of-00002"), pytest.raises(HeldError), leases.hold(""):
        pass
    assert [name for name in listed(server) if name.endswith(".mgtool.lock") and "one_writer" in name] == []


@contextlib.contextmanager
def _beating(store: Store, name: str, content: bytes) -> Iterator[None]:
    """Somebody elsewhere who is alive: a lease whose content changes."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.2):
            store.put(name, content + b" " * random.randint(1, 9))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        store.remove([name])


def test_a_network_that_fails_costs_nothing(mgtool, server, s3, pictures, tmp_path, monkeypatch):
    kinds = itertools.cycle(("500", "lost", "", "503", "", "cut", "", "slow", ""))
    with bad_proxy(server, lambda *_: next(kinds)) as (port, done):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        code, _, err = mgtool("detect", pictures, "--out", s3, "--shard-size", 5, "-q")
    assert code == 0, err
    assert {"500", "503", "cut", "slow", "lost"} <= set(done)
    assert mgtool("detect", pictures, "--out", tmp_path / "boxes", "--shard-size", 5, "-q")[0] == 0
    assert _stored(server, s3) == _files(tmp_path / "boxes")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["500", "503", "cut", "lost", "slow", "away"])
def test_each_way_of_failing_costs_nothing(mgtool, server, s3, pictures, tmp_path, monkeypatch, kind: str):
    chance, away = random.Random(kind), list[float]()

    def fault(method: str, path: str, number: int) -> str:
        if kind == "away":  # for 20 s, once the run has begun
            away.extend([time.monotonic()] if number == 8 else [])
            return "503" if away and time.monotonic() - away[0] < 20 else ""
        return kind if chance.random() < 0.25 else ""

    with bad_proxy(server, fault) as (port, done):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        code, _, err = mgtool("detect", pictures, "--out", s3, "--shard-size", 5, "-q")
    assert code == 0, err
    assert done
    assert mgtool("detect", pictures, "--out", tmp_path / "boxes", "--shard-size", 5, "-q")[0] == 0
    assert _stored(server, s3) == _files(tmp_path / "boxes")


@pytest.mark.parametrize("name", ["a b", "ü", "a#b%20c", "q?*[x]~", "ends."])
def test_names_come_back_as_they_went(s3: str, name: str, tmp_path: Path):
    store = Store(s3)
    store.put(f"drawn/{name}.png", b"picture")
    assert [one for one in store.files() if one.startswith("drawn/")] == [f"drawn/{name}.png"]
    assert store.read(f"drawn/{name}.png")[0] == b"picture"  # type: ignore[index]


def test_a_bucket_that_is_not_there_is_one_line(mgtool, s3: str, pictures: Path):
    code, _, err = mgtool("detect", pictures, "--out", "s3://no-such-bucket-here/boxes")
    assert code == 2
    assert err.startswith("error: s3://no-such-bucket-here/boxes/.mgtool.lock: NoSuchBucket")
    assert err.count("\n") == 1


def test_everything_is_read_from_a_store_too(mgtool, server: int, s3: str, pictures: Path, tmp_path: Path):
    store = Store(f"{s3}/pictures")
    for path in pictures.iterdir():
        store.put(path.name, path)
    here, there = tmp_path / "here", f"{s3}/out"
    options = ("--shard-size", 5, "-q")
    for given, out in ((pictures, here), (f"{s3}/pictures", there)):
        code, _, err = mgtool("detect", given, "--out", f"{out}/boxes", *options)
        assert code == 0, err
        code, _, err = mgtool("pack", given, "--boxes", f"{out}/boxes", "--out", f"{out}/tars", *options)
        assert code == 0, err
    assert _stored(server, f"{there}/boxes") == _files(here / "boxes")
    assert _stored(server, f"{there}/tars") == _files(here / "tars")
    code, out, err = mgtool("pack", "--verify", f"{there}/tars", "--readers", "none", "--json")
    assert code == 0, err
    assert json.loads(out)["samples"] == 12
