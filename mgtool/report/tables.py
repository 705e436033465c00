"""Results as tables: plain text for a terminal, Markdown, LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from mgtool.errors import UsageError
from mgtool.evaluation.comparison import Difference
from mgtool.scoring.statistics import Metric

Format = Literal["table", "markdown", "latex"]
Rows = Sequence[Sequence[str]]
HEADER = ("metric", "value", "± s.e.", "95 % interval", "n")
COMPARED = ("metric", "first", "second", "difference", "95 % interval", "p")
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "–": "--",
    }
)


def metric_rows(metrics: Mapping[str, Metric]) -> list[tuple[str, ...]]:
    """One row for each metric, under `HEADER`."""
    return [(name, number(m.value), number(m.stderr), interval(m.interval), f"{m.n:,}") for name, m in metrics.items()]


def difference_rows(differences: Mapping[str, Difference]) -> list[tuple[str, ...]]:
    """One row for each metric, under `COMPARED`."""
    return [
        (name, number(d.first), number(d.second), signed(d.difference), interval(d.interval), p_text(d.p_value))
        for name, d in differences.items()
    ]


def number(value: float | None) -> str:
    """Two digits; a dash for what is not defined."""
    return "–" if value is None else f"{value:.2f}"


def signed(value: float | None) -> str:
    """Two digits with the sign."""
    return "–" if value is None else f"{value:+.2f}"


def interval(ends: tuple[float, float] | None) -> str:
    """Both ends of an interval."""
    return "–" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"


def p_text(value: float | None) -> str:
    """A p-value, never as zero."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def render(header: Sequence[str], rows: Rows, form: Format) -> str:
    """A table in one of the formats, ending in a newline.

    >>> print(render(("metric", "value"), [("f1", "85.90")], "markdown"), end="")
    | metric | value |
    |:-------|------:|
    | f1     | 85.90 |
    """
    return _RENDER[form](header, rows)


def form(name: str) -> Format:
    """A format by its name.

    Raises:
        UsageError: for an unknown name.
    """
    for known in _RENDER:
        if known == name:
            return known
    raise UsageError("format", f"{name}: there are {', '.join(_RENDER)}")


def _widths(header: Sequence[str], rows: Rows) -> list[int]:
    return [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]


def _plain(header: Sequence[str], rows: Rows) -> str:
    widths = _widths(header, rows)
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in (header, ["-" * width for width in widths], *rows)]
    return "\n".join(lines) + "\n"


def _markdown(header: Sequence[str], rows: Rows) -> str:
    def clean(row: Sequence[str]) -> list[str]:
        return [cell.replace("|", "\\|").replace("\n", " ") for cell in row]

    cells = [clean(row) for row in (header, *rows)]
    widths = _widths(cells[0], cells[1:])
    rule = [":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])]
    lines = ["| " + " | ".join(_aligned(row, widths)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join(rule) + "|")
    return "\n".join(lines) + "\n"


def _latex(header: Sequence[str], rows: Rows) -> str:
    def line(row: Sequence[str]) -> str:
        return " & ".join(cell.translate(_LATEX) for cell in row) + r" \\"

    body = [line(header), r"\midrule", *(line(row) for row in rows)]
    columns = "l" + "r" * (len(header) - 1)
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *body, r"\bottomrule", r"\end{tabular}"]) + "\n"


_RENDER: dict[Format, Callable[[Sequence[str], Rows], str]] = {
    "table": _plain,
    "markdown": _markdown,
    "latex": _latex,
}
