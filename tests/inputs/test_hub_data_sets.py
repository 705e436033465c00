"""Data sets of the hub as they are, against a server that speaks its interface."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from huggingface_hub import HfFileSystem, constants
from PIL import Image
from pyarrow import parquet
from served_hub import ServedHub, served_hub

from mgtool.errors import InputError
from mgtool.inputs.sources import read_samples
from mgtool.packing.options import PackOptions, Source
from mgtool.records import LeftOut, Sample
from mgtool.stages.pack import pack
from mgtool.tars.samples import open_tars

NAME = "owner/pictures"


def jpeg(side: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (side, 32), "red").save(stream, "JPEG")
    return stream.getvalue()


def put_table(path: Path, numbers: range) -> None:
    pictures = [{"bytes": jpeg(32 + number), "path": f"{number}.jpg"} for number in numbers]
    columns: dict[str, Any] = {"image": pictures, "question": [f"what is {number}?" for number in numbers]}
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedHub]:
    folder = tmp_path / "repository"
    put_table(folder / "data/test-00000-of-00001.parquet", range(3, 5))
    put_table(folder / "data/train-00000-of-00001.parquet", range(3))
    (folder / "README.md").write_text("# pictures")
    (folder / ".gitattributes").write_text("*.parquet filter=lfs")
    (folder / "notes.txt").write_text("n")
    with served_hub({NAME: folder}) as server:
        for name in ("HUGGINGFACE_CO_URL_TEMPLATE", "ENDPOINT"):  # what HF_ENDPOINT sets where a program begins
            given = getattr(constants, name).replace(constants.ENDPOINT, server.url)
            monkeypatch.setattr(constants, name, given)
        HfFileSystem.clear_instance_cache()
        yield server
        HfFileSystem.clear_instance_cache()


@pytest.mark.parametrize("given", [f"hf://datasets/{NAME}", f"hf://datasets/{NAME}@main/data"])
def test_a_data_set_is_packed_as_it_is(hub: ServedHub, tmp_path: Path, given: str) -> None:
    packed = pack([Source(given)], tmp_path / "tars", PackOptions(workers=1))
    assert (packed.samples, packed.failures) == (5, 0)
    assert dict(packed.left_out or {}) == (
        {} if given.endswith("data") else {".txt files": {"count": 1, "examples": [f"datasets/{NAME}/notes.txt"]}}
    )
    found = list(open_tars(tmp_path / "tars"))
    assert [(one.images[0].name, one.images[0].data, one.turns[0].value) for one in found] == [
        (f"{number}.jpg", jpeg(32 + number), f"what is {number}?") for number in (3, 4, 0, 1, 2)
    ]


def test_one_file_of_a_data_set(hub: ServedHub) -> None:
    url, left_out = f"hf://datasets/{NAME}/data/test-00000-of-00001.parquet", LeftOut()
    found = [item for item in read_samples([url], left_out=left_out) if isinstance(item, Sample)]
    assert [one.images[0].name for one in found] == ["3.jpg", "4.jpg"]
    assert not left_out.summary()


def test_a_data_set_that_is_not_there_is_one_line(hub: ServedHub) -> None:
    begun = time.monotonic()
    with pytest.raises(InputError, match="owner/other: cannot be read") as raised:
        list(read_samples(["hf://datasets/owner/other"]))
    assert "\n" not in str(raised.value)
    assert time.monotonic() - begun < 10  # it will not be there later


def test_records_may_name_pictures_of_the_hub_where_that_is_allowed(hub: ServedHub, tmp_path: Path) -> None:
    (tmp_path / "repository/a.jpg").write_bytes(jpeg(40))
    (tmp_path / "q.jsonl").write_text(json.dumps({"image": f"hf://datasets/{NAME}/a.jpg", "text": "what?"}))
    packed = pack([Source(tmp_path / "q.jsonl")], io.BytesIO(), PackOptions(workers=1, allow_remote=["hf"]))
    assert (packed.samples, packed.failed) == (1, ())
