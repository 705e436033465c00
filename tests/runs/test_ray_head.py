"""The head of a cluster that dies, or stands still: how a run ends, or goes on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray_nodes
from PIL import Image

from mgtool.runs.ray_head import HeadGoneError, HeadWatch

pytest.importorskip("ray")
PICTURE = Path(__file__).parents[1] / "images" / "coffee.jpg"
PATIENCE_S = 0.6


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgtool.runs.ray_head._EVERY_S", 0.05)


def _until(is_so: Any, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(is_so())


def test_a_head_that_is_gone_is_told_with_how_long() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{server.getsockname()[1]}"
    watch = HeadWatch(address, patience_s=PATIENCE_S)
    watch.insist()
    server.close()
    assert _until(lambda: watch.is_gone)
    with pytest.raises(HeadGoneError, match=rf"^the head of the Ray cluster, {address}, is gone \(connection refused"):
        watch.insist()
    watch.close()


def test_a_head_that_comes_back_in_time_is_none_that_is_gone() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    watch = HeadWatch(f"127.0.0.1:{port}", patience_s=60)
    server.close()
    assert _until(lambda: watch._away_since)
    with socket.create_server(("127.0.0.1", port)):
        assert _until(lambda: not watch._away_since)
    watch.close()


def test_a_head_that_stands_still_goes_on_answering() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # nobody takes the calls
        watch = HeadWatch(f"127.0.0.1:{server.getsockname()[1]}", patience_s=0.1)
        time.sleep(0.5)
        assert not watch.is_gone
        watch.close()


@pytest.mark.parametrize("address", ["", "nowhere", "127.0.0.1:none"])
def test_what_is_no_place_to_knock_at_is_not_watched(address: str) -> None:
    watch = HeadWatch(address, patience_s=0.0)
    time.sleep(0.2)
    assert not watch.is_gone


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A head that only leads, and two nodes that work."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    made.add_node(num_cpus=1)
    made.add_node(num_cpus=1)
    yield made
    for node in [*made.worker_nodes, *([made.head_node] if made.head_node else [])]:
        ray_nodes.kill(ray_nodes.processes(node))
    made.shutdown()


def _pictures(folder: Path) -> Path:
    folder.mkdir()
    with Image.open(PICTURE) as picture:
        for number in range(120):
            picture.crop((number, 0, number + 300, 250)).save(folder / f"{number:03d}.jpg")
    return folder


def _command(pictures: Path, out: Path, *options: object) -> list[str]:
    words = ["detect", pictures, "--out", out, "--batch-size", 1, "--workers", 0, *options]
    return [sys.executable, "-m", "mgtool.commands.main", *map(str, words)]


def _on_ray(pictures: Path, out: Path, nodes: Any, *options: object, **variables: str) -> subprocess.Popen[bytes]:
    cluster = ("--engine", "ray", "--ray-address", nodes.address, "--world-size", 8, *options)
    env = {**os.environ, **variables}
    return subprocess.Popen(_command(pictures, out, *cluster), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _boxes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}


def _wait_for_a_share(out: Path, run: subprocess.Popen[bytes]) -> None:
    assert _until(lambda: run.poll() is not None or list(out.glob(".shares/*/run.json")), 120)
    assert run.poll() is None, run.communicate()


@pytest.mark.slow
def test_a_run_whose_head_dies_ends_with_a_line_of_its_own_and_goes_on_elsewhere(nodes: Any, tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    pictures, out = _pictures(tmp_path / "pictures"), tmp_path / "out"
    run = _on_ray(pictures, out, nodes, "-q", RAY_gcs_rpc_server_reconnect_timeout_s="18")
    _wait_for_a_share(out, run)
    ray_nodes.kill(ray_nodes.processes(nodes.head_node))
    began = time.monotonic()
    stdout, stderr = run.communicate(timeout=120)
    assert time.monotonic() - began < 18 + 5
    assert (run.returncode, stdout, stderr.count(b"\n")) == (2, b"", 1), stderr.decode()
    for told in (b"error: the head of the Ray cluster", b"are done and kept", b"the same command goes on from here"):
        assert told in stderr
    other = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        again = _on_ray(pictures, out, other, "-q")
        assert (again.communicate(timeout=200)[1], again.returncode) == (b"", 0)
    finally:
        other.shutdown()
    subprocess.run(_command(pictures, tmp_path / "one", "-q"), check=True)
    assert _boxes(out) == _boxes(tmp_path / "one")


@pytest.mark.slow
def test_a_head_that_stands_still_for_a_while_ends_no_run(nodes: Any, tmp_path: Path) -> None:
    pictures, out = _pictures(tmp_path / "pictures"), tmp_path / "out"
    run = _on_ray(pictures, out, nodes, "-q", RAY_gcs_rpc_server_reconnect_timeout_s="18")
    _wait_for_a_share(out, run)
    with ray_nodes.standing_still(ray_nodes.processes(nodes.head_node)):
        time.sleep(16)  # longer than a head may be away
    assert (run.communicate(timeout=200)[1], run.returncode) == (b"", 0)
    subprocess.run(_command(pictures, tmp_path / "one", "-q"), check=True)
    assert _boxes(out) == _boxes(tmp_path / "one")
