"""Box files -> what they hold, in numbers and as a page to look through."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mgtool.boxes import statistics
from mgtool.boxes.statistics import BoxStatistics
from mgtool.errors import UsageError
from mgtool.files.local import refuse_url
from mgtool.files.remote import check_patterns
from mgtool.media.reading import Place
from mgtool.records import Inputs, input_names


def describe_boxes(
    paths: Inputs,
    *,
    images: str | None = None,
    allow_absolute: bool = False,
    allow_remote: Sequence[str] | None = None,
    report: str | Path | None = None,
) -> BoxStatistics:
    """Sum up box files, and write their page.

    Args:
        paths: folders and files of boxes, of any form that boxes are read in.
        images: folder or URL whose pictures the page shows, by the names in the records; None for boxes alone.
        allow_absolute, allow_remote: absolute paths and URLs that records may name, as in `DetectOptions`.
        report: HTML file to write; None for no page.

    Raises:
        UsageError: stdin, which cannot be read twice, an unknown form of `allow_remote`, or a URL for the page.
        InputError: no such file, or one of no known form.
        OutputError: the page cannot be written.
    """
    boxes = input_names(paths)
    if "-" in boxes:
        raise UsageError("paths", "-: give folders or files of boxes; stdin cannot be read twice")
    check_patterns(allow_remote)
    if report is not None:
        refuse_url("report", report)
    place = Place.of(images, allow_absolute=allow_absolute, allow_remote=allow_remote)
    summed = statistics.of_files(boxes)
    if report is not None:
        _write_page(Path(report), boxes, summed, place)
    return summed


def _write_page(report: Path, boxes: tuple[str, ...], summed: BoxStatistics, place: Place) -> None:
    from mgtool.report import boxes_page

    if place.images is None:
        boxes_page.write(report, boxes, summed)
    else:
        boxes_page.write(report, boxes, summed, boxes_page.media_below(place))
