"""Writing boxes in the forms that others read: COCO results, the published list by id, parquet."""

from __future__ import annotations

from typing import Any

from mgtool.records import BoxRecord, Detections, FrameDetections, SampleId


def _published(name: SampleId, record: BoxRecord) -> dict[str, Any]:
    """An entry of the published list: whole pixels are written as integers there."""
    if record.frames is not None:
        return {"id": name, "frames": [_objects(frame) for frame in record.frames]}
    return {"id": name, **_objects(record.detections)}


def _objects(found: Detections | FrameDetections) -> dict[str, Any]:
    boxes = [[int(side) if side.is_integer() else side for side in map(float, box)] for box in found.boxes]
    return {"boxes": boxes, "scores": found.scores, "labels": found.labels}
