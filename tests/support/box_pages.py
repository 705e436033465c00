"""Pages of boxes to look at."""

from __future__ import annotations

import hashlib
import io

from PIL import Image

from mgtool.boxes import statistics as box_statistics
from mgtool.records import BoxRecord, Media
from mgtool.report import boxes_page

HOSTILE = "</script><script>document.title = 'broken in'</script><img src=x onerror=\"document.title='broken in'\">"


def png(width: int, height: int) -> bytes:
    """A plain picture."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(file, "PNG")
    return file.getvalue()


def digest() -> str:
    """Of the picture that all records are of."""
    return hashlib.sha256(png(400, 200)).hexdigest()


def records(count: int) -> list[BoxRecord]:
    """Every third picture has nothing, the others a cat and, from the middle on, a dog; the last is hostile."""
    made = []
    for number in range(count):
        labels = () if number % 3 == 0 else ("cat",) if number < count // 2 else ("cat", "dog")
        boxes = ((100.0, 50.0, 300.0, 150.0), (0.0, 0.0, 40.0, 40.0))[: len(labels)]
        scores = (0.9, 0.4)[: len(labels)]
        made.append(
            BoxRecord(
                image=f"{number:04d}.png", sha256=digest(), width=400, height=200,
                boxes=boxes, scores=scores, labels=labels,
            )
        )  # fmt: skip
    made.append(
        BoxRecord(
            image=HOSTILE,
            sha256=digest(),
            width=400,
            height=200,
            boxes=((1, 1, 9, 9),),
            scores=(0.5,),
            labels=(HOSTILE,),
        )
    )
    return made


def page(count: int) -> bytes:
    """The page of so many pictures and the hostile one."""
    made = records(count)
    statistics = box_statistics.of(made, ["missing", "missing", "corrupt"])
    media = (Media(name=record.image, data=png(400, 200)) for record in made)
    shown = boxes_page.with_thumbnails(boxes_page.sampled(made, len(made)), media)
    return boxes_page.render(HOSTILE, "where from", statistics, shown)
