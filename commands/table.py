"""`mgtool table`: models x benchmarks -> one table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mgtool.commands import console
from mgtool.commands.options import Json, Overwrite, Quiet, Wait

Spec = Annotated[Path, typer.Argument(metavar="TABLE.toml", help="The models, the benchmarks, and how each is asked.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the table, the answers and the scores.")]
Format = Annotated[
    str, typer.Option("--format", metavar="F", help="Of what is printed: table, markdown or latex; all are written.")
]


def table(
    spec: Spec,
    out: Out,
    format: Format = "table",
    quiet: Quiet = False,
    as_json: Json = False,
    overwrite: Overwrite = False,
    wait: Wait = False,
) -> None:
    """Ask models and score their answers for a whole table, with intervals, significance and published values."""
    from mgtool.report import cells, tables
    from mgtool.stages.table import table as stage

    form = tables.form(format)
    made = stage(spec, out, overwrite=overwrite, wait=wait, tell=(lambda text: None) if quiet else console.say)
    if as_json:
        sys.stdout.write((out / "table.json").read_text(encoding="utf-8"))
    else:
        sys.stdout.write(cells.text(made.title, made.baseline, made.cells, form))
