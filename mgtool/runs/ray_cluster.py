"""Shares of a run on a Ray cluster whose nodes see the same files."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from mgtool.errors import MgtoolError, OutputError, RecordError, UsageError
from mgtool.runs import ray_head, ray_nodes, ray_own, ray_probe
from mgtool.runs.ray_actors import EACH, MOST_WAITING, Crew, Make, Unit
from mgtool.runs.ray_head import HeadGoneError, HeadWatch
from mgtool.runs.ray_nodes import Needs, NodeWork
from mgtool.runs.shares import Share

_DEVICES = ("auto", "cpu", "cuda")
_GOES_ON = "the same command goes on from here"
_NAMES = {"num_gpus": "GPU", "num_cpus": "CPU"}
_LEAVES_IN_S = 5.0
_MOST_JSON = 1 << 24
"""Bytes of a file of options."""
_INSTALL = "ray: Ray is not installed here; pip install 'mgtool[ray]'"

Advance = Callable[[int], None]  # of `records`, which is heavier than all here
Engine = Literal["local", "ray"]
"""Where a run's shares are computed."""
U = TypeVar("U", bound=Unit)
R = TypeVar("R")
OF_A_CLUSTER = ("engine", "ray_address", "num_actors", "gpus_per_actor", "cpus_per_actor", "ray_runtime_env")
"""Options that say on which machines, and change nothing that comes out."""
LOCAL: Mapping[str, Any] = {**dict.fromkeys(OF_A_CLUSTER), "engine": "local"}
"""What a share's own options have in place of those of a cluster."""


class UsesCluster(Protocol):
    """Options of a command that can use a cluster."""

    @property
    def engine(self) -> Engine: ...
    @property
    def ray_address(self) -> str | None: ...
    @property
    def num_actors(self) -> int | None: ...
    @property
    def cpus_per_actor(self) -> float | None: ...
    @property
    def ray_runtime_env(self) -> Path | None: ...


class OnCluster(UsesCluster, Protocol):
    """Those of one that computes with a model."""

    @property
    def rank(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def gpus_per_actor(self) -> float | None: ...


@dataclass(frozen=True)
class Cluster:
    """What actors can ask for.

    Attributes:
        address: as Ray takes it; None for its own search.
        gpus_each: GPUs that an actor wants where there are any; 0 for none.
        cpus_each: cores that it wants; None for one beside a GPU, else all of the smallest node.
        actors: most that work at once; None for as many as there is room for.
        runtime_env: what Ray makes for them; empty for what the nodes have.
    """

    address: str | None
    gpus_each: float = 0
    cpus_each: float | None = None
    actors: int | None = None
    runtime_env: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, options: UsesCluster, gpus_each: int, *, cpus_each: float | None = None) -> Cluster:
        """As options ask for it; `gpus_each` and `cpus_each` where they do not say.

        Raises:
            UsageError: a runtime environment that cannot be read.
        """
        asked = getattr(options, "gpus_per_actor", None)
        cpus = cpus_each if options.cpus_per_actor is None else options.cpus_per_actor
        environment = _environment(options.ray_runtime_env)
        return cls(options.ray_address, gpus_each if asked is None else asked, cpus, options.num_actors, environment)

    def connect(self) -> Any:
        """Ray, connected.

        Raises:
            UsageError: it is not installed, or nothing answers there.
        """
        try:
            import ray
        except ImportError as error:
            raise UsageError("engine", _INSTALL) from error
        given = ray_probe.asked_address(self.address)
        is_local = "local" in (self.address, os.environ.get("RAY_ADDRESS"))
        asked = given if given is not None or is_local else ray_own.running_here()
        if asked is not None:
            _knock(asked)
            ray_probe.insist(asked)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that begins here tells nobody
        try:
            options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
            options |= {"runtime_env": dict(self.runtime_env)} if self.runtime_env else {}
            ray_own.begin(ray, **options) if asked is None else ray.init(address=asked, **options)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise UsageError("ray_address", f"{self.address}: {error}") from error
        return ray

    def plan(self, nodes: Iterable[Mapping[str, Any]]) -> tuple[dict[str, float], int]:
        """What each actor asks for, and how many run side by side: one for its GPUs, or else one for each node."""
        alive = [node["Resources"] for node in nodes if node["Alive"]]
        has_gpus = self.gpus_each and any(node.get("GPU", 0) >= self.gpus_each for node in alive)
        cores = [node["CPU"] for node in alive if node.get("CPU")]
        wanted = {"num_gpus": self.gpus_each} if has_gpus else {}
        wanted["num_cpus"] = self.cpus_each or (1 if has_gpus else min(cores, default=1))
        is_sized = has_gpus or self.cpus_each
        places = sum(_room(node, wanted) for node in alive) if is_sized else len(cores)
        return wanted, min(places or 1, self.actors or MOST_WAITING * EACH)


def _room(node: Mapping[str, float], wanted: Mapping[str, float]) -> int:
    """How many actors one node has room for."""
    return min(int(node.get(_NAMES[name], 0) / count) for name, count in wanted.items())


def _environment(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    from mgtool.files.regular import read_regular
    from mgtool.records import parse  # options are read here for help, which is light

    try:
        return parse(read_regular(path, _MOST_JSON), dict[str, Any], where=str(path))
    except (OSError, RecordError) as error:
        raise UsageError("ray_runtime_env", f"{path}: no JSON object can be read there: {error}") from error


def _knock(address: str) -> None:
    """Raise at once where nothing listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=ray_probe.TIMEOUT_S).close()
        except OSError as error:
            raise UsageError("ray_address", f"{address}: {error}") from error


def check_engine(
    options: OnCluster, *, device_map: str | None = None, out: str = "", inputs: Iterable[str] = ()
) -> None:
    """Refuse options that cannot be shared out over a cluster, or that need one.

    Raises:
        UsageError: naming them.
    """
    check_actors(options)
    if options.engine != "ray":
        return
    if options.rank != "0":
        raise UsageError("rank", "and `engine` ray both share a run out: leave one out")
    if options.device not in _DEVICES or device_map:
        raise UsageError("engine", "ray gives each share its device: `device` auto, cpu or cuda, without `device_map`")
    if out == "-" or "-" in inputs:
        raise UsageError("engine", "ray: shares of a run need inputs and an output on disk, not -")


def run_shares(
    make: Make[R],
    cluster: Cluster,
    *,
    name: str,
    world_size: int = 1,
    advance: Advance,
    needs: Needs | None = None,
    work: NodeWork | None = None,
) -> list[R]:
    """Do every share of a run; gives what each gave, in their order.

    Args:
        make: gives what does one share after the other, in a process of its own on some node.
        cluster: where.
        name: of the run, as the cluster shows it.
        world_size: number of shares; with 1, some for each place that there is, all in one where there is one place.
        advance: told of shares that are done.
        needs: what each node has to have; None for nothing but the folder here.
        work: as of `Crew`.

    Raises:
        UsageError: the cluster cannot be used.
        InputError: a node lacks something.
        MgtoolError: a share's own.
        OutputError: a share was lost, or the head of the cluster.
    """
    from mgtool.runs.progress import started

    done = dict[Share, R]()
    with _used(cluster, needs, work, advance) as (ray, wanted, places, how):
        count = world_size if world_size > 1 else 1 if places == 1 else EACH * places
        started(advance, count)
        crew = Crew[Share, R](ray, make, wanted, name, most=cluster.actors or MOST_WAITING, **how)
        for share, result in crew.do(Share(rank, count) for rank in range(count)):
            done[share] = result
            advance(1)
        return [done[Share(rank, count)] for rank in range(count)]


def run_units(
    make: Make[R],
    cluster: Cluster,
    units: Iterable[U],
    *,
    name: str,
    files: Sequence[Path] = (),
    loaded: Callable[[U], Any] = lambda unit: unit,
    advance: Advance = lambda count: None,
    needs: Needs | None = None,
    work: NodeWork | None = None,
) -> Generator[R]:
    """Do units that the driver reads as they are needed; gives what came of each, in the order in which they are done.

    Args:
        make: as of `run_shares`; given the path of a copy of each of `files`, which other nodes need not see.
        cluster, name, needs: as of `run_shares`.
        units: what is to be done.
        files, loaded, work: as of `Crew`.
        advance: told of `work`, and of nothing else.

    Raises:
        UsageError, MgtoolError, OutputError: as of `run_shares`.
    """
    with _used(cluster, needs, work, advance) as (ray, wanted, _, how):
        most = cluster.actors or MOST_WAITING
        crew = Crew[U, R](ray, make, wanted, name, most=most, files=files, loaded=loaded, **how)
        with contextlib.closing(crew.do(units)) as done:
            for _, result in done:
                yield result


def check_actors(options: UsesCluster) -> None:
    """Refuse options of a cluster without one, and numbers that no actor can ask for.

    Raises:
        UsageError: naming them.
    """
    for name in OF_A_CLUSTER[1:]:
        given = getattr(options, name, None)
        if given is not None and options.engine != "ray":
            raise UsageError(name, "needs `engine` ray")
        if isinstance(given, int | float) and given <= 0:
            raise UsageError(name, f"{given}: give a number above 0")


class _Use(NamedTuple):
    """A cluster in use: connected, what each actor asks for, how many run side by side, and more for a `Crew`."""

    ray: Any
    wanted: dict[str, float]
    places: int
    how: dict[str, Any]


@contextlib.contextmanager
def _used(cluster: Cluster, needs: Needs | None, work: NodeWork | None, advance: Advance) -> Iterator[_Use]:
    """Connect, see that the nodes have what they need, watch the head, and leave the cluster at the end."""
    from mgtool.runs.progress import waits, working

    ray, work, needs = cluster.connect(), work or NodeWork(), needs or Needs.of()
    head = ray_head.watch(ray, ray_probe.asked_address(cluster.address))
    with _errors(ray, head), contextlib.closing(head):
        nodes = ray.nodes()
        wanted, places = cluster.plan(nodes)
        able = [node for node in nodes if node["Alive"] and _room(node["Resources"], wanted) >= 1]
        ray_nodes.check(ray, needs, able)
        working(advance, work)
        if not able:
            asked = " and ".join(f"{count:g} {_NAMES[name]}s" for name, count in wanted.items())
            waits(advance, f"no node has room for an actor that asks for {asked}: waiting for one that has")
        yield _Use(ray, wanted, places, {"needs": needs, "head": head, "work": work})


@contextlib.contextmanager
def _errors(ray: Any, head: HeadWatch) -> Iterator[None]:
    """Leave the cluster at the end; raise what a share itself raised, and tell a lost one in a line.

    Ray writes of each lost process to stdout, which is for data.
    """
    try:
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
            try:
                yield
            finally:
                _leave(ray, head)
    except HeadGoneError as error:
        raise OutputError(f"{error}; {_GOES_ON}, on this cluster or another") from error
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, MgtoolError) else error from None
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise OutputError(f"a share was lost: {reason}; {_GOES_ON}") from error


def _leave(ray: Any, head: HeadWatch) -> None:
    """Disconnect; where the head is gone, that is waited for no longer than a little."""
    if not head.is_gone:
        ray.shutdown()
        return
    leaving = threading.Thread(target=ray.shutdown, daemon=True)
    leaving.start()
    leaving.join(_LEAVES_IN_S)
