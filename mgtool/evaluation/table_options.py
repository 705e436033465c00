"""How a table is filled; light to import, as `mgtool --help` reads the defaults here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mgtool.errors import UsageError
from mgtool.runs.ray_cluster import Engine


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """What `mgtool table` is asked for beside its TOML.

    Attributes:
        data: folder where paths of the TOML start that name nothing beside it.
        jobs: cells that are filled at a time, each by a process of its own.
        engine: ``ray`` hands what `detect` and `infer` do for a cell to a Ray cluster.
        ray_address: of the cluster; None for Ray's own search.

    Raises:
        UsageError: a number of jobs below 1, or several with ``ray``.
    """

    data: Path | None = None
    jobs: int = 1
    engine: Engine = "local"
    ray_address: str | None = None

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise UsageError("jobs", f"{self.jobs}: give a number from 1 on")
        if self.jobs > 1 and self.engine == "ray":
            raise UsageError("jobs", f"{self.jobs}: with `engine` ray the cluster shares the work out: leave it out")
        if self.ray_address is not None and self.engine != "ray":
            raise UsageError("ray_address", f"{self.ray_address}: is of `engine` ray: add it")

    @property
    def of_cells(self) -> dict[str, object]:
        """Fields of the options of every cell's `detect` and `infer`."""
        return {"engine": self.engine, "ray_address": self.ray_address} if self.engine == "ray" else {}
