"""`mgtool table`: models x benchmarks -> one table."""

from __future__ import annotations

import sys
from pathlib import Path

from mgtool.commands import console, summaries
from mgtool.commands import table_options as options
from mgtool.commands.options import Config, DryRun, Json, Overwrite, Quiet, Wait
from mgtool.evaluation.table_options import TableOptions


def table(
    spec: options.Spec,
    out: options.Out,
    data: options.Data = TableOptions.data,
    jobs: options.Jobs = TableOptions.jobs,
    engine: options.Engine = TableOptions.engine,
    ray_address: options.RayAddress = TableOptions.ray_address,
    format: options.Format = "table",
    quiet: Quiet = False,
    as_json: Json = False,
    config: Config = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    wait: Wait = False,
) -> None:
    """Ask models and score their answers for a whole table, with intervals, significance and published values."""
    asked = TableOptions(data=data, jobs=jobs, engine=engine, ray_address=ray_address)
    if dry_run:
        _show_plan(spec, out, asked, as_json=as_json)
        return
    from mgtool.report import cells, tables
    from mgtool.stages.table import table as stage

    form = tables.form(format)
    with console.progress("cells", quiet=quiet) as advance:
        tell = (lambda text: None) if quiet else console.say
        made = stage(spec, out, asked, overwrite=overwrite, wait=wait, advance=advance, tell=tell)
    if as_json:
        sys.stdout.write((out / "table.json").read_text(encoding="utf-8"))
    else:
        sys.stdout.write(cells.text(made.title, made.baseline, made.cells, form))
        sys.stdout.flush()
    if not quiet:
        console.say(f"took {summaries.took(len(made.cells))['seconds']:,.1f} s; page: {out / 'table.html'}")


def _show_plan(spec: Path, out: Path, asked: TableOptions, *, as_json: bool) -> None:
    from mgtool.stages.table import plan

    cells = plan(spec, out, asked)
    summaries.tell({f"{row}: {column}": done for row, column, done in cells}, as_json=as_json)
