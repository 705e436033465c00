"""Writing boxes in the forms that others read: COCO results, the published list by id, parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from msgspec import to_builtins

from mgtool.errors import UsageError
from mgtool.files.atomic import atomic_file
from mgtool.records import BoxRecord, Detections, FrameDetections, SampleId, dumps

FORMATS = ("jsonl", "coco", "mg-llava", "parquet")
FILES = {"coco": ("boxes.json", "images.json"), "mg-llava": ("boxes.json",), "parquet": ("boxes.parquet",)}
"""What `write` leaves in the folder."""
_ROWS = 1024
Pairs: TypeAlias = Iterable[tuple[SampleId, BoxRecord]]


def check(format: str) -> None:
    """Refuse a form that nobody knows."""
    if format not in FORMATS:
        raise UsageError(f"--format {format}: give one of {', '.join(FORMATS)}")


def write(format: str, folder: Path, records: Callable[[], Iterator[BoxRecord]], pairs: Pairs) -> None:
    """Write one form other than shards of JSON lines, atomically.

    Args:
        format: a key of `FILES`.
        folder: where to.
        records: gives each distinct picture's record, as often as it is called.
        pairs: each sample's id with its picture's record, for ``mg-llava``.
    """
    if format == "coco":
        _write_coco(folder, records)
    elif format == "mg-llava":
        _write_list(folder / "boxes.json", (_published(name, record) for name, record in pairs))
    elif format == "parquet":
        _write_parquet(folder / "boxes.parquet", records())


def _published(name: SampleId, record: BoxRecord) -> dict[str, Any]:
    """An entry of the published list: whole pixels are written as integers there."""
    if record.frames is not None:
        return {"id": name, "frames": [_objects(frame) for frame in record.frames]}
    return {"id": name, **_objects(record.detections)}


def _objects(found: Detections | FrameDetections) -> dict[str, Any]:
    boxes = [[int(side) if side.is_integer() else side for side in map(float, box)] for box in found.boxes]
    return {"boxes": boxes, "scores": found.scores, "labels": found.labels}


def _write_list(path: Path, values: Iterable[Any]) -> None:
    with atomic_file(path) as file:
        file.write(b"[")
        for number, value in enumerate(values):
            file.write((b",\n" if number else b"\n") + dumps(value))
        file.write(b"\n]\n")


def _write_coco(folder: Path, records: Callable[[], Iterator[BoxRecord]]) -> None:
    names = sorted({label for record in records() for label in record.labels or ()})
    numbers = {name: number for number, name in enumerate(names, 1)}
    pictures = [
        {"id": number, "file_name": r.image, "width": r.width, "height": r.height, "sha256": r.sha256}
        for number, r in enumerate(records(), 1)
    ]
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    with atomic_file(folder / "images.json") as file:
        file.write(dumps({"images": pictures, "categories": categories}) + b"\n")
    _write_list(folder / "boxes.json", _results(records(), numbers))


def _results(records: Iterable[BoxRecord], numbers: dict[str, int]) -> Iterator[dict[str, Any]]:
    for number, record in enumerate(records, 1):
        found = record.detections
        for (x0, y0, x1, y1), score, label in zip(found.boxes, found.scores, found.labels, strict=True):
            yield {
                "image_id": number,
                "category_id": numbers[label],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "score": score,
            }


def _write_parquet(path: Path, records: Iterator[BoxRecord]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    text, number = pa.string(), pa.float64()
    columns = {"image": text, "sha256": text, "width": pa.int32(), "height": pa.int32()}
    columns |= {"boxes": pa.list_(pa.list_(number)), "scores": pa.list_(number)}
    columns |= {"labels": pa.list_(text), "tags": pa.list_(text), "video": text}
    found = {"boxes": columns["boxes"], "scores": columns["scores"], "labels": columns["labels"]}
    columns["frames"] = pa.list_(pa.struct({"index": pa.int64(), "time": number, **found}))
    schema = pa.schema(columns)
    with atomic_file(path) as file, parquet.ParquetWriter(file, schema) as writer:
        while rows := list(islice(records, _ROWS)):
            table = [{name: to_builtins(getattr(record, name)) for name in schema.names} for record in rows]
            writer.write_table(pa.Table.from_pylist(table, schema=schema))
