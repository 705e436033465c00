"""`pack --exif`: pictures that are to be shown turned keep that, or are turned with their boxes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

import mgtool
from mgtool.boxes.turning import Turning
from mgtool.records import Detections

BOX = (4.0, 2.0, 10.0, 8.0)


def picture(orientation: int) -> bytes:
    """20 x 12, black, with `BOX` in white."""
    pixels = np.zeros((12, 20, 3), np.uint8)
    pixels[2:8, 4:10] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


def white(image: Image.Image) -> tuple[float, ...]:
    """The white box."""
    found = image.convert("L").getbbox()
    assert found is not None
    return tuple(map(float, found))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_as_pictures_do(orientation: int) -> None:
    stored = Image.open(io.BytesIO(picture(orientation)))
    shown = ImageOps.exif_transpose(stored)
    turning = Turning(*stored.size, orientation)
    assert turning.size == shown.size
    assert turning.move_picture(stored.convert("RGB")).tobytes() == shown.convert("RGB").tobytes()
    moved = turning.move_boxes(Detections((BOX,), (1.0,), ("white",)))
    assert moved.boxes == (white(shown),)


def pack(folder: Path, exif: str, orientation: int, **options: Any) -> tuple[mgtool.Packed, Any, Any]:
    """What came of packing one picture: counts, its sample, and what the tar says of its picture."""
    (folder / "in").mkdir()
    data = picture(orientation)
    (folder / "in/x.png").write_bytes(data)
    line = {"image": "x.png", "width": 20, "height": 12, "boxes": [BOX], "scores": [1.0], "labels": ["white"]}
    (folder / "boxes.jsonl").write_text(json.dumps({**line, "sha256": "0" * 64}) + "\n")
    given = mgtool.PackOptions(exif=exif, workers=1, **options)  # type: ignore[arg-type]
    source = mgtool.Source(folder / "in", boxes=folder / "boxes.jsonl")
    packed = mgtool.pack([source], folder / "out", given)
    (sample,) = mgtool.open_tars(folder / "out")
    from mgtool.tars.samples import read_parts

    with (folder / "out/shard-000000.tar").open("rb") as file:
        (raw,) = read_parts(file)
    return packed, sample, json.loads(raw.parts["json"])["images"][0]


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_keep_leaves_bytes_and_boxes(tmp_path: Path, orientation: int) -> None:
    packed, sample, about = pack(tmp_path, "keep", orientation)
    assert sample.images[0].data == picture(orientation)
    assert sample.images[0].detections[0].boxes == (BOX,)
    assert (about["orientation"], about["turned_from"]) == (orientation, 1)
    assert packed.turned_by_exif == (1 if orientation != 1 else None)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_apply_turns_both_and_drops_the_tag(tmp_path: Path, orientation: int) -> None:
    packed, sample, about = pack(tmp_path, "apply", orientation)
    stored = Image.open(io.BytesIO(sample.images[0].data))
    assert stored.getexif().get(0x0112, 1) == 1
    assert sample.images[0].detections[0].boxes == (white(stored),)
    assert stored.size == ((12, 20) if orientation == 6 else (20, 12))
    assert (about["orientation"], about["turned_from"]) == (1, orientation)
    assert ((about["width"], about["height"]), packed.turned_by_exif) == (stored.size, None)
    assert (sample.images[0].data == picture(1)) is (orientation == 1)


def test_turned_then_made_smaller(tmp_path: Path) -> None:
    _, sample, _ = pack(tmp_path, "apply", 6, resize=10, where="width < height")
    assert Image.open(io.BytesIO(sample.images[0].data)).size == (6, 10)
    assert sample.images[0].detections[0].boxes == ((2.0, 2.0, 5.0, 5.0),)


def test_it_warns_of_pictures_that_readers_show_otherwise(tmp_path: Path, mgtool) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.png").write_bytes(picture(6))
    code, _, err = mgtool("pack", tmp_path / "in", "--out", tmp_path / "out", "--workers", "1")
    assert (code, "warning: 1 pictures are to be shown turned" in err, "--exif apply" in err) == (0, True, True)
    code, _, err = mgtool("pack", tmp_path / "in", "--out", tmp_path / "o", "--workers", "1", "--exif", "apply")
    assert (code, "warning" in err) == (0, False)
