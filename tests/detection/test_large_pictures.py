"""Pictures of many pixels: decoded where they are looked at, a few at a time, and let go at once."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from PIL import Image

from mgtool.detection import picture_loader, pipeline
from mgtool.detection.batch_size import BatchSize
from mgtool.detection.finder import Finder
from mgtool.detection.ledger import Ledger
from mgtool.records import Detections, Media, Sample

SIDE = 40


class Counter:
    """Finds nothing, and remembers the sizes of its batches."""

    identity, own_threshold = "counter", 0.5
    labels = ("x",)

    def __init__(self) -> None:
        self.batches: list[int] = []

    def detect(self, pictures: Sequence[Image.Image], words: Sequence[Sequence[str]] | None) -> list[Detections]:
        self.batches.append(len(pictures))
        assert all(picture.getpixel((0, 0)) for picture in pictures)
        return [Detections()] * len(pictures)


def _items(count: int) -> list[tuple[Sample, Media]]:
    items = []
    for number in range(count):
        file = io.BytesIO()
        Image.new("RGB", (SIDE, SIDE), (number, 1, 2)).save(file, "PNG")
        media = Media(name=f"{number}.png", data=file.getvalue())
        items.append((Sample(id=media.name, images=(media,)), media))
    return items


def test_such_pictures_come_undecoded_from_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _items(1)[0][1].data or b""
    content = picture_loader._picture("x", data, SIDE**2, SIDE**2 - 1)
    assert (content.pictures, content.undecoded) == ((), data)
    assert content.decoded(SIDE**2).pictures[0].size == (SIDE, SIDE)
    assert content.decoded(SIDE**2 - 1).error is not None
    monkeypatch.setattr(picture_loader, "LARGE_PIXELS", 100)
    plain, handed = (
        [
            (one.content.sha256, [picture.tobytes() for picture in one.content.pictures])
            for one in picture_loader.open_pictures(_items(5), is_new=lambda media: True, workers=workers)
        ]
        for workers in (0, 1)
    )
    assert plain == handed


def test_a_batch_has_no_more_pixels_than_memory_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "WINDOW_PIXELS", 3 * SIDE**2)
    detector = Counter()
    found = pipeline.detect(_items(8), Finder(detector), ledger=Ledger(), batch=BatchSize(8), workers=0)
    contents = [content for entry, content in found if entry.box is not None]
    assert len(contents) == 8
    assert detector.batches == [3, 3, 2]
    with pytest.raises(ValueError, match="closed"):
        contents[0].pictures[0].getpixel((0, 0))
