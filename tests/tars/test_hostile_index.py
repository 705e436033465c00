"""An index that lies about the tars beside it is not believed: what it says is then read of the tars."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from mgtool.tars import stretches
from mgtool.tars.index import TarIndex, totals, write_index
from mgtool.tars.index_file import INDEX_FILE

SAMPLES = 5
NAME = "x-000000.tar"
HOSTILE: dict[str, Any] = {
    "negative": lambda rows: rows[1].update(offset=-512),
    "negative size": lambda rows: rows[1].update(size=-1),
    "beyond the file": lambda rows: rows[-1].update(offset=1 << 40),
    "longer than the file": lambda rows: rows[-1].update(size=1 << 40),
    "largest number": lambda rows: rows[-1].update(offset=2**63 - 1, size=2**63 - 1),
    "overlapping": lambda rows: rows[1].update(offset=rows[0]["offset"]),
    "backwards": lambda rows: rows.reverse(),
    "more than fit": lambda rows: rows.extend(rows * 20),
    "a gap": lambda rows: rows[2].update(size=None),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with tarfile.open(tmp_path / NAME, "w") as tar:
        for n in range(SAMPLES):
            data = json.dumps({"id": n, "conversations": [{"from": "human", "value": f"{n}?"}]}).encode()
            info = tarfile.TarInfo(f"{n}.json")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    write_index(tmp_path, [str(tmp_path / NAME)])
    return tmp_path


def _is_read_over(folder: Path) -> None:
    assert stretches.places([str(folder / NAME)]) is None
    index = TarIndex.of(folder)
    assert [index[n].id for n in range(len(index))] == list(range(SAMPLES))


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_places_that_a_tar_does_not_have(change: Callable[[list[dict[str, Any]]], None], folder: Path) -> None:
    table = parquet.read_table(folder / INDEX_FILE)
    rows = table.to_pylist()
    change(rows)
    parquet.write_table(pa.Table.from_pylist(rows, table.schema), folder / INDEX_FILE)
    _is_read_over(folder)
    assert totals(write_index(folder, [str(folder / NAME)]))["samples"] == SAMPLES
    assert stretches.places([str(folder / NAME)])


@pytest.mark.parametrize("name", ["../x-000000.tar", "/etc/passwd", "y.tar", "", "..", "https://a.org/x.tar"])
def test_rows_of_other_tars_are_nobodys(name: str, folder: Path) -> None:
    table = parquet.read_table(folder / INDEX_FILE)
    rows = [*table.to_pylist(), {**table.to_pylist()[0], "shard": name}]
    parquet.write_table(pa.Table.from_pylist(rows, table.schema), folder / INDEX_FILE)
    index = TarIndex.of(folder)
    assert [index[n].id for n in range(len(index))] == list(range(SAMPLES))
    notes = json.dumps({NAME: (folder / NAME).stat().st_size, name: 1 << 50})
    parquet.write_table(pa.Table.from_pylist(rows, table.schema.with_metadata({"shards": notes})), folder / INDEX_FILE)
    _is_read_over_or_fits(folder)


def _is_read_over_or_fits(folder: Path) -> None:
    """Rows of a tar that nobody asks for change nothing."""
    index = TarIndex.of(folder)
    assert [index[n].id for n in range(len(index))] == list(range(SAMPLES))
    [place] = stretches.places([str(folder / NAME)]) or []
    assert len(place.offsets) == SAMPLES


@pytest.mark.parametrize("form", ["no table", "cut", "other columns", "other types", "no notes", "bad notes", "a pipe"])
def test_what_is_no_index(form: str, folder: Path) -> None:
    path = folder / INDEX_FILE
    table, data = parquet.read_table(path), path.read_bytes()
    path.unlink()
    if form in ("no table", "cut"):
        path.write_bytes(b"x" * 100 if form == "no table" else data[:-9])
    elif form == "a pipe":
        os.mkfifo(path)
    else:
        notes = {"no notes": None, "bad notes": {"shards": b"[1"}}.get(form, table.schema.metadata)
        if form == "other columns":
            table = table.remove_column(2)
        elif form == "other types":
            table = table.set_column(3, "offset", table["offset"].cast(pa.string()))
        parquet.write_table(table.replace_schema_metadata(notes), path)
    _is_read_over(folder)


def test_names_that_are_longer_than_the_tars(folder: Path) -> None:
    table = parquet.read_table(folder / INDEX_FILE)
    rows = [{**row, "key": "x" * 9000} for row in table.to_pylist()]
    parquet.write_table(pa.Table.from_pylist(rows, table.schema), folder / INDEX_FILE)
    index = TarIndex.of(folder)
    assert [index[n].id for n in range(len(index))] == list(range(SAMPLES))


@pytest.mark.parametrize("column", ["id", "key", "shard"])
def test_texts_that_are_not_utf_8(column: str, folder: Path) -> None:
    table = parquet.read_table(folder / INDEX_FILE)
    odd = pa.array([b"\x80"] * SAMPLES, pa.binary()).view(pa.string())
    place = table.column_names.index(column)
    parquet.write_table(table.set_column(place, table.schema.field(column), odd), folder / INDEX_FILE)
    index = TarIndex.of(folder)
    assert [index[n].id for n in range(len(index))] == list(range(SAMPLES))


def test_an_input_that_is_named_twice_is_read_twice(folder: Path) -> None:
    places = stretches.places([str(folder / NAME)] * 2) or []
    assert [len(place.offsets) for place in places] == [SAMPLES] * 2
