"""Tables for a terminal, Markdown and LaTeX."""

from __future__ import annotations

import pytest

from mgtool.errors import UsageError
from mgtool.report import tables
from mgtool.scoring.statistics import Metric

METRICS = {"f1_of|a": Metric(value=85.901, stderr=1.234, interval=(83.4, 88.4), n=1234), "APs": Metric(value=None)}


def test_table() -> None:
    assert tables.render(tables.HEADER, tables.metric_rows(METRICS), "table") == (
        "metric   value  ± s.e.   95 % interval      n\n"
        "-------  -----  ------  --------------  -----\n"
        "f1_of|a  85.90    1.23  83.40 to 88.40  1,234\n"
        "APs          –       –               –      0\n"
    )


def test_markdown_escapes_bars() -> None:
    assert "| f1_of\\|a | 85.90 |" in tables.render(tables.HEADER, tables.metric_rows(METRICS), "markdown")


def test_latex_escapes() -> None:
    text = tables.render(tables.HEADER, tables.metric_rows(METRICS), "latex")
    assert text.startswith(
        "\\begin{tabular}{lrrrr}\n\\toprule\nmetric & value & $\\pm$ s.e. & 95 \\% interval & n \\\\\n"
    )
    assert "f1\\_of|a & 85.90" in text


def test_formats() -> None:
    assert tables.form("latex") == "latex"
    with pytest.raises(UsageError, match="`format` pdf: there are table, markdown, latex"):
        tables.form("pdf")


def test_p_values_are_never_zero() -> None:
    assert [tables.p_text(value) for value in (None, 0.0, 0.0004, 0.04)] == ["–", "< 0.001", "< 0.001", "0.040"]
