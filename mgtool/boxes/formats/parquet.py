"""Boxes as a Parquet table, or as an Arrow one of a data set that Hugging Face `datasets` saved."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from mgtool.boxes.formats import hub_objects
from mgtool.boxes.formats.base import BoxEntry, BoxFile, BoxFormat, Pairs, Records
from mgtool.boxes.formats.entries import to_entry
from mgtool.errors import InputError
from mgtool.files.atomic import atomic_file
from mgtool.files.folder_tree import named_below
from mgtool.files.parquet_size import rows_at_once

ENDING = ".parquet"
FILE = f"boxes{ENDING}"
ARROW, _ARROW_FILE = ".arrow", b"ARROW1"
_SAVED = ("state.json", "dataset_dict.json", "dataset_info.json")
BATCH_ROWS = 1024
"""Rows that are read or written at once."""
PICTURE_ROWS = 16
"""The same where pictures are among the columns."""


def in_folder(folder: Path) -> list[Path]:
    """All tables, those in ``data``, where the hub's data sets have them, or those that `datasets` saved."""
    if found := sorted(folder.glob(f"*{ENDING}")) or sorted(folder.glob(f"data/*{ENDING}")):
        return found
    is_saved = any((folder / name).is_file() for name in _SAVED)
    saved = (path for path in named_below(folder, f"*{ARROW}") if not path.name.startswith("cache-"))
    return list(saved) if is_saved else []


def recognises(file: BoxFile) -> bool:
    """An Arrow file or stream, as `datasets` saves them."""
    return file.ending == ARROW


def read(file: BoxFile) -> Iterator[BoxEntry]:
    """A record a row; what a row does not have is null.

    Raises:
        InputError: no table of Parquet or Arrow.
    """
    import pyarrow

    try:
        with _opened(file) as (schema, batches):
            names = hub_objects.class_names(schema.metadata)
            has_pictures = hub_objects.COLUMN in schema.names
            rows = (row for batch in batches(PICTURE_ROWS if has_pictures else BATCH_ROWS) for row in batch.to_pylist())
            for number, row in enumerate(rows, 1):
                where = f"{file.path}: row {number}"
                yield hub_objects.entry(row, names, file, where) if has_pictures else _own(row, str(file.path))
    except (pyarrow.ArrowException, OSError, ValueError, ArithmeticError) as error:
        kind = file.ending.removeprefix(".")
        raise InputError(f"{file.path}: not a readable {kind} file: {error}") from error


@contextlib.contextmanager
def _opened(file: BoxFile) -> Iterator[tuple[Any, Callable[[int], Iterator[Any]]]]:
    """A table's schema, and what gives its rows, so many at once."""
    import pyarrow as pa

    if file.ending != ARROW:
        from pyarrow import parquet

        with parquet.ParquetFile(file.path) as table:
            rows = functools.partial(rows_at_once, table.metadata, where=str(file.path))
            yield table.schema_arrow, lambda most: table.iter_batches(rows(most))
        return
    with pa.memory_map(str(file.path)) as mapped:
        is_file = mapped.read(len(_ARROW_FILE)) == _ARROW_FILE
        mapped.seek(0)
        opened = pa.ipc.open_file(mapped) if is_file else pa.ipc.open_stream(mapped)
        stored = map(opened.get_batch, range(opened.num_record_batches)) if is_file else opened
        yield opened.schema, functools.partial(_cut, stored)


def _cut(batches: Iterable[Any], rows: int) -> Iterator[Any]:
    return (batch.slice(at, rows) for batch in batches for at in range(0, batch.num_rows, rows))


def _own(row: dict[str, Any], where: str) -> BoxEntry:
    return to_entry({key: value for key, value in row.items() if value is not None}, where)


def write(folder: Path, records: Records, pairs: Pairs) -> None:
    """A table, a row a picture."""
    import pyarrow as pa
    from pyarrow import parquet

    schema, pending = _schema(), records()
    with atomic_file(folder / FILE) as file, parquet.ParquetWriter(file, schema) as writer:
        while rows := list(islice(pending, BATCH_ROWS)):
            table = [{name: to_builtins(getattr(record, name)) for name in schema.names} for record in rows]
            writer.write_table(pa.Table.from_pylist(table, schema=schema))


def _schema() -> Any:
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    found = {"boxes": pa.list_(pa.list_(number)), "scores": pa.list_(number), "labels": pa.list_(text)}
    frames = pa.list_(pa.struct({"index": pa.int64(), "time": number, **found}))
    picture = {"image": text, "sha256": text, "width": pa.int32(), "height": pa.int32()}
    return pa.schema({**picture, **found, "tags": pa.list_(text), "video": text, "frames": frames})


FORMAT = BoxFormat(ending=ENDING, in_folder=in_folder, recognises=recognises, read=read, files=(FILE,), write=write)
