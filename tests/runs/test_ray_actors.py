"""Shares handed to actors of a real Ray cluster as they come free, some of which are killed."""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mgtool.errors import InputError, MgtoolError, OutputError
from mgtool.runs import ray_actors
from mgtool.runs.ray_cluster import Cluster, run_shares
from mgtool.runs.shares import Share

ray = pytest.importorskip("ray")
COUNT = 7
LONGEST_S = 120.0


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    """Two nodes on this machine, which every run of a test joins."""
    from ray.cluster_utils import Cluster as Nodes

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers elsewhere cannot import it
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1)
    before = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = nodes.address
    yield
    os.environ.pop("RAY_ADDRESS")
    if before is not None:
        os.environ["RAY_ADDRESS"] = before
    nodes.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def _working(folder: Path, dies_at: int, deaths: int, together: int) -> Callable[[Share], tuple[int, int]]:
    """Notes that it was made; no share is done before some are, and one share kills its process some times."""
    (folder / f"made-{os.getpid()}").touch()

    def work(share: Share) -> tuple[int, int]:
        end = time.monotonic() + LONGEST_S
        while len(list(folder.glob("made-*"))) < together and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.3)
        if share.rank == dies_at and len(list(folder.glob("died-*"))) < deaths:
            (folder / f"died-{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if share.rank == -dies_at:
            raise InputError("this one is wrong")
        (folder / f"share-{share.rank}-{os.getpid()}").touch()
        return share.rank, os.getpid()

    return work


def _run(folder: Path, dies_at: int = 99, deaths: int = 0, together: int = 1) -> tuple[list[tuple[int, int]], int]:
    done: list[int] = []
    make = functools.partial(_working, folder, dies_at, deaths, together)
    found = run_shares(make, Cluster(None), name="test", world_size=COUNT, advance=done.append)
    return found, sum(done)


def test_shares_go_to_whoever_is_free_and_each_is_made_once(tmp_path: Path) -> None:
    found, done = _run(tmp_path, together=2)
    assert ([rank for rank, _ in found], done) == (list(range(COUNT)), COUNT)
    assert len({process for _, process in found}) == len(list(tmp_path.glob("made-*"))) == 2


def test_a_killed_actor_costs_its_share_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, done = _run(tmp_path, dies_at=3, deaths=2)
    assert ([rank for rank, _ in found], done) == (list(range(COUNT)), COUNT)
    assert len(list(tmp_path.glob("died-*"))) == 2
    assert len(list(tmp_path.glob("share-*"))) == COUNT
    assert capsys.readouterr().out == ""


def test_a_share_that_kills_whoever_does_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a share was lost: .*the same command goes on from here"):
        _run(tmp_path, dies_at=2, deaths=99)


def _filling_up(folder: Path, full: int) -> Callable[[Share], int]:
    """Of some processes the disk is full from their first share on."""

    def is_full() -> bool:
        for number in range(full):
            claim = folder / f"full-{number}"
            try:
                claim.mkdir()  # one process alone can
            except FileExistsError:
                if not (claim / str(os.getpid())).exists():
                    continue
            (claim / str(os.getpid())).touch()
            return True
        return False

    def work(share: Share) -> int:
        time.sleep(0.1)
        if is_full():
            raise OutputError("the disk") from OSError(errno.ENOSPC, "No space left on device")
        return share.rank

    return work


def test_a_node_whose_disk_is_full_leaves_its_shares_to_others(tmp_path: Path) -> None:
    make = functools.partial(_filling_up, tmp_path, 1)
    assert run_shares(make, Cluster(None), name="test", world_size=COUNT, advance=lambda _: None) == list(range(COUNT))
    assert len(list(tmp_path.glob("full-*"))) == 1


def test_full_disks_everywhere_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_actors, "_OTHERS_COME_IN_S", 3.0)
    make = functools.partial(_filling_up, tmp_path, 9)
    with pytest.raises(OutputError, match=r"^on the node \S+: the disk$"):
        run_shares(make, Cluster(None), name="test", world_size=COUNT, advance=lambda _: None)


def test_what_a_share_finds_wrong_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^this one is wrong$"):
        _run(tmp_path, dies_at=-4)


def test_a_node_without_the_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getcwd", lambda: str(tmp_path / "gone"))
    with pytest.raises(MgtoolError, match=r"gone, on the node \S+: No such file .* all nodes see the same files"):
        _run(tmp_path)
