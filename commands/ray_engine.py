"""`--engine ray`: a command's shares as tasks of a Ray cluster whose nodes see the same files."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import typer

from mgtool.commands import console
from mgtool.commands.options import DEFECT, DONE, ITEMS_FAILED, Engine, check_share
from mgtool.errors import OutputError, UsageError
from mgtool.runs.shares import Share

RETRIES = 3
"""How often a share is taken up again whose node went away; it goes on where it stopped."""
TIMEOUT_S = 10.0
_OWN = ("engine", "ray_address", "rank", "world_size", "quiet", "as_json", "config", "allow_failures")
_DEVICES = ("auto", "cpu", "cuda")
_GOES_ON = "the same command goes on from here"
_INSTALL = "ray: Ray is not installed here; pip install 'mgtool[ray]'"


@dataclass(frozen=True)
class Cluster:
    """What tasks can ask for.

    Attributes:
        address: as Ray takes it; None for its own search.
        gpus_each: GPUs that a share wants where there are any; 0 for none.
    """

    address: str | None
    gpus_each: int

    def connect(self) -> Any:
        """Ray, connected.

        Raises:
            UsageError: it is not installed, or nothing answers there.
        """
        try:
            import ray
        except ImportError as error:
            raise UsageError("engine", _INSTALL) from error
        self._knock()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that begins here tells nobody
        try:
            ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise UsageError("ray_address", f"{self.address}: {error}") from error
        return ray

    def _knock(self) -> None:
        """Raise where nothing listens: Ray itself would go on trying for minutes."""
        host, _, port = (self.address or "").removeprefix("ray://").rpartition(":")
        if host and port.isdecimal():
            try:
                socket.create_connection((host, int(port)), timeout=TIMEOUT_S).close()
            except OSError as error:
                raise UsageError("ray_address", f"{self.address}: {error}") from error

    def plan(self, nodes: Iterable[Mapping[str, Any]]) -> tuple[dict[str, float], int]:
        """What each task asks for, and how many run side by side: one for its GPUs, or else one for each node."""
        alive = [node["Resources"] for node in nodes if node["Alive"]]
        if self.gpus_each and (places := sum(int(node.get("GPU", 0)) // self.gpus_each for node in alive)):
            return {"num_gpus": self.gpus_each, "num_cpus": 1}, places
        cores = [node["CPU"] for node in alive if node.get("CPU")]
        return {"num_cpus": min(cores)}, len(cores)


def cluster(given: Mapping[str, Any]) -> Cluster | None:
    """The cluster that options ask for; None where they ask for none.

    Raises:
        UsageError: naming what cannot be shared out.
    """
    if given["engine"] is not Engine.ray:
        if given["ray_address"] is not None:
            raise UsageError("ray_address", "needs `engine` ray")
        return None
    if given["rank"] != "0":
        raise UsageError("rank", "and `engine` ray both share a run out: leave one out")
    if given["device"] not in _DEVICES or given.get("device_map"):
        raise UsageError("engine", "ray gives each share its device: `device` auto, cpu or cuda, without `device_map`")
    if given["out"] is None:
        raise UsageError("out", "is missing: the shares of `engine` ray are written there")
    check_share(Share(0, 2), given["out"], given["inputs"])
    return Cluster(given["ray_address"], 0 if given["device"] == "cpu" else given.get("tensor_parallel", 1))


def run_shares(context: typer.Context, place: Cluster, world_size: int, *, quiet: bool) -> list[dict[str, Any]]:
    """Run every share of a command; gives their summaries in order.

    Args:
        context: of the command, with its options.
        place: where.
        world_size: number of shares; with 1, as many as run side by side.
        quiet: show no progress.

    Raises:
        UsageError: the cluster cannot be used.
        OutputError: a share ended without its output; with the reason that it gave.
    """
    from mgtool.records import parse

    ray = place.connect()
    try:
        wanted, places = place.plan(ray.nodes())
        count = places if world_size == 1 else world_size
        task = ray.remote(_share).options(max_retries=RETRIES, scheduling_strategy="SPREAD", **wanted)
        command = _arguments(context)
        ends = [
            task.remote([*command, "--rank", str(rank), "--world-size", str(count)], os.getcwd())  # noqa: PTH109 - a name
            for rank in range(count)
        ]
        with console.progress("shares", total=count, quiet=quiet) as advance:
            waiting = ends
            while waiting:
                [done], waiting = ray.wait(waiting)
                _check(*ray.get(done))
                advance(1)
        return [parse(ray.get(end)[1], dict[str, Any], where="a share's summary") for end in ends]
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise OutputError(f"a share was lost: {reason}; {_GOES_ON}") from error
    finally:
        ray.shutdown()


def _arguments(context: typer.Context) -> list[str]:
    """The command with the options that were given anywhere, but for those of the engine."""
    arguments, inputs = [str(context.info_name)], []
    for param in context.command.params:
        name = str(param.name)
        source = context.get_parameter_source(name)
        if name in _OWN or source is None or source.name == "DEFAULT":
            continue
        value = context.params[name]
        values = [str(one) for one in (value if isinstance(value, list | tuple) else [value])]
        if param.param_type_name == "argument":
            inputs = values
        elif value is not True and value is not False:
            arguments += [part for one in values for part in (param.opts[0], one)]
        elif value:
            arguments.append(param.opts[0])
    return [*arguments, "--engine", "local", "--quiet", "--json", "--allow-failures", "100%", *inputs]


def _share(arguments: list[str], folder: str) -> tuple[int, bytes, str]:
    """On a node: exit code, stdout and stderr of one share; it sees the devices that Ray gave this task."""
    command = [sys.executable, "-m", "mgtool.commands.main", *arguments]
    own = {name: value for name, value in os.environ.items() if not name.startswith("MGTOOL_")}
    ended = subprocess.run(command, cwd=folder, env=own, capture_output=True, check=False)  # noqa: S603 - this command
    return ended.returncode, ended.stdout, ended.stderr.decode(errors="replace")


def _check(code: int, _: bytes, stderr: str) -> None:
    if code in (DONE, ITEMS_FAILED):
        return
    if code < 0:
        raise OutputError(f"a share ended with {code}; {_GOES_ON}")
    said = stderr.strip().splitlines()[-1:] or [f"a share ended with {code}"]
    raise (RuntimeError if code == DEFECT else OutputError)(said[0].removeprefix("error: "))
