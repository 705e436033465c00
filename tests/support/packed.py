"""A small data set that is packed once."""

import json
import subprocess
import sys
from pathlib import Path

import nasty
import pytest

from mgtool.files import hashing
from mgtool.records import BoxRecord, dumps

SAMPLES = 11


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has: photos, a conversation file, boxes. One sample shows two pictures, one none."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "photos" / "p").mkdir(parents=True)
    records, lines = [], []
    for number in range(SAMPLES):
        name = f"p/{number:02}.jpg"
        data = nasty.encode(nasty.photo(number), "JPEG")
        (folder / "photos" / name).write_bytes(data)
        turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": f"Thing {number}."}]
        records.append({"id": number, "image": name, "conversations": turns, "weight": number / 2})
        n = number % 4
        boxes = tuple((0.5, 1.25 * row, 10.0, 20.0) for row in range(n))
        sha256 = hashing.sha256(data)
        labels, scores = ("cat", "dog", "cat")[:n], (0.75, 0.5, 0.25)[:n]
        record = BoxRecord(sha256=sha256, width=64, height=48, image=name, boxes=boxes, scores=scores, labels=labels)
        lines.append(dumps(record) + b"\n")
    records[5]["image"] = ["p/05.jpg", "p/00.jpg"]
    records[5]["conversations"][0]["value"] = "<image>\n<image>\nWhat?"
    del records[8]["image"]
    records[8]["conversations"][0]["value"] = "What?"
    (folder / "train.json").write_text(json.dumps(records))
    (folder / "boxes-000000.jsonl").write_bytes(b"".join(lines))
    return folder


@pytest.fixture(scope="session")
def tars_of_given(given: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, packed: three tars with what lies beside them."""
    out = tmp_path_factory.mktemp("packed") / "tars"
    options = ["--images", given / "photos", "--boxes", given, "--out", out, "--shard-size", 4, "--workers", 1, "-q"]
    command = [sys.executable, "-m", "mgtool.commands.main", "pack", given / "train.json", *options]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return out
