"""The index file beside tars, whoever wrote it: read where it fits them, and only as much as they can hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from mgtool.errors import RecordError
from mgtool.records import dumps, parse

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow

INDEX_FILE = "samples.parquet"

_SHARDS = b"shards"
_BATCH_ROWS = 1 << 12
_SMALLEST_SAMPLE = 1024
"""Bytes: a header and a block of data; of an index, a sample takes less."""


def schema(sizes: Mapping[str, int]) -> pyarrow.Schema:
    """The columns of an index, and what it belongs to.

    Args:
        sizes: of the tars by their names, in order.
    """
    import pyarrow as pa

    types = {"id": pa.string(), "key": pa.string(), "shard": pa.string(), "offset": pa.int64(), "size": pa.int64()}
    numbers = dict.fromkeys(("width", "height", "boxes"), pa.int32())
    return pa.schema(list((types | numbers).items()), metadata={_SHARDS: dumps(sizes)})


def read(
    file: IO[bytes], sizes: Mapping[str, int], columns: Sequence[str] | None = None, *, is_part: bool = False
) -> pyarrow.Table:
    """The rows of some tars.

    Args:
        file: an index.
        sizes: of the tars in bytes, by their names, in order.
        columns: all where None; with ``shard``, ``offset`` and ``size`` among them.
        is_part: the index may be of more tars.

    Raises:
        ValueError: no index, one of other tars, or one of places that they do not have.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as index:
            noted = _noted(index.schema_arrow)
            if any(noted.get(name) != size for name, size in sizes.items()) or not (is_part or [*noted] == [*sizes]):
                raise ValueError("of other tars")
            batches = list(_batches(index, sizes, columns))
            table = pa.Table.from_batches(batches, None if batches else _chosen(index.schema_arrow, columns))
    except (pa.ArrowException, OSError, RecordError) as error:
        raise ValueError(str(error)) from error
    _check_places(table, sizes)
    return table.combine_chunks()


def _noted(found: pyarrow.Schema) -> dict[str, int]:
    """The tars that an index is of, with their sizes."""
    if not found.equals(schema({})):
        raise ValueError("other columns than an index has")
    return parse((found.metadata or {}).get(_SHARDS, b"{}"), dict[str, int], where=INDEX_FILE)


def _chosen(whole: pyarrow.Schema, columns: Sequence[str] | None) -> pyarrow.Schema:
    import pyarrow as pa

    return whole if columns is None else pa.schema([whole.field(name) for name in columns])


def _batches(index: Any, sizes: Mapping[str, int], columns: Sequence[str] | None) -> Iterator[pyarrow.RecordBatch]:
    """The rows of these tars, as long as there are not more than they have room for."""
    import pyarrow as pa
    import pyarrow.compute

    names, whole = pa.array([*sizes], pa.string()), sum(sizes.values())
    rows = size = 0
    for batch in index.iter_batches(_BATCH_ROWS, columns=columns):
        batch.validate(full=True)  # texts in UTF-8, among others
        own = batch.filter(pa.compute.is_in(batch["shard"], names))
        rows, size = rows + own.num_rows, size + own.nbytes
        if rows > whole // _SMALLEST_SAMPLE or size > whole:
            raise ValueError("more samples than the tars have room for")
        yield own


def _check_places(table: pyarrow.Table, sizes: Mapping[str, int]) -> None:
    """Samples lie behind each other, each in its tar."""
    import numpy as np

    if any(column.null_count for column in table.columns):
        raise ValueError("rows with gaps")
    shards = np.array(table["shard"].to_pylist(), dtype=object)
    offsets, lengths = (_int64(table[name]) for name in ("offset", "size"))
    for name, size in sizes.items():
        rows = np.flatnonzero(shards == name)
        begins, room = offsets[rows], size - offsets[rows]
        fits = (begins >= 0) & (room >= 0) & (lengths[rows] >= 0) & (lengths[rows] <= room)
        if not fits.all() or (begins[1:] < begins[:-1] + lengths[rows][:-1]).any():
            raise ValueError(f"places that {name} does not have")


def _int64(column: pyarrow.ChunkedArray) -> npt.NDArray[np.int64]:
    import numpy as np

    return np.concatenate([np.zeros(0, np.int64), *(chunk.to_numpy() for chunk in column.chunks)])
