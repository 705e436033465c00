"""Boxes as a Parquet table."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from mgtool.boxes.formats import hub_objects
from mgtool.boxes.formats.base import BoxEntry, BoxFile, BoxFormat, Pairs, Records
from mgtool.boxes.formats.entries import to_entry
from mgtool.errors import InputError
from mgtool.files.atomic import atomic_file

ENDING = ".parquet"
FILE = f"boxes{ENDING}"
BATCH_ROWS = 1024
"""Rows that are read or written at once."""
PICTURE_ROWS = 16
"""The same where pictures are among the columns."""


def in_folder(folder: Path) -> list[Path]:
    """All tables, or those in ``data``, where the hub's data sets have them."""
    return sorted(folder.glob(f"*{ENDING}")) or sorted(folder.glob(f"data/*{ENDING}"))


def read(file: BoxFile) -> Iterator[BoxEntry]:
    """A record a row; what a row does not have is null.

    Raises:
        InputError: no Parquet table.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file.path) as table:
            schema = table.schema_arrow
            names = hub_objects.class_names(schema.metadata)
            has_pictures = hub_objects.COLUMN in schema.names
            batches = table.iter_batches(PICTURE_ROWS if has_pictures else BATCH_ROWS)
            for number, row in enumerate(chain.from_iterable(batch.to_pylist() for batch in batches), 1):
                where = f"{file.path}: row {number}"
                yield hub_objects.entry(row, names, file, where) if has_pictures else _own(row, str(file.path))
    except (pyarrow.ArrowException, OSError, ValueError, ArithmeticError) as error:
        raise InputError(f"{file.path}: not a readable parquet file: {error}") from error


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


FORMAT = BoxFormat(ending=ENDING, in_folder=in_folder, read=read, files=(FILE,), write=write)
