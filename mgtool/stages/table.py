"""Models x benchmarks -> one table: every cell is asked and scored, each step goes on where it stopped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mgtool.detection.options import DetectOptions
from mgtool.errors import InputError, UsageError, one_of
from mgtool.evaluation.options import EvalOptions
from mgtool.evaluation.table import Cell, Column, Row, TableSpec, placed, placed_path, read_spec
from mgtool.evaluation.table_options import TableOptions
from mgtool.files.atomic import write_bytes
from mgtool.files.lock import one_writer
from mgtool.files.no_links import refuse_links
from mgtool.inference.options import InferOptions
from mgtool.records import Advance, dumps
from mgtool.report import cells as report
from mgtool.runs import progress
from mgtool.runs.workers import SPAWN, pool
from mgtool.stages.detect import detect
from mgtool.stages.evaluate import Evaluation, evaluate
from mgtool.stages.infer import infer

ANSWERS, SCORES, BOXES = "answers.jsonl", "scores", "boxes"
Place = tuple[Row, Column]
FILES = ("table.md", "table.tex", "table.csv", "table.html", "table.json")


@dataclass(frozen=True)
class Table:
    """A finished table.

    Attributes:
        title, baseline: as its TOML says.
        cells: row by row.
        out: the folder with the table's files, and one for each cell.
    """

    title: str
    baseline: str
    cells: list[Cell]
    out: Path

    def _repr_html_(self) -> str:
        return report.page(self.title, self.baseline, self.cells)


def table(
    spec: str | Path,
    out: str | Path,
    options: TableOptions | None = None,
    *,
    overwrite: bool = False,
    wait: bool = False,
    advance: Advance = lambda count: None,
    tell: Callable[[str], None] = lambda text: None,
) -> Table:
    """Ask every model every benchmark, score the answers, and write the table as Markdown, LaTeX, CSV, HTML and JSON.

    Args:
        spec: the table's TOML: see `TableSpec`.
        out: folder to write; what is done there is not done again.
        options: how; None for one cell after the other.
        overwrite, wait: as of `infer`.
        advance: told of cells that are done.
        tell: told which cell is next.

    Raises:
        MgtoolError: as of `detect`, `infer` and `evaluate`; what is wrong with a cell's options names the cell.
    """
    work = _work(spec, out, options, overwrite=overwrite)
    with one_writer(work.out, wait=wait):
        made = work.table(advance, tell)
        _write(made)
    return made


def plan(spec: str | Path, out: str | Path, options: TableOptions | None = None) -> list[tuple[str, str, str]]:
    """Row, column and what is done for each cell of `table`, in its order; nothing is loaded or written.

    Raises:
        MgtoolError: as of `table`, where the TOML itself is wrong.
    """
    work = _work(spec, out, options, overwrite=False)
    return [(row.name, column.name, work.told(row, column)) for row, column in work.order()]


def _work(spec: str | Path, out: str | Path, options: TableOptions | None, *, overwrite: bool) -> _Work:
    options = options or TableOptions()
    bases = [Path(spec).resolve().parent, *([options.data.resolve()] if options.data else [])]
    return _Work(read_spec(Path(spec)), bases, Path(out), options, overwrite)


@dataclass(frozen=True)
class _Work:
    """What a table is filled with."""

    spec: TableSpec
    bases: Sequence[Path]
    out: Path
    options: TableOptions
    overwrite: bool

    def table(self, advance: Advance, tell: Callable[[str], None]) -> Table:
        """Every cell, row by row."""
        cells = list(self.order())
        progress.started(advance, len(cells))
        found: dict[tuple[str, str], Cell] = {}
        fill = self._one_by_one if self.options.jobs == 1 else self._together
        for cell in fill(cells, tell):
            found[cell.row, cell.column] = cell
            advance(1)
        ordered = [found[row.name, column.name] for row in self.spec.rows for column in self.spec.columns]
        return Table(self.spec.title, self.spec.baseline, ordered, self.out)

    def _one_by_one(self, cells: Sequence[Place], tell: Callable[[str], None]) -> Iterator[Cell]:
        for row, column in cells:
            tell(f"{row.name}: {column.name}")
            yield self.cell(row, column)

    def _together(self, cells: Sequence[Place], tell: Callable[[str], None]) -> Iterator[Cell]:
        """Several at a time; the baseline's first, whose answers the others are compared with."""
        baseline = [cell for cell in cells if cell[0].name == self.spec.baseline]
        with pool(self.options.jobs, SPAWN, "fills cells", option="jobs") as workers:
            for part in (baseline, [cell for cell in cells if cell not in baseline]):
                running = {workers.submit(self.cell, row, column): f"{row.name}: {column.name}" for row, column in part}
                for future in as_completed(running):
                    yield future.result()
                    tell(running[future])

    def order(self) -> Iterator[tuple[Row, Column]]:
        """The baseline first, which the others are compared with."""
        for row in sorted(self.spec.rows, key=lambda row: row.name != self.spec.baseline):
            yield from ((row, column) for column in self.spec.columns)

    def cell(self, row: Row, column: Column) -> Cell:
        """Ask and score one model in one benchmark."""
        refuse_links(self._folder(row, column).parent)
        answers = self._answers(row, column)
        compare = ""
        if self.spec.baseline and row.name != self.spec.baseline:
            compare = str(self._answers_file(self._row(self.spec.baseline), column))
        chosen = {**self._options("eval", row, column), "benchmark": column.benchmark or column.name}
        for name in ("questions", "boxes"):
            if name in chosen:
                chosen[name] = Path(chosen[name])
        chosen["ground_truth"] = [Path(path) for path in chosen.get("ground_truth", ())] or None
        options = _made(EvalOptions, {**chosen, "compare": compare}, f"{row.name}, {column.name}: eval")
        scored = evaluate(answers, options, self._folder(row, column) / SCORES, overwrite=self.overwrite)
        return _cell(row, column, scored)

    def _answers(self, row: Row, column: Column) -> Path:
        """The file of answers, once they are there."""
        file, where = self._answers_file(row, column), f"{row.name}, {column.name}"
        if column.name in row.answers:
            return file
        if not column.inputs:
            raise InputError(f"{where}: neither `inputs` of the benchmark nor `answers` of the row")
        inputs = [placed_path(name, self.bases) for name in column.inputs]
        chosen = self._options("infer", row, column)
        if looked := self._options("detect", row, column):
            looked.setdefault("images", chosen.get("images"))
            boxes = self._folder(row, column) / BOXES
            looked = {**self.options.of_cells, **looked}
            detect(inputs, boxes, _made(DetectOptions, looked, f"{where}: detect"), overwrite=self.overwrite)
            chosen["boxes"] = str(boxes)
        if "model" not in chosen:
            raise InputError(f"{where}: no `model` in infer, and no `answers`")
        chosen = {**self.options.of_cells, **chosen}
        infer(inputs, file, _made(InferOptions, chosen, f"{where}: infer"), overwrite=self.overwrite)
        return file

    def _answers_file(self, row: Row, column: Column) -> Path:
        given = row.answers.get(column.name)
        return self._folder(row, column) / ANSWERS if given is None else Path(placed_path(given, self.bases))

    def told(self, row: Row, column: Column) -> str:
        """What is done for a cell, in words."""
        file = self._answers_file(row, column)
        if column.name in row.answers:
            return f"scores {file}" if file.exists() else f"scores {file}, which is not there"
        boxes = ["finds boxes"] if self._options("detect", row, column) else []
        asked = f"asks {self._options('infer', row, column).get('model', 'no model')}"
        return ", ".join([*boxes, "has answers" if file.exists() else asked, "scores"])

    def _options(self, kind: str, row: Row, column: Column) -> dict[str, Any]:
        return placed(self.spec.options(kind, row, column), self.bases)

    def _folder(self, row: Row, column: Column) -> Path:
        """A cell's folder; names that differ have different ones."""
        number = [one.name for one in self.spec.rows].index(row.name) + 1
        return self.out / f"{number:02d}-{_plain(row.name)}" / _plain(column.name)

    def _row(self, name: str) -> Row:
        return next(row for row in self.spec.rows if row.name == name)


def _plain(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "cell"


def _made(kind: type[Any], values: Mapping[str, Any], where: str) -> Any:
    """Options of a kind, from what the TOML says.

    Raises:
        UsageError: naming the cell and the field.
    """
    known = [field.name for field in fields(kind)]
    for name in values:
        if name not in known:
            raise UsageError("", f"{where}: {name} is no field of these options: {one_of(name, known)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise UsageError("", f"{where}: {error}") from error


def _cell(row: Row, column: Column, scored: Evaluation) -> Cell:
    metrics = scored.result.metrics
    metric = column.metric or next(iter(metrics), "")
    if metric not in metrics:
        raise UsageError("", f"{column.name}: metric {metric}: there are {one_of(metric, metrics)}")
    compared = scored.comparison
    return Cell(
        row=row.name,
        column=column.name,
        metric=metric,
        value=metrics[metric],
        difference=None if compared is None else compared.metrics.get(metric),
        published=row.published.get(column.name),
        source=row.source if column.name in row.published else "",
        provenance=scored.result.provenance.line,
        unanswered=scored.unanswered,
    )


def _write(made: Table) -> None:
    title, baseline, cells = made.title, made.baseline, made.cells
    written = {
        "table.md": report.text(title, baseline, cells, "markdown"),
        "table.tex": report.text(title, baseline, cells, "latex"),
        "table.csv": report.separated(cells),
        "table.html": report.page(title, baseline, cells),
        "table.json": dumps({"title": title, "baseline": baseline, "cells": cells}).decode() + "\n",
    }
    for name, text in written.items():
        write_bytes(made.out / name, text.encode("utf-8"))
