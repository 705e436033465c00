"""Where no node has room, it is said what is waited for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mgtool.runs.ray_cluster import Cluster

pytest.importorskip("ray")
PICTURE = Path(__file__).parents[1] / "images" / "coffee.jpg"
HEAD = {"Alive": True, "Resources": {"memory": 1.0}}


def test_a_cluster_that_is_only_a_head_yet_gets_an_actor_of_one_core() -> None:
    assert Cluster(None).plan([HEAD]) == ({"num_cpus": 1}, 1)


@pytest.fixture
def nodes() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    yield made
    made.shutdown()


@pytest.mark.slow
def test_a_node_that_comes_later_does_the_work(nodes: Any, tmp_path: Path) -> None:
    words = ["detect", PICTURE, "--out", tmp_path / "out", "--workers", 0, "--engine", "ray"]
    command = [sys.executable, "-m", "mgtool.commands.main", *map(str, [*words, "--ray-address", nodes.address])]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        said = run.stderr.readline()
        assert said == "no node has room for an actor that asks for 1 CPUs: waiting for one that has\n"
        nodes.add_node(num_cpus=1)
        rest = run.stderr.read()
    assert run.returncode == 0, rest
    assert (tmp_path / "out" / "boxes-000000.jsonl").exists()
