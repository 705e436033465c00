"""The options of `mgtool table`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mgtool.commands.options import EngineOption as Engine
from mgtool.commands.options import RayAddress as RayAddress

Spec = Annotated[Path, typer.Argument(metavar="TABLE.toml", help="The models, the benchmarks, and how each is asked.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the table, the answers and the scores.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Where paths of the TOML start that name nothing beside it."),
]
Jobs = Annotated[int, typer.Option("--jobs", help="Cells that are filled at a time, each by a process of its own.")]
Format = Annotated[
    str, typer.Option("--format", metavar="F", help="Of what is printed: table, markdown or latex; all are written.")
]

__all__ = ["Data", "Engine", "Format", "Jobs", "Out", "RayAddress", "Spec"]
