"""A table of models x benchmarks: one row a model, and one row a number with all that is known of it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from html import escape

from mgtool.evaluation.table import Cell
from mgtool.report import tables

DETAILS = (
    *("model", "benchmark", "metric", "value", "95 % interval", "n", "unanswered", "difference", "its interval", "p"),
    *("published", "off", "source", "asked"),
)
SIGNIFICANT = 0.05
MARK = "*"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-][0-9.,]+%?")


def grid(cells: Sequence[Cell]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows, a model a row; values that differ from the baseline's are marked."""
    columns = list(dict.fromkeys(cell.column for cell in cells))
    found = {(cell.row, cell.column): cell for cell in cells}
    rows = [
        (name, *(_text(found.get((name, column))) for column in columns))
        for name in dict.fromkeys(cell.row for cell in cells)
    ]
    return ("model", *columns), rows


def _text(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    p = None if cell.difference is None else cell.difference.p_value
    mark = MARK if p is not None and p < SIGNIFICANT else ""
    return f"{tables.number(cell.value.value)}{mark} ({tables.reach(cell.value)})"


def details(cells: Sequence[Cell]) -> list[tuple[str, ...]]:
    """A row a cell, under `DETAILS`."""
    return [
        (
            *(cell.row, cell.column, cell.metric, tables.number(cell.value.value), tables.reach(cell.value)),
            *(f"{cell.value.n:,}", f"{cell.unanswered:,}"),
            *_difference(cell),
            *(tables.number(cell.published), tables.signed(cell.off_published), cell.source, cell.provenance),
        )
        for cell in cells
    ]


def _difference(cell: Cell) -> tuple[str, str, str]:
    found = cell.difference
    if found is None:
        return "–", "–", "–"
    return tables.signed(found.difference), tables.interval(found.interval), tables.p_text(found.p_value)


def note(baseline: str) -> str:
    """What the marks mean."""
    return f"{MARK} p < {SIGNIFICANT} against {baseline}, paired over the same items" if baseline else ""


def text(title: str, baseline: str, cells: Sequence[Cell], form: tables.TableFormat) -> str:
    """The table in one of the formats, with what the marks mean."""
    header, rows = grid(cells)
    lines = [line for line in (title, note(baseline)) if line]
    return tables.render(header, rows, form) + "".join(tables.caption(line, form) for line in lines)


def page(title: str, baseline: str, cells: Sequence[Cell]) -> str:
    """Both tables as one HTML page."""
    header, rows = grid(cells)
    parts = [
        tables.html(f"{title} {note(baseline)}".strip(), header, rows),
        tables.html("Each number", DETAILS, details(cells)),
    ]
    style = "body{font-family:sans-serif}table{border-collapse:collapse;margin:1em}td,th{border:1px solid;padding:.3em}"
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{style}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def separated(cells: Sequence[Cell]) -> str:
    """A line a number, with commas, as spreadsheets read them."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerows([DETAILS, *(map(harmless, row) for row in details(cells))])
    return file.getvalue()


def harmless(cell: str) -> str:
    """A text that no spreadsheet takes for a formula: one that looks like it has an apostrophe before it.

    >>> harmless("=1+1"), harmless("@sum"), harmless("-1.5"), harmless("llava")
    ("'=1+1", "'@sum", '-1.5', 'llava')
    """
    return f"'{cell}" if cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell) else cell
