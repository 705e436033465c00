"""Parquet files of strangers, whose columns may be far larger than the files."""

from __future__ import annotations

from typing import Any

from mgtool.errors import InputError

_BATCH_BYTES = 1 << 30
"""Of a batch's longest column at most, however often its rows name one value."""
_USUAL_TIMES, _MOST_TIMES, _UNPACKED_BYTES = 64, 1000, 1 << 28
"""How many times its packed bytes a column's values may take, and what they may take anyway."""


def rows_at_once(metadata: Any, most: int, where: str) -> int:
    """How many rows of a Parquet file are read at once: a value that many rows name lies in the file once.

    Args:
        metadata: the file's.
        most: rows.
        where: the file's name for messages.

    Raises:
        InputError: values that packing makes so much smaller that they are nothing but zeros.
    """
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    for column in (group.column(number) for group in groups for number in range(group.num_columns)):
        whole, packed = column.total_uncompressed_size, max(column.total_compressed_size, 1)
        if whole > max(_UNPACKED_BYTES, _MOST_TIMES * packed):
            raise InputError(f"{where}: column {column.path_in_schema} unpacks {packed:,} bytes to {whole:,}")
        if column.has_dictionary_page:
            dictionary = max(column.data_page_offset - (column.dictionary_page_offset or 0), 0)
            longest = min(whole, int(dictionary * max(_USUAL_TIMES, whole / packed)))
            most = max(1, min(most, _BATCH_BYTES // max(longest, 1)))
    return most
