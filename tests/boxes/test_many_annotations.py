"""Files of many annotations in any order: memory of some bytes for each."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from mgtool.boxes.formats import base, entries, grouped
from mgtool.errors import InputError
from mgtool.files import not_finite
from mgtool.inputs import sources
from mgtool.records import LeftOut

PICTURES, BOXES = 2_000, 150_000
BYTES_A_BOX = 110
"""Ten million boxes have to fit into 1.1 GB."""

PEAK = """
import re, sys
from mgtool.boxes.formats import entries
def high():
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) * 1024
for one in entries(sys.argv[2]):
    pass
before = high()
assert sum(1 for _ in entries(sys.argv[1])) == int(sys.argv[3])
print(high() - before)
"""


def _annotations(count: int, pictures: int) -> list[dict[str, object]]:
    rng = random.Random(0)
    return [
        {
            "id": n,
            "image_id": rng.randrange(pictures),
            "category_id": n % 3,
            "bbox": [n % 97, 1.5, 20, 30.25],
            "score": round(rng.random(), 2),
        }
        for n in range(count)
    ]


def _coco(path: Path, annotations: list[dict[str, object]], pictures: int) -> Path:
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(pictures)]
    names = [{"id": n, "name": f"thing {n}"} for n in range(2)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": names}))
    return path


def _csv(path: Path, annotations: list[dict[str, object]], pictures: int) -> Path:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["filename", "class", "xmin", "ymin", "xmax", "ymax"])
        for number, one in enumerate(annotations):
            rows.writerow([f"{number if number < pictures else one['image_id']}.jpg", "x", 1, 2, number % 97 + 2, 30])
    return path


@pytest.mark.parametrize("make", [_coco, _csv])
def test_memory_of_a_box(make, tmp_path: Path) -> None:
    path = make(tmp_path / f"x.{'csv' if make is _csv else 'json'}", _annotations(BOXES, PICTURES), PICTURES)
    (tmp_path / "small").mkdir()
    small = make(tmp_path / "small" / path.name, _annotations(20, 2), 2)
    words = [sys.executable, "-c", PEAK, str(path), str(small), str(PICTURES)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    pages = path.stat().st_size if make is _coco else 0  # of the file, which the system takes back as it needs
    assert int(done.stdout) < pages + BYTES_A_BOX * BOXES + PICTURES * 1000 + (4 << 20)


def test_the_boxes_are_those_of_each_picture_best_first(tmp_path: Path) -> None:
    annotations = _annotations(500, 20)
    for entry in entries(str(_coco(tmp_path / "x.json", annotations, 20))):
        own = [one for one in annotations if f"{one['image_id']}.jpg" == entry.record.image]
        ranked = sorted(own, key=lambda one: -float(str(one["score"])))
        assert entry.record.scores == tuple(one["score"] for one in ranked)
        assert entry.record.labels == tuple(["thing 0", "thing 1", "2"][int(str(one["category_id"]))] for one in ranked)
        boxes = [one["bbox"] for one in ranked]
        assert entry.record.boxes == tuple((x, y, x + w, y + h) for x, y, w, h in boxes)  # type: ignore[misc]


def test_boxes_of_one_picture_beyond_those_that_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped.check, "MOST_BOXES", 7)
    unused = LeftOut()
    (entry,) = entries(str(_coco(tmp_path / "x.json", _annotations(30, 1), 1)), unused)
    assert len(entry.record.boxes or ()) == 7
    assert next(iter(unused.summary().values()))["count"] == 23


@pytest.mark.parametrize("given", ["null", "{}", "3"])
def test_annotations_that_are_no_list(given: str, tmp_path: Path) -> None:
    whole = '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": ' + given + "}"
    (tmp_path / "x.json").write_text(whole)
    with pytest.raises(InputError, match=r"x\.json: annotations"):
        list(entries(str(tmp_path / "x.json")))


def test_memory_that_is_let_go_comes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_HELD_BYTES", 10)
    path = _coco(tmp_path / "x.json", _annotations(2000, 5), 5)
    assert sum(len(entry.record.boxes or ()) for entry in entries(str(path))) == 2000


def test_no_numbers_in_a_file_that_is_too_large_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    path.write_text(_coco(path, _annotations(9, 2), 2).read_text().replace("1.5", "NaN", 1).replace("{", "{\n", 1))
    assert len(list(entries(str(path)))) == 2
    monkeypatch.setattr(not_finite, "MOST_MENDED", 100)
    for read in (entries, lambda path: sources.read_samples([path])):
        with pytest.raises(InputError, match="write null, or split the file"):
            list(read(str(path)))
