"""The nodes of a Ray cluster: what each is called, what it needs to have for a run, and how much it did."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgtool.errors import InputError, MgtoolError
from mgtool.files.lock import lock_file
from mgtool.files.store import is_store

ALL_SEE = "all nodes see the same files"
_ID_DIGITS = 6
_PATIENCE_S = 30.0
"""How long a node has to say what it lacks; one that is slower may still do its part of the work."""
_CREDENTIALS = "each node needs credentials, of its role or by `env_vars` of `ray_runtime_env`"
_INSTALL = "install the same mgtool there, or name an environment with `ray_runtime_env`"


def names_of(nodes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What nodes are called, by id: as `ray start` was told, or as their machine; where that is not one, with its id.

    >>> machine = {"NodeName": "10.0.0.1", "NodeManagerAddress": "10.0.0.1", "NodeManagerHostname": "m"}
    >>> names_of([{"NodeID": "a1", **machine}, {"NodeID": "b2", **machine}, {"NodeID": "c", "NodeName": "big"}])
    {'a1': 'm-a1', 'b2': 'm-b2', 'c': 'big'}
    """
    found = {node["NodeID"]: _name_of(node) for node in nodes}
    times = Counter(found[node["NodeID"]] for node in nodes if node.get("Alive", True))
    return {node: name if times[name] <= 1 else f"{name}-{node[:_ID_DIGITS]}" for node, name in found.items()}


def _name_of(node: Mapping[str, Any]) -> str:
    given, address = node.get("NodeName"), node.get("NodeManagerAddress")
    return str(given if given and given != address else node.get("NodeManagerHostname") or address or node["NodeID"])


def here() -> str:
    """What the node of this process is called, also where it is of no cluster."""
    import ray

    try:
        return names_of(ray.nodes())[ray.get_runtime_context().get_node_id()]
    except (RuntimeError, LookupError, ray.exceptions.RayError):
        return socket.gethostname()


@dataclass(frozen=True)
class Needs:
    """What a process on some node has to have.

    Attributes:
        folder: that relative names start from.
        read: paths that this machine has, and that are read there, too.
        written: folders that are written there.
        urls: in stores, that are read there.
        version: of mgtool.
    """

    folder: str
    read: tuple[str, ...]
    written: tuple[str, ...]
    urls: tuple[str, ...]
    version: str

    @classmethod
    def of(cls, *read: str | Path | None) -> Needs:
        """Those of a run that reads here what may be a path, a URL of a file or folder, or a name of something else."""
        given = [str(one) for one in read if one is not None]
        paths = tuple(path for one in given if "://" not in one and one != "-" for path in _seen_here(one))
        urls = tuple(one for one in given if is_store(one) and "{" not in one)
        return cls(os.getcwd(), paths, (), urls, _version())  # noqa: PTH109 - a name

    def with_output(self, out: Path, *, is_file: bool = False) -> Needs:
        """These and an output that this process holds; where that is a copy of one in a store, nodes need it not."""
        from mgtool.runs.remote_output import is_copy  # heavier than all else here

        if is_copy(out):
            return self
        held = lock_file(out, is_file=is_file)  # which another disk of the same name does not have
        seen = (str(held),) if held.exists() else ()
        return dataclasses.replace(self, read=(*self.read, *seen), written=(str(held.parent),))

    def insist(self) -> None:
        """Go to the folder, on a node.

        Raises:
            InputError: naming the node, what it lacks, and the way out.
        """
        if (version := _version()) != self.version:
            raise InputError(f"the node {here()} has mgtool {version}, not {self.version}: {_INSTALL}")
        try:
            os.chdir(self.folder)
            for path in (*self.written, *self.read):
                _insist_on(path, os.R_OK if path in self.read else os.W_OK | os.X_OK)
        except OSError as error:
            where = f"{error.filename or self.folder}, on the node {here()}"
            raise InputError(f"{where}: {error.strerror}: {ALL_SEE}: mount it there") from error
        self._insist_on_urls()

    def _insist_on_urls(self) -> None:
        from mgtool.files import urls

        for url in self.urls:
            try:
                urls.refuse_barred(url)
            except (OSError, MgtoolError) as error:
                raise InputError(f"{url}, on the node {here()}: {error}: {_CREDENTIALS}") from error


def _seen_here(path: str) -> list[str]:
    """A path that can be read, in full, and one entry of a folder: where a disk is not mounted there is none."""
    if not path or not os.access(path, os.R_OK):
        return []
    path = os.path.abspath(path)  # noqa: PTH100 - of links, the names
    if not os.path.isdir(path):  # noqa: PTH112
        return [path]
    with os.scandir(path) as entries:
        return [path, *(entry.path for entry in itertools.islice(entries, 1) if os.access(entry.path, os.R_OK))]


def _insist_on(path: str, rights: int) -> None:
    os.stat(path)  # noqa: PTH116 - names may be any text
    if not os.access(path, rights):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def _version() -> str:
    from mgtool.runs.run_file import versions

    return versions().get("mgtool", "of no version")


def _look(needs: Needs) -> None:
    needs.insist()


def check(ray: Any, needs: Needs, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Ask each of some nodes for what it needs to have, before work begins.

    Args:
        ray: connected.
        needs: of the run.
        nodes: as Ray lists them.

    Raises:
        InputError: one of them lacks something; the others are counted.
    """
    names, asked = names_of(nodes), {_asked(ray, needs, node["NodeID"]): node["NodeID"] for node in nodes}
    told, _ = ray.wait([*asked], num_returns=len(asked), timeout=_PATIENCE_S) if asked else ([], [])
    wrong = [found for ref in told if (found := _wrong(ray, ref, names[asked[ref]])) is not None]
    if wrong:
        more = f"; and {len(wrong) - 1} more nodes like it" if len(wrong) > 1 else ""
        raise type(wrong[0])(f"{wrong[0]}{more}")


def _asked(ray: Any, needs: Needs, node: str) -> Any:
    """What a node will say; one that is full of other work says it, too."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    look = ray.remote(_look).options(num_cpus=0, max_retries=0, name="looks at a node", scheduling_strategy=there)
    return look.remote(needs)


def _wrong(ray: Any, ref: Any, name: str) -> MgtoolError | None:
    """What a node lacks; None where it has all, or has gone."""
    try:
        ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        return error.cause if isinstance(error.cause, MgtoolError) else _unloaded(error, name)
    except ray.exceptions.RuntimeEnvSetupError as error:
        return InputError(f"the node {name}: {_last_line(error)}: mend `ray_runtime_env`")
    except ray.exceptions.RaySystemError as error:
        return _unloaded(error, name)
    except ray.exceptions.RayError:  # it is gone, and its work goes to others
        return None
    return None


def _unloaded(error: Exception, name: str) -> MgtoolError:
    """Of a node that cannot even load what looks."""
    return InputError(f"the node {name}: {_last_line(error)}: {_INSTALL}")


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()


class DoneHere:
    """An `Advance` that counts what this process does itself.

    Attributes:
        done: items.
    """

    def __init__(self) -> None:
        self.done = 0

    def __call__(self, done: int) -> None:
        """So many more items are done."""
        self.done += done

    def known(self, count: int) -> None:
        """Of what an earlier run did, nothing is said."""


done_here = DoneHere()
"""Told by an actor's work of the items that it does."""


class NodeWork:
    """How much each node did.

    Args:
        noun: what is counted.
    """

    def __init__(self, noun: str = "items") -> None:
        self.noun = noun
        self._items, self._began, self._until = Counter[str](), dict[str, float](), dict[str, float]()

    def begins(self, node: str) -> None:
        """It is given its first work now, or some more."""
        self._began.setdefault(node, time.monotonic())

    def does(self, node: str, items: int) -> None:
        """It has done so many more."""
        self._until[node] = time.monotonic()  # first, as a bar is drawn by another thread
        self._items[node] += items

    @property
    def rates(self) -> dict[str, float]:
        """Items a second by node, from its first work to its last result."""
        return {
            node: items / max(self._until[node] - self._began.get(node, self._until[node]), 1e-9)
            for node, items in sorted(self._items.items())
            if items
        }

    def summary(self) -> dict[str, dict[str, float]]:
        """Items, and items a second, by node."""
        return {
            node: {"items": self._items[node], "per_second": round(rate, 2 if rate < 100 else 1)}
            for node, rate in self.rates.items()
        }
