"""Parquet files that are far smaller than what they hold: a line, or so few rows at once that memory is for them."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from mgtool.boxes import formats
from mgtool.errors import InputError
from mgtool.files import parquet_size
from mgtool.inputs import sources
from mgtool.scoring import parquet_rows


def _written(values: list[bytes | str], **options: object) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table({"question": pa.array(values)}), file, compression="zstd", **options)
    return file.getvalue()


def _metadata(data: bytes):
    return parquet.ParquetFile(io.BytesIO(data)).metadata


def test_rows_that_name_one_long_value() -> None:
    long = _written([f"{n}" * (1 << 20) for n in range(9)] * 20, dictionary_pagesize_limit=1 << 26)
    assert parquet_size.rows_at_once(_metadata(long), 4096, "x") < 200
    assert parquet_size.rows_at_once(_metadata(_written([f"{n} words" for n in range(10_000)])), 4096, "x") == 4096


@pytest.mark.parametrize("use_dictionary", [True, False])
def test_values_of_zeros(use_dictionary: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_size, "_UNPACKED_BYTES", 1 << 20)
    path = tmp_path / "x.parquet"
    path.write_bytes(_written(["0" * (1 << 24)] * 2, use_dictionary=use_dictionary, dictionary_pagesize_limit=1 << 26))
    for read in (
        lambda: list(sources.read_samples([str(path)])),
        lambda: list(formats.read(str(path))),
        lambda: parquet_rows.parquet_rows(io.BytesIO(path.read_bytes()), "image", where=path),
    ):
        with pytest.raises(InputError, match="column question unpacks"):
            read()


def test_a_truth_that_is_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_rows, "_MOST_BYTES", 1 << 20)
    data = _written([f"{n}" * 100 for n in range(9)] * 10_000)
    with pytest.raises(InputError, match="no ground truth has"):
        parquet_rows.parquet_rows(io.BytesIO(data), "image", where=tmp_path / "x.parquet")
