"""Models x benchmarks: what a table is asked for, and what each of its cells holds."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mgtool.errors import InputError, UsageError, one_of
from mgtool.evaluation.comparison import Difference
from mgtool.files.regular import read_regular
from mgtool.records import convert
from mgtool.scoring.statistics import Metric

_MOST_BYTES = 1 << 20


class StageOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields of the options of each stage: a row's go before a column's, and those before the table's."""

    infer: dict[str, Any] = {}
    eval: dict[str, Any] = {}
    detect: dict[str, Any] = {}


class Column(StageOptions, frozen=True, kw_only=True):
    """A benchmark of the table.

    Attributes:
        name: what the column and its folders are called.
        benchmark: its name in `mgtool.benchmarks.TABLE`; empty for `name`.
        inputs: questions; none where all rows bring their answers.
        metric: the number that is shown; empty for the first.
    """

    name: str
    benchmark: str = ""
    inputs: list[str] = []
    metric: str = ""


class Row(StageOptions, frozen=True, kw_only=True):
    """A model, or one way to ask it; with any of `detect` boxes are found first.

    Attributes:
        name: what the row and its folders are called.
        answers: files of answers by column, in place of asking a model.
        published: values by column that a public source gives.
        source: that source.
    """

    name: str
    answers: dict[str, str] = {}
    published: dict[str, float] = {}
    source: str = ""


class TableSpec(StageOptions, frozen=True, kw_only=True):
    """The content of a table's TOML; paths in it start from its folder.

    Attributes:
        title: of the table.
        baseline: the row that the others are compared with; empty for none.
        rows, columns: ``[[row]]`` and ``[[benchmark]]``.
    """

    title: str = ""
    baseline: str = ""
    rows: list[Row] = msgspec.field(default_factory=list, name="row")
    columns: list[Column] = msgspec.field(default_factory=list, name="benchmark")

    def options(self, kind: str, row: Row, column: Column) -> dict[str, Any]:
        """The fields of one cell's options: the table's, the column's, the row's."""
        return {**getattr(self, kind), **getattr(column, kind), **getattr(row, kind)}


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """What one model has in one benchmark.

    Attributes:
        row, column, metric: of what.
        value: with its interval and number of items.
        difference: to the baseline, over the same items; None for the baseline itself.
        published: of the row's source; None where it gives none.
        source: that source.
        provenance: model, prompt, decoding, split and judge, in words.
        unanswered: items without an answer, which count as wrong.
    """

    row: str
    column: str
    metric: str
    value: Metric
    difference: Difference | None = None
    published: float | None = None
    source: str = ""
    provenance: str = ""
    unanswered: int = 0

    @property
    def off_published(self) -> float | None:
        """The value less the published one."""
        known = self.published is not None and self.value.value is not None
        return self.value.value - self.published if known else None  # type: ignore[operator] # both are known


def read_spec(path: Path) -> TableSpec:
    """A table's TOML.

    Raises:
        InputError: a file that cannot be read, or that does not say what a table is; it names the field.
        UsageError: names that are given twice, or that nothing has.
    """
    try:
        said = tomllib.loads(read_regular(path, _MOST_BYTES).decode("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as TOML: {error}") from error
    spec = convert(said, TableSpec, where=str(path))
    for what, named in (("row", spec.rows), ("benchmark", spec.columns)):
        names = [one.name for one in named]
        if not names or len(set(names)) < len(names):
            raise UsageError("", f"{path}: {'no' if not names else 'two of one name among'} [[{what}]]")
    _check_names(path, spec)
    return spec


def _check_names(path: Path, spec: TableSpec) -> None:
    rows, columns = ([one.name for one in named] for named in (spec.rows, spec.columns))
    if spec.baseline and spec.baseline not in rows:
        raise UsageError("", f"{path}: baseline {spec.baseline}: the rows are {one_of(spec.baseline, rows)}")
    for row in spec.rows:
        for name in (*row.answers, *row.published):
            if name not in columns:
                raise UsageError("", f"{path}: {row.name}: {name}: the benchmarks are {one_of(name, columns)}")


_PATHS = ("model", "images", "boxes", "cache", "questions", "ground_truth", "compare")


def placed(options: Mapping[str, Any], folders: Sequence[Path]) -> dict[str, Any]:
    """Options with the paths among them that start from one of the folders; names of models and the like stay.

    >>> placed({"model": "tiny", "task": "pope"}, [Path("/nowhere")])
    {'model': 'tiny', 'task': 'pope'}
    """
    return {name: _placed(value, folders) if name in _PATHS else value for name, value in options.items()}


def placed_path(name: str, folders: Sequence[Path]) -> str:
    """A path from the first folder in which it is there; as it stands where it is in none."""
    return next((str(folder / name) for folder in folders if (folder / name).exists()), name)


def _placed(value: Any, folders: Sequence[Path]) -> Any:
    if isinstance(value, list):
        return [_placed(one, folders) for one in value]
    return placed_path(value, folders) if isinstance(value, str) else value
