"""A Parquet file's rows, with names in place of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from mgtool.errors import InputError
from mgtool.files.parquet_size import rows_at_once

_BATCH_ROWS, _MOST_BYTES = 1 << 12, 1 << 29


def parquet_rows(file: IO[bytes], picture: str, *, where: Path) -> list[dict[str, Any]]:
    """The rows without their pictures, whose bytes are not read.

    Args:
        file: one that seeks.
        picture: the column that gets its pictures' names instead, as `mgtool infer` calls them.
        where: the file's own name, and what messages call it.

    Raises:
        InputError: it cannot be read.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as opened:
            schema = opened.schema_arrow
            pictures = [field.name for field in schema if _is_picture(field.type)]
            columns = [field.name for field in schema if field.name not in pictures]
            rows = [row for batch in _batches(opened, columns, where) for row in batch.to_pylist()]
            if picture in pictures:
                names = _picture_names(opened, picture, where.stem)
                rows = [{**row, picture: name} for row, name in zip(rows, names, strict=True)]
    except (pa.ArrowException, OSError, ValueError, ArithmeticError, LookupError) as error:
        raise InputError(f"{where}: cannot be read as Parquet: {error}") from error
    return [{key: value for key, value in row.items() if value is not None} for row in rows]


def _batches(file: Any, columns: list[str], where: Path) -> Iterator[Any]:
    """The rows, as long as they are no more than memory is for.

    Raises:
        InputError: they are.
    """
    size = 0
    for batch in file.iter_batches(rows_at_once(file.metadata, _BATCH_ROWS, str(where)), columns=columns):
        if (size := size + batch.nbytes) > _MOST_BYTES:
            raise InputError(f"{where}: rows of more than {_MOST_BYTES:,} bytes, pictures aside; no ground truth has")
        yield batch


def _picture_names(file: Any, picture: str, stem: str) -> list[str | None]:
    """A name for each row's picture: its own, but where several rows all have one; None for a row without a picture."""
    paths = {file.schema.column(number).path for number in range(len(file.schema))}
    if f"{picture}.path" not in paths:
        return [f"{stem}-{number}" for number in range(1, file.metadata.num_rows + 1)]
    rows = file.read([f"{picture}.path"]).column(picture)
    own = [Path(str(row["path"])).name if row and row["path"] else "" for row in rows.to_pylist()]
    told = own if len(set(own)) > 1 or len(own) == 1 else [""] * len(own)
    return [
        (name or f"{stem}-{number}") if row.is_valid else None
        for number, (name, row) in enumerate(zip(told, rows, strict=True), 1)
    ]


def _is_picture(type: Any) -> bool:
    """Whether a Parquet column holds pictures, as the Hub's data sets do: their bytes and their name."""
    import pyarrow as pa

    return bool(pa.types.is_struct(type)) and type.get_field_index("bytes") >= 0
