"""A data set's folder as input and as boxes at once: what its boxes are read of is not said to be left out."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mgtool.packing.options import PackOptions, Source
from mgtool.stages.pack import pack

LABEL = "0 0.5 0.5 0.25 0.5\n"
SHAPE = {"label": "cat", "points": [[1, 2], [30, 40]], "shape_type": "rectangle"}
VOC = """<annotation><filename>a.png</filename><size><width>64</width><height>48</height></size><object><name>cat</name>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>"""
YOLO = {"images/a.png": None, "labels/a.txt": LABEL, "data.yaml": "names: [cat]\n", "notes.txt": "some words\n"}
LABELME = {"a.png": None, "a.json": json.dumps({"imagePath": "a.png", "shapes": [SHAPE]}), "notes.txt": "some words\n"}
CASES = [
    (YOLO, ""),
    (YOLO, "data.yaml"),
    (YOLO, "labels"),
    (LABELME, ""),
    ({"JPEGImages/a.png": None, "Annotations/a.xml": VOC, "notes.txt": ""}, ""),
    ({"JPEGImages/a.png": None, "Annotations/a.xml": VOC, "notes.txt": ""}, "Annotations"),
]


@pytest.mark.parametrize(("files", "boxes"), CASES)
def test_files_of_boxes_are_used(files: Mapping[str, str | None], boxes: str, tmp_path: Path) -> None:
    for name, text in files.items():
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            Image.new("RGB", (64, 48)).save(path)
        else:
            path.write_text(text)
    given, options = tmp_path / "set", PackOptions(workers=1)
    packed = pack([Source(given, boxes=given / boxes)], io.BytesIO(), options)
    assert (packed.samples, packed.failed) == (1, ())
    notes: dict[str, Any] = {"count": 1, "examples": [f"{given}/notes.txt"]}
    yaml: dict[str, Any] = {"count": 1, "examples": [f"{given}/data.yaml"]}
    assert packed.left_out == {".txt files": notes} | ({".yaml files": yaml} if boxes == "labels" else {})
    without = pack([Source(given)], io.BytesIO(), options)
    assert sum(one["count"] for one in (without.left_out or {}).values()) == len(files) - 1
