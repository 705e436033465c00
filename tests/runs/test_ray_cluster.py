"""`--engine ray`: shares as tasks of a real Ray cluster on this machine, and what it refuses."""

from __future__ import annotations

import http.server
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from mgtool.files.temporary import all_in_one_folder
from mgtool.runs import ray_own, ray_probe
from mgtool.runs.ray_cluster import Cluster

pytest.importorskip("ray")
CPU, DEAD = {"CPU": 8.0}, {"CPU": 64.0, "GPU": 8.0}


def _command(*args: object) -> list[str]:
    return [sys.executable, "-m", "mgtool.commands.main", *map(str, args)]


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.json"}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Parts of a photograph, and a file that is no picture."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    with Image.open(Path(__file__).parents[1] / "images" / "coffee.jpg") as picture:
        for number in range(12):
            picture.crop((number, 0, number + 200, 150)).save(folder / f"{number:02d}.png")
    (folder / "zz.jpg").write_text("broken")
    return folder


def test_boxes_are_those_of_one_process(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MGTOOL_MAX_BOXES", "2")
    options = _command("detect", pictures.name, "--shard-size", 5, "--allow-failures", 1)
    subprocess.run([*options, "--out", "one", "-q"], check=True, timeout=120)
    on_ray = [*options, "--out", "shared", "--engine", "ray", "--ray-address", "local", "--world-size", "3"]
    done = subprocess.run(on_ray, capture_output=True, check=True, timeout=300)
    assert _bytes(Path("shared")) == _bytes(Path("one"))
    assert b"failed: 1, see shared/failures.jsonl" in done.stderr


def test_a_killed_share_is_taken_up_again(pictures: Path, tmp_path: Path) -> None:
    options = [pictures, "--batch-size", 1, "-q", "--allow-failures", 1]
    subprocess.run(_command("detect", *options, "--out", tmp_path / "one"), check=True, timeout=120)
    shared = ["--out", tmp_path / "shared", "--engine", "ray", "--ray-address", "local"]
    run = subprocess.Popen(_command("detect", *options, *shared), stderr=subprocess.PIPE)
    journal = tmp_path / "shared" / ".detect.journal.jsonl"
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 3):
        assert run.poll() is None
        time.sleep(0.002)
    [share] = _shares(run.pid)
    share.send_signal(signal.SIGKILL)
    done = journal.read_bytes().count(b"\n")
    assert 3 <= done < 13
    _, stderr = run.communicate(timeout=300)
    assert (run.returncode, stderr) == (0, b"")
    assert _bytes(tmp_path / "shared") == _bytes(tmp_path / "one")


def _shares(of: int) -> list[psutil.Process]:
    """Ray's workers that do a share for a process."""
    found = []
    for child in psutil.Process(of).children(recursive=True):
        try:
            found += [child] if "".join(child.cmdline()[:1]).startswith("ray::detect 00000") else []
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--engine", "ray", "--out", "-"), "on disk, not -"),
        (("--engine", "ray", "--out", "o", "--rank", 1, "--world-size", 2), "--rank and --engine ray"),
        (("--engine", "ray", "--out", "o", "--device", "cuda:0,cuda:1"), "--device auto, cpu or cuda"),
        (("--engine", "ray", "--out", "o", "--ray-address", "nowhere"), "--ray-address nowhere"),
        (("--ray-address", "auto", "--out", "o"), "needs --engine ray"),
    ],
)
def test_what_it_refuses(mgtool, pictures: Path, options: tuple[object, ...], told: str) -> None:
    code, stdout, stderr = mgtool("detect", pictures, *options)
    assert (code, stdout, stderr.count("\n"), told in stderr) == (2, "", 1, True), stderr


def test_an_address_where_nothing_listens_is_told_at_once(mgtool, pictures: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = ("--out", tmp_path / "o", "--engine", "ray", "--ray-address", address)
    code, _, stderr = mgtool("detect", pictures, *options)
    assert (code, stderr.count("\n"), address in stderr) == (2, 1, True)
    assert not (tmp_path / "o").exists()


class _Web(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.parametrize("scheme", ["", "ray://"])
@pytest.mark.parametrize("is_variable", [False, True])
def test_another_server_is_told_in_one_line(
    scheme: str, is_variable: bool, mgtool, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_probe, "TIMEOUT_S", 2.0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Web) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"{scheme}127.0.0.1:{server.server_port}"
        options: list[object] = ["--out", tmp_path / "o", "--engine", "ray"]
        if is_variable:
            monkeypatch.setenv("RAY_ADDRESS", address)
        else:
            options += ["--ray-address", address]
        code, stdout, stderr = mgtool("detect", pictures, *options)
        server.shutdown()
    assert (code, stdout, stderr.count("\n")) == (2, "", 1), stderr
    assert f"--ray-address {address}: no Ray cluster answers" in stderr
    assert "6379" in stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("gpus_each", "nodes", "wanted", "places"),
    [
        (1, [CPU, {"CPU": 16.0, "GPU": 4.0}, {"CPU": 16.0, "GPU": 1.0}], {"num_gpus": 1, "num_cpus": 1}, 5),
        (2, [CPU, {"CPU": 16.0, "GPU": 4.0}, {"CPU": 16.0, "GPU": 1.0}], {"num_gpus": 2, "num_cpus": 1}, 2),
        (0, [CPU, {"CPU": 16.0, "GPU": 4.0}, {"memory": 1.0}], {"num_cpus": 8.0}, 2),
        (1, [CPU, CPU], {"num_cpus": 8.0}, 2),
    ],
)
def test_a_task_has_its_gpus_or_else_a_node(gpus_each: int, nodes, wanted, places: int) -> None:
    alive = [{"Alive": True, "Resources": node} for node in nodes]
    plan = Cluster(None, gpus_each).plan([*alive, {"Alive": False, "Resources": DEAD}])
    assert plan == (wanted, places)


@pytest.mark.parametrize(
    ("asked", "wanted", "places"),
    [
        ({"gpus_each": 0.5}, {"num_gpus": 0.5, "num_cpus": 1}, 8),
        ({"gpus_each": 0.5, "cpus_each": 8.0}, {"num_gpus": 0.5, "num_cpus": 8.0}, 2),
        ({"cpus_each": 2.0}, {"num_cpus": 2.0}, 12),
        ({"cpus_each": 2.0, "actors": 3}, {"num_cpus": 2.0}, 3),
        ({"cpus_each": 640.0}, {"num_cpus": 640.0}, 1),
    ],
)
def test_actors_are_as_large_and_as_many_as_asked(asked, wanted, places: int) -> None:
    nodes = [{"Alive": True, "Resources": node} for node in (CPU, {"CPU": 16.0, "GPU": 4.0})]
    assert Cluster(None, **asked).plan(nodes) == (wanted, places)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--num-actors", 2), "--num-actors needs --engine ray"),
        (("--engine", "ray", "--cpus-per-actor", 0), "--cpus-per-actor 0.0: give a number above 0"),
        (("--engine", "ray", "--ray-runtime-env", "none.json"), "--ray-runtime-env none.json: no JSON object"),
    ],
)
def test_actors_that_cannot_be(options, told: str, mgtool, pictures: Path, tmp_path: Path) -> None:
    code, _, err = mgtool("detect", pictures, "--out", tmp_path / "out", *options)
    assert (code, err.count("\n")) == (2, 1)
    assert told in err


OF_ITS_OWN = """
import os, psutil
from mgtool.files.temporary import all_in_one_folder
from mgtool.runs.ray_cluster import Cluster
with all_in_one_folder():
    ray = Cluster("local").connect()
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = [one.laddr.ip for process in processes for one in process.net_connections() if one.status == "LISTEN"]
    print(sorted({ip.rpartition(":")[2] for ip in listening}), "ray" in os.listdir(os.environ["TMPDIR"]))
    ray.shutdown()
"""


@pytest.mark.slow
def test_a_cluster_of_its_own_listens_on_loopback_and_keeps_to_the_runs_folder() -> None:
    env = {**os.environ, "TMPDIR": "/tmp"}
    done = subprocess.run([sys.executable, "-c", OF_ITS_OWN], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "['127.0.0.1'] True\n"


def test_the_cluster_that_runs_here_is_found_where_the_user_keeps_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert ray_own.running_here() is None
    with socket.create_server(("127.0.0.1", 0)) as server, all_in_one_folder():
        address = f"127.0.0.1:{server.getsockname()[1]}"
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
        assert ray_own.running_here() == address
    assert ray_own.running_here() is None  # it has gone
