"""A node that lacks something is named before work begins, with the way out; what each node did is told."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray_nodes
import terminal
from PIL import Image
from s3_server import BUCKET, s3_server, variables

from mgtool.runs.ray_nodes import NodeWork

ray = pytest.importorskip("ray")
PICTURE = Path(__file__).parents[1] / "images" / "coffee.jpg"
PICTURES = 16
FAR = "far"


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture(scope="module")
def nodes(server: int) -> Iterator[Any]:
    """A head that works, too, and may see all."""
    from ray.cluster_utils import Cluster

    args = {"num_cpus": 1, "node_name": "near", "env_vars": variables(server)}
    made = Cluster(initialize_head=True, head_node_args=args)
    yield made
    made.shutdown()


@pytest.fixture
def far(nodes: Any) -> Iterator[Callable[..., Any]]:
    """Adds a node for one test."""
    added = []

    def add(**variables: str) -> Any:
        added.append(nodes.add_node(num_cpus=1, node_name=FAR, env_vars=variables))
        return added[-1]

    yield add
    for node in added:
        nodes.remove_node(node)
    while any(node["NodeName"] == FAR and node["Alive"] for node in nodes.global_state.node_table()):
        time.sleep(0.1)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    with Image.open(PICTURE) as picture:
        for number in range(PICTURES):
            picture.crop((number, 0, number + 200, 150)).save(folder / f"{number:02d}.png")
    return folder


def _detect(pictures: Path | str, out: Path | str, nodes: Any) -> list[str]:
    words = ["detect", pictures, "--out", out, "--engine", "ray", "--ray-address", nodes.address, "--world-size", 8]
    return [sys.executable, "-m", "mgtool.commands.main", *map(str, [*words, "--workers", 0, "--batch-size", 1])]


def _line(command: list[str], **variables: str) -> str:
    """What a command that is refused says: one line, and nothing is written."""
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    return done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "told"),
    [
        (ray_nodes.WITHOUT_MGTOOL, r"the node far: .*No module named 'mgtool': install the same mgtool there"),
        (ray_nodes.OLDER_MGTOOL, r"the node far has mgtool 0\.0\.1, not .*: install the same mgtool there"),
    ],
    ids=["no mgtool", "older mgtool"],
)
def test_a_node_whose_mgtool_is_not_this_one(
    code: str, told: str, nodes: Any, far: Any, pictures: Path, tmp_path: Path
) -> None:
    far(**ray_nodes.python_that(tmp_path / "code", code))
    assert re.search(told, said := _line(_detect(pictures, tmp_path / "out", nodes))), said
    assert "--ray-runtime-env" in said
    assert not list(tmp_path.glob("out/*.jsonl"))


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts are root's")
@pytest.mark.parametrize(("hidden", "told"), [("pictures", "pictures/"), ("", "out")], ids=["pictures", "output"])
def test_a_node_that_does_not_see_a_folder(hidden: str, told: str, nodes: Any, pictures: Path, tmp_path: Path) -> None:
    given, name = pictures if hidden else PICTURE, f"far{len(told)}"
    with ray_nodes.node_without(tmp_path / hidden, nodes.address, name):
        _wait_for(nodes, name)
        said = _line(_detect(given, tmp_path / "out", nodes))
    assert re.search(rf"{tmp_path}/{told}\S*, on the node {name}: No such file or directory", said), said
    assert "all nodes see the same files: mount it there" in said


def _wait_for(nodes: Any, name: str) -> None:
    def is_there() -> bool:
        return any(node["NodeName"] == name and node["Alive"] for node in nodes.global_state.node_table())

    while not is_there():
        time.sleep(0.1)


@pytest.mark.slow
def test_a_node_that_may_not_look_into_the_bucket(nodes: Any, far: Any, server: int, tmp_path: Path) -> None:
    env = variables(server)
    far(**{name: "" if "KEY" in name else value for name, value in env.items()})
    said = _line(_detect(f"s3://{BUCKET}/pictures", tmp_path / "out", nodes), **env)
    assert f"s3://{BUCKET}/pictures, on the node far: " in said
    assert "each node needs credentials" in said


def test_another_version_of_the_cluster_is_told_with_both(nodes: Any, pictures: Path, tmp_path: Path) -> None:
    with _versions_of_cluster(nodes, ray_version="2.1.0", python_version="3.9.1"):
        said = _line(_detect(pictures, tmp_path / "out", nodes))
    assert f"the cluster has Ray 2.1.0 and Python 3.9.1, this machine has Ray {ray.__version__} and Python" in said
    assert "install the cluster's versions here" in said


@contextlib.contextmanager
def _versions_of_cluster(nodes: Any, **versions: str) -> Iterator[None]:
    """What a head of other versions would have told of itself."""
    from ray._common.usage import usage_constants, usage_lib
    from ray._private.ray_constants import KV_NAMESPACE_CLUSTER

    client = nodes.head_node.get_gcs_client()
    before = usage_lib.get_cluster_metadata(client)

    def tell(metadata: dict[str, Any]) -> None:
        text = json.dumps(metadata).encode()
        client.internal_kv_put(
            usage_constants.CLUSTER_METADATA_KEY, text, overwrite=True, namespace=KV_NAMESPACE_CLUSTER
        )

    tell(before | versions)
    yield
    tell(before)


@pytest.mark.slow
def test_what_each_node_did_is_in_the_record_and_in_the_summary(
    nodes: Any, far: Any, pictures: Path, tmp_path: Path
) -> None:
    far()
    done = subprocess.run(
        [*_detect(pictures, tmp_path / "out", nodes), "--json"], capture_output=True, text=True, check=True
    )
    summary, record = json.loads(done.stdout), json.loads((tmp_path / "out" / "run.json").read_text())
    assert summary["nodes"] == record["times"]["nodes"]
    assert sum(node["items"] for node in summary["nodes"].values()) == PICTURES
    assert {*summary["nodes"]} <= {"near", FAR}
    assert all(node["per_second"] > 0 for node in summary["nodes"].values())
    again = subprocess.run(
        [*_detect(pictures, tmp_path / "out", nodes), "--json"], capture_output=True, text=True, check=True
    )
    assert "nodes" not in json.loads(again.stdout)  # nothing was left to do
    assert json.loads((tmp_path / "out" / "run.json").read_text())["times"]["nodes"] == summary["nodes"]


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "by_node"), [(80, False), (130, True)])
def test_the_bar_shows_the_whole_and_where_there_is_room_each_node(
    columns: int, by_node: bool, nodes: Any, far: Any, pictures: Path, tmp_path: Path
) -> None:
    far()
    code, screen = terminal.run(_detect(pictures, tmp_path / "out", nodes), size=(columns, 30), cwd=tmp_path)
    assert code == 0, screen
    drawn = [terminal.CONTROL.sub("", line) for line in re.split(r"[\r\n]+", screen) if terminal.BAR in line]
    assert "8/8" in drawn[-1]
    assert re.search(r"\d pictures/s", drawn[-1])
    assert ("far" in drawn[-1] or "near" in drawn[-1]) == by_node, drawn[-1]
    assert all(len(line) <= columns for line in drawn)


def test_rates_are_those_from_the_first_work_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 11.0, 12.0, 14.0])
    monkeypatch.setattr("mgtool.runs.ray_nodes.time.monotonic", lambda: next(now))
    work = NodeWork("pictures")
    work.begins("a")
    work.begins("b")
    work.does("a", 30)
    work.does("b", 30)
    work.begins = lambda node: None
    assert work.summary() == {"a": {"items": 30, "per_second": 15.0}, "b": {"items": 30, "per_second": 10.0}}
