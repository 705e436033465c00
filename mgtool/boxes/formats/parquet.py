"""Boxes as a Parquet table."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from msgspec import to_builtins

from mgtool.boxes.formats.base import Entry, _entry
from mgtool.errors import InputError
from mgtool.files.atomic import atomic_file
from mgtool.records import BoxRecord

_BATCH_ROWS = 1024


def _parquet(path: Path) -> Iterator[Entry]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                for row in batch.to_pylist():
                    yield _entry({key: value for key, value in row.items() if value is not None}, str(path))
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable parquet file: {error}") from error


_ROWS = 1024


def _write_parquet(path: Path, records: Iterator[BoxRecord]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    text, number = pa.string(), pa.float64()
    columns = {"image": text, "sha256": text, "width": pa.int32(), "height": pa.int32()}
    columns |= {"boxes": pa.list_(pa.list_(number)), "scores": pa.list_(number)}
    columns |= {"labels": pa.list_(text), "tags": pa.list_(text), "video": text}
    found = {"boxes": columns["boxes"], "scores": columns["scores"], "labels": columns["labels"]}
    columns["frames"] = pa.list_(pa.struct({"index": pa.int64(), "time": number, **found}))
    schema = pa.schema(columns)
    with atomic_file(path) as file, parquet.ParquetWriter(file, schema) as writer:
        while rows := list(islice(records, _ROWS)):
            table = [{name: to_builtins(getattr(record, name)) for name in schema.names} for record in rows]
            writer.write_table(pa.Table.from_pylist(table, schema=schema))
