"""What `mgtool detect` says about boxes that are there: `--stats` and `--report`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgtool.commands import console
from mgtool.errors import UsageError

if TYPE_CHECKING:
    from mgtool.boxes.statistics import Statistics
    from mgtool.detection.picture_loader import Named
    from mgtool.records import BoxRecord, Media, Sample


def describe(paths: tuple[str, ...], *, images: str | None, report: str | None, as_json: bool, quiet: bool) -> None:
    """Sum up box files; with `report`, write their page, pictures looked up from the folder `images`."""
    if "-" in paths:
        raise UsageError("stats", ": give folders or files of boxes; stdin cannot be read twice")
    statistics = count(paths)
    console.summarize(
        statistics.summary(labels=None) if as_json else statistics.summary(),
        title="mgtool detect --stats",
        as_json=as_json,
        quiet=quiet,
    )
    if report is not None:
        shown = _sampled(paths, statistics)
        write(report, shown, _named(shown, images) if images is not None else (), statistics, ", ".join(paths))


def count(paths: Iterable[str]) -> Statistics:
    """What box files hold, and how often what failed in the runs that wrote them."""
    from mgtool.boxes import formats
    from mgtool.boxes import statistics as box_statistics

    listed = tuple(paths)
    return box_statistics.of((record for path in listed for record in formats.read(path)), _reasons(listed))


def report_run(
    report: str,
    folder: Path,
    items: Iterator[Named] | None,
    summary: dict[str, Any],
    *,
    images: str | None,
    by_id: bool,
) -> None:
    """The page of a finished run, its pictures from the run's own input, or by name where that was stdin.

    Args:
        report: the file to write.
        folder: the run's output.
        items: its input once more; None where that cannot be read again.
        summary: its counts.
        images: where pictures are found by name.
        by_id: whether its records have the samples' ids in place of pictures' names.
    """
    statistics = count([str(folder)])
    statistics.duplicates = summary["duplicates"]
    shown = _sampled([str(folder)], statistics)
    named = _named(shown, images or "")
    media = named if items is None else (_media(item, by_id) for item in items if isinstance(item, tuple))
    write(report, shown, media, statistics, str(folder))


def _media(item: tuple[Sample, Media], by_id: bool) -> Media:
    import msgspec

    sample, media = item
    return msgspec.structs.replace(media, name=str(sample.id)) if by_id else media


def write(report: str, shown: list[BoxRecord], media: Iterable[Media], statistics: Statistics, where: str) -> None:
    """Write the page."""
    from mgtool.files.atomic import write_bytes
    from mgtool.report import boxes_page

    title = f"{statistics.boxes:,} boxes"
    page = boxes_page.render(title, where, statistics, boxes_page.with_thumbnails(shown, media))
    write_bytes(Path(report), page)


def _sampled(paths: Iterable[str], statistics: Statistics) -> list[BoxRecord]:
    from mgtool.boxes import formats
    from mgtool.report import boxes_page

    records = (record for path in paths for record in formats.read(path))
    return boxes_page.sampled(records, statistics.records)


def _named(records: list[BoxRecord], images: str) -> Iterator[Media]:
    from mgtool.media.reading import Place

    place = Place(images)
    return (place.media(record.image or record.video) for record in records)


def _reasons(paths: Iterable[str]) -> Iterator[str]:
    from mgtool.records import Failure, parse
    from mgtool.runs.run_file import FAILURES_FILE

    for path in paths:
        file = Path(path, FAILURES_FILE)
        if file.is_file():
            with file.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    yield parse(line, Failure, where=f"{file}:{number}").reason
