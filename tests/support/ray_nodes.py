"""Nodes of a real Ray cluster on this machine, and what may go wrong with them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil


def processes(node: Any) -> list[psutil.Process]:
    """A node's own, and those that they began."""
    found = []
    for infos in node.all_processes.values():
        for info in infos:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(info.process.pid)
                found += [process, *process.children(recursive=True)]
    return found


def kill(these: list[psutil.Process]) -> None:
    """All at once, without a word."""
    for process in these:
        with contextlib.suppress(psutil.Error):
            process.kill()


@contextlib.contextmanager
def standing_still(these: list[psutil.Process]) -> Iterator[None]:
    """In the block they do nothing."""
    for process in these:
        with contextlib.suppress(psutil.Error):
            process.suspend()
    try:
        yield
    finally:
        for process in these:
            with contextlib.suppress(psutil.Error):
                process.resume()


def python_that(folder: Path, code: str) -> dict[str, str]:
    """Variables with which a node's Python does something before all else."""
    folder.mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    return {"PYTHONPATH": f"{folder}:{Path(__file__).parents[2]}"}


WITHOUT_MGTOOL = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name == "mgtool":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Without())
"""
OLDER_MGTOOL = """
from importlib import metadata
plain = metadata.version
metadata.version = lambda name: "0.0.1" if name == "mgtool" else plain(name)
"""


@contextlib.contextmanager
def node_without(folder: Path, address: str, name: str) -> Iterator[None]:
    """A node that sees nothing below a folder: its processes have mounts of their own. As root alone."""
    start = f"start --address={address} --num-cpus=1 --node-name={name} --block --disable-usage-stats"
    command = f"mount -t tmpfs tmpfs {folder} && exec {sys.executable} -m ray.scripts.scripts {start}"
    run = subprocess.Popen(["unshare", "-m", "sh", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        kill([*psutil.Process(run.pid).children(recursive=True), psutil.Process(run.pid)])
        run.wait()
