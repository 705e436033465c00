"""Results as tables: plain text for a terminal, Markdown, LaTeX, HTML.

By hand: tabulate pads differently, escapes no bar in Markdown and takes 8 times as long, rich fits tables to a screen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Literal

from mgtool.errors import UsageError, one_of, without_steering
from mgtool.evaluation.comparison import Difference
from mgtool.scoring.statistics import Metric

TableFormat = Literal["table", "markdown", "latex"]
HEADER = ("metric", "value", "± s.e.", "95 % interval", "n")
COMPARED = ("metric", "first", "second", "difference", "95 % interval", "p", "n needed")
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
    return [(name, number(m.value), number(m.stderr), reach(m), f"{m.n:,}") for name, m in metrics.items()]


def difference_rows(differences: Mapping[str, Difference]) -> list[tuple[str, ...]]:
    """One row for each metric, under `COMPARED`."""
    return [
        (
            *(name, number(d.first), number(d.second), signed(d.difference), interval(d.interval), p_text(d.p_value)),
            "–" if d.needed is None else f"{d.needed:,}",
        )
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


def reach(metric: Metric) -> str:
    """The interval of a metric; n/a where there is a value, but too few clusters for an interval."""
    return "n/a" if metric.interval is None and metric.value is not None else interval(metric.interval)


def p_text(value: float | None) -> str:
    """A p-value, never as zero."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def render(header: Sequence[str], rows: Sequence[Sequence[str]], form: TableFormat) -> str:
    """A table in one of the formats, ending in a newline; what steers a terminal is shown as escapes.

    >>> print(render(("metric", "value"), [("f1", "85.90")], "markdown"), end="")
    | metric | value |
    |:-------|------:|
    | f1     | 85.90 |
    """
    return _RENDER[form]([*map(without_steering, header)], [[*map(without_steering, row)] for row in rows])


def caption(text: str, form: TableFormat) -> str:
    """A line below a table, as its format takes one.

    >>> caption("pope, a model", "latex")
    '% pope, a model\\n'
    """
    line = without_steering(" ".join(text.split()))
    return {"table": f"{line}\n", "markdown": f"\n{line}\n", "latex": f"% {line}\n"}[form]


def html(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as HTML, for a notebook.

    >>> html("pope", ("metric", "value"), [("f1", "<85")])
    '<table><caption>pope</caption><tr><th>metric</th><th>value</th></tr><tr><td>f1</td><td>&lt;85</td></tr></table>'
    """
    lines = [("th", header), *(("td", row) for row in rows)]
    cells = ("".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in row) for kind, row in lines)
    return f"<table><caption>{escape(caption)}</caption>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def form(name: str) -> TableFormat:
    """A format by its name.

    Raises:
        UsageError: for an unknown name.
    """
    for known in _RENDER:
        if known == name:
            return known
    raise UsageError("format", f"{name}: there are {one_of(name, _RENDER)}")


def _widths(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]


def _plain(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = _widths(header, rows)
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in (header, ["-" * width for width in widths], *rows)]
    return "\n".join(lines) + "\n"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def clean(row: Sequence[str]) -> list[str]:
        return [cell.replace("|", "\\|") for cell in row]

    cells = [clean(row) for row in (header, *rows)]
    widths = _widths(cells[0], cells[1:])
    rule = [":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])]
    lines = ["| " + " | ".join(_aligned(row, widths)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join(rule) + "|")
    return "\n".join(lines) + "\n"


def _latex(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(row: Sequence[str]) -> str:
        return " & ".join(cell.translate(_LATEX) for cell in row) + r" \\"

    body = [line(header), r"\midrule", *(line(row) for row in rows)]
    columns = "l" + "r" * (len(header) - 1)
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *body, r"\bottomrule", r"\end{tabular}"]) + "\n"


_RENDER: dict[TableFormat, Callable[[Sequence[str], Sequence[Sequence[str]]], str]] = {
    "table": _plain,
    "markdown": _markdown,
    "latex": _latex,
}
