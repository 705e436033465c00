"""One suite for every way to carry a run out: in one process, by ranks, on a Ray cluster; in a folder, in a store."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import s3fs
from PIL import Image
from s3_server import BUCKET, content, listed, s3_server, variables

ray = pytest.importorskip("ray")
PICTURE = Path(__file__).parents[1] / "images" / "coffee.jpg"
PICTURES = 12
Engine = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture(scope="module", autouse=True)
def _cluster(server: int) -> Iterator[None]:
    """Two nodes on this machine, which every run of a test joins and which reach the store."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables(server).items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # of tests before, which knew no server
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        nodes.add_node(num_cpus=1)
        patch.setenv("RAY_ADDRESS", nodes.address)
        yield
        nodes.shutdown()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, a broken one among them, and questions, one about a picture that is not there."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "pictures").mkdir()
    with Image.open(PICTURE) as picture:
        for number in range(PICTURES):
            picture.crop((number, 0, number + 200, 150)).save(folder / "pictures" / f"{number:02d}.png")
    (folder / "pictures" / "05b.jpg").write_text("broken")
    lines = [{"id": at, "image": f"{at:02d}.png", "question": f"What is {at}?"} for at in range(PICTURES + 1)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def one(inputs: Path, tmp_path_factory: pytest.TempPathFactory, mgtool) -> Callable[[str], dict[str, bytes]]:
    """What one process writes, by command."""

    def files(command: str) -> dict[str, bytes]:
        if command not in _made:
            out = tmp_path_factory.mktemp("one") / command
            code, _, err = mgtool(*_words(inputs, command), "--out", _target(command, str(out)))
            assert code == 3, err
            _made[command] = _files(out)
        return _made[command]

    return files


_made: dict[str, dict[str, bytes]] = {}
COMMANDS = ("detect", "infer", "pack")


def _words(inputs: Path, command: str) -> list[str]:
    pictures = str(inputs / "pictures")
    if command == "detect":
        return ["detect", pictures, "--shard-size", "5", "--batch-size", "1", "--workers", "0"]
    if command == "pack":
        return ["pack", pictures, "--shard-size", "3", "--split", "train=0.5,val=0.5"]
    questions = str(inputs / "questions.jsonl")
    return ["infer", questions, "--model", "tiny", "--images", pictures, "--max-new-tokens", "4"]


def _target(command: str, out: str) -> str:
    return f"{out}/answers.jsonl" if command == "infer" else out


def _files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and "run.json" not in path.name]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if _is_of_all(path.name)}


def _is_of_all(name: str) -> bool:
    """Ranks leave the answers of their shares beside the joined ones."""
    return "-of-" not in name


def _stored(port: int, url: str) -> dict[str, bytes]:
    prefix = url.removeprefix(f"s3://{BUCKET}/") + "/"
    names = [name.removeprefix(prefix) for name in listed(port) if name.startswith(prefix)]
    assert any("run.json" in name for name in names)
    return {name: content(port, prefix + name) for name in names if "run.json" not in name and _is_of_all(name)}


@pytest.fixture
def engine(request: pytest.FixtureRequest, mgtool) -> Engine:
    """Runs a command to its end in one way; gives its exit code, and what it said last."""
    ways: dict[str, list[tuple[object, ...]]] = {
        "process": [()],
        "ranks": [("--rank", rank, "--world-size", 3) for rank in (2, 0, 1)],
        "ray": [("--engine", "ray")],
    }

    def run(*words: object) -> tuple[int, str]:
        command, code, err = words[0], 0, ""
        way = request.param
        if way == "ranks" and command == "pack":
            pytest.skip("pack has no ranks")
        for more in ways[way]:
            size = ("--world-size", 3) if way == "ray" and command != "pack" else ()
            code, _, err = mgtool(*words, *more, *size)
        return code, err

    run.__name__ = request.param
    return run


@pytest.fixture(params=["folder", "store"])
def place(request: pytest.FixtureRequest, tmp_path: Path, server: int) -> tuple[str, Callable[[], dict[str, bytes]]]:
    """An output of this test's own, and what is in it."""
    if request.param == "folder":
        return str(tmp_path / "out"), lambda: _files(tmp_path / "out")
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    url = f"s3://{BUCKET}/{name}"
    return url, lambda: _stored(server, url)


WAYS = [(engine, command) for engine in ("process", "ranks", "ray") for command in COMMANDS]
LONG = ("ray", "infer")
"""Its actors load torch and a model, twice."""


@pytest.mark.parametrize(
    ("engine", "command"),
    [pytest.param(*way, marks=[pytest.mark.slow] if way == LONG else []) for way in WAYS],
    indirect=["engine"],
)
def test_bytes_failures_and_exit_code_are_those_of_one_process(
    command: str, engine: Engine, place, inputs: Path, one
) -> None:
    out, files = place
    code, err = engine(*_words(inputs, command), "--out", _target(command, out))
    assert (code, "failed: 1, see" in err) == (3, True), err
    assert files() == one(command)
    again = engine(*_words(inputs, command), "--out", _target(command, out), "--allow-failures", 1)
    assert (again[0], files()) == (0, one(command)), again


OTHERWISE = {"detect": ("--threshold", 0.9), "infer": ("--max-new-tokens", 2), "pack": ("--exif", "apply")}


@pytest.mark.parametrize("engine", ["process", "ranks", pytest.param("ray", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize("command", COMMANDS)
def test_another_run_is_refused_and_can_be_overwritten(
    command: str, engine: Engine, mgtool, tmp_path: Path, inputs: Path, one
) -> None:
    words, out = _words(inputs, command), tmp_path / "out"
    target = _target(command, str(out))
    assert mgtool(*words, *OTHERWISE[command], "--out", target, "-q")[0] == 3
    code, err = engine(*words, "--out", target)
    assert (code, err.count("\n")) == (2, 1), err
    assert not list(out.rglob("*-of-*"))  # before anything is done
    if engine.__name__ == "ranks":  # the first one is done when the second would overwrite it
        return
    code, err = engine(*words, "--out", target, "--overwrite")
    assert code == 3, err
    assert _files(out) == one(command)


def test_a_dead_actor_costs_its_shard_alone(tmp_path: Path, mgtool) -> None:
    (tmp_path / "pictures").mkdir()
    with Image.open(PICTURE) as picture:
        for number in range(48):
            picture.crop((number, 0, number + 500, 400)).save(tmp_path / "pictures" / f"{number:02d}.jpg")
    words = ["pack", str(tmp_path / "pictures"), "--shard-size", "4", "--reencode", "png", "-q"]
    assert mgtool(*words, "--out", tmp_path / "one")[0] == 0
    out = tmp_path / "out"
    command = [sys.executable, "-m", "mgtool.commands.main", *words, "--out", str(out), "--engine", "ray"]
    with subprocess.Popen(command) as run:
        while (victim := next(_actors(), None)) is None or not list(out.glob("*.tar")):
            assert run.poll() is None
            time.sleep(0.01)
        victim.kill()
        written = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
        assert len(written) < 12
        assert run.wait(120) == 0
    assert _files(out) == _files(tmp_path / "one")
    anew = [name for name, when in written.items() if (out / name).stat().st_mtime_ns != when]
    assert len(anew) <= 1, anew  # the one that the actor had at hand


def _actors() -> Iterator[psutil.Process]:
    """Those of the nodes below this process."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "".join(child.cmdline()[:1]).startswith("ray::pack"):
                yield child
