"""Box files -> what they hold, in numbers and as a page to look through."""

from __future__ import annotations

from pathlib import Path

from mgtool.boxes import statistics
from mgtool.boxes.statistics import BoxStatistics
from mgtool.errors import UsageError
from mgtool.records import Inputs, input_names


def describe_boxes(paths: Inputs, *, images: str | None = None, report: str | Path | None = None) -> BoxStatistics:
    """Sum up box files, and write their page.

    Args:
        paths: folders and files of boxes, of any form that boxes are read in.
        images: folder or URL whose pictures the page shows, by the names in the records; None for boxes alone.
        report: HTML file to write; None for no page.

    Raises:
        UsageError: stdin, which cannot be read twice.
        InputError: no such file, or one of no known form.
        OutputError: the page cannot be written.
    """
    boxes = input_names(paths)
    if "-" in boxes:
        raise UsageError("paths", "-: give folders or files of boxes; stdin cannot be read twice")
    summed = statistics.of_files(boxes)
    if report is not None:
        _write_page(Path(report), boxes, summed, images)
    return summed


def _write_page(report: Path, boxes: tuple[str, ...], summed: BoxStatistics, images: str | None) -> None:
    from mgtool.report import boxes_page

    if images is None:
        boxes_page.write(report, boxes, summed)
    else:
        boxes_page.write(report, boxes, summed, boxes_page.media_below(images))
