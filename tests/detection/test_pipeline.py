"""The stage with detectors that fail: a bad picture costs itself, a misuse ends the run."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from PIL import Image

from mgtool.detection.batch_size import BatchSize
from mgtool.detection.finder import Finder
from mgtool.detection.ledger import Ledger
from mgtool.detection.output import DetectionEntry
from mgtool.detection.pipeline import detect
from mgtool.errors import UsageError
from mgtool.records import Detections, Media, Sample


class WidthReader:
    """Finds the whole picture; refuses batches and pictures that are 13 pixels wide."""

    identity = "width reader"

    def __init__(self, error: Exception) -> None:
        self._error = error

    def detect(self, pictures: Sequence[Image.Image], words: Sequence[Sequence[str]] | None) -> list[Detections]:
        if any(picture.width == 13 for picture in pictures):
            raise self._error
        return [Detections(((0.0, 0.0, float(p.width), float(p.height)),), (1.0,), ("all",)) for p in pictures]


def _items(widths: Sequence[int]) -> list[tuple[Sample, Media]]:
    items = []
    for number, width in enumerate(widths):
        buffer = io.BytesIO()
        Image.new("RGB", (width, 8)).save(buffer, "PNG")
        media = Media(name=f"{number}.png", data=buffer.getvalue())
        items.append((Sample(id=media.name, images=(media,)), media))
    return items


def _run(error: Exception, batch_size: int) -> list[DetectionEntry]:
    finder = Finder(WidthReader(error))
    items = _items([10, 13, 11, 13, 10])
    found = detect(items, finder, ledger=Ledger(), batch=BatchSize(batch_size), workers=0)
    return [entry for entry, _ in found]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_only_the_bad_picture_fails(batch_size: int) -> None:
    entries = _run(RuntimeError("odd width"), batch_size)
    assert [entry.box is not None for entry in entries] == [True, False, True, False, False]
    assert [entry.failure.reason if entry.failure else None for entry in entries] == [
        None, "model_error", None, "model_error", None,
    ]  # fmt: skip
    assert entries == _run(RuntimeError("odd width"), 1)


def test_no_memory_for_one_picture_is_its_own_reason() -> None:
    failures = [entry.failure for entry in _run(MemoryError(), 8) if entry.failure]
    assert {failure.reason for failure in failures} == {"out_of_memory"}


def test_a_misuse_ends_the_run() -> None:
    with pytest.raises(UsageError, match="give `vocabulary`"):
        _run(UsageError("", "give `vocabulary`"), 8)
