"""Box records as one HTML file: the numbers, and pictures with their boxes to look through by label.

Self-contained and safe in the way of `mgtool.report.scores_page`: no network, all text from data escaped, one script.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from mgtool.boxes import formats
from mgtool.boxes.statistics import BIN_NAMES, BoxStatistics, bin_of
from mgtool.errors import ItemError
from mgtool.files import hashing
from mgtool.files.atomic import write_bytes
from mgtool.media.reading import Place, read_bytes
from mgtool.media.videos import decode_frames
from mgtool.records import BoxRecord, Detections, Media
from mgtool.report import thumbnails
from mgtool.report.html import asset, safe_json, script_hash
from mgtool.report.thumbnails import Thumbnail

MOST_PICTURES = 1000
MOST_BOXES = 100
MOST_LABELS = 40
PICTURES_PER_BLOCK = 50


@dataclass(frozen=True)
class PageItem:
    """One picture or frame of the page.

    Attributes:
        name: the picture's name; of a frame, the video's with its place and time.
        size: width and height in the pixels that the boxes are in; zeros where nobody knows them.
        found: the objects.
        uri: a thumbnail as data URI; empty where the picture is not at hand.
        file: the URL of the whole picture or video as seen from the page; empty where that is no local file.
    """

    name: str
    size: tuple[int, int]
    found: Detections
    uri: str = ""
    file: str = ""


def write(
    path: Path,
    boxes: Sequence[str],
    statistics: BoxStatistics,
    media: Callable[[list[BoxRecord]], Iterable[Media]] = lambda records: (),
) -> None:
    """Write the page of box files.

    Args:
        path: of the page.
        boxes: the files or folders.
        statistics: of all their records.
        media: gives pictures and videos of the records on the page, in any order.
    """
    records = sampled((record for one in boxes for record in formats.read(one)), statistics.records)
    items = with_thumbnails(records, media(records), path.parent)
    write_bytes(path, render(f"{statistics.boxes:,} boxes", ", ".join(boxes), statistics, items))


def media_below(place: Place) -> Callable[[list[BoxRecord]], Iterable[Media]]:
    """Gives pictures and videos by the names of their records; names that are not opened have none."""

    def media(records: list[BoxRecord]) -> Iterator[Media]:
        for record in records:
            with contextlib.suppress(ItemError):
                yield place.media(record.image or record.video)

    return media


_PREVIEW = """<table>{% for name, value in rows %}
<tr><th>{{ name | replace("_", " ") }}</th>
<td>{% if value is mapping %}{% for key in value %}{{ key }}: {{ value[key] }}{{ ", " if not loop.last }}{% else %}none
{% endfor %}{% else %}{{ value }}{% endif %}</td></tr>{% endfor %}</table>
{% for uri in uris %}<img src="{{ uri }}" alt="boxes">{% endfor %}"""


def preview(rows: Mapping[str, object], drawn: Iterable[Path]) -> str:
    """A small table as HTML, with thumbnails of some drawn pictures below."""
    uris = [thumbnails.thumbnail(path.read_bytes(), thumbnails.SIDE).uri for path in drawn]
    return jinja2.Environment(autoescape=True).from_string(_PREVIEW).render(rows=rows.items(), uris=uris)


def sampled(records: Iterable[BoxRecord], total: int, most: int = MOST_PICTURES) -> list[BoxRecord]:
    """At most `most` of `total` records, evenly spaced."""
    places = {place * total // most for place in range(most)} if total > most else None
    return [record for place, record in enumerate(records) if places is None or place in places]


def with_thumbnails(records: Sequence[BoxRecord], media: Iterable[Media], folder: Path | None = None) -> list[PageItem]:
    """The pictures and frames of some records.

    Args:
        records: of the page.
        media: the input's pictures and videos, in any order; read until all that have records are there.
        folder: that of the page, for links to the files; None for none.
    """
    side = thumbnails.side_of(len(records))
    wanted: dict[str, list[int]] = {}
    for place, record in enumerate(records):
        wanted.setdefault(record.image or record.video, []).append(place)
    found: dict[int, list[Thumbnail]] = {}
    files: dict[int, str] = {}
    for one in media:
        places = [place for place in wanted.get(one.name, []) if place not in found]
        made = _thumbnails({place: records[place] for place in places}, one, side) if places else {}
        found |= made
        files |= dict.fromkeys(made, "" if folder is None else _link(one, folder))
        if len(found) == len(records):
            break
    items = (
        replace(item, file=files.get(place, ""))
        for place, record in enumerate(records)
        for item in _items(record, found.get(place, []))
    )
    return list(itertools.islice(items, MOST_PICTURES))


def _link(media: Media, folder: Path) -> str:
    """From a page in a folder to a local file, in characters that any browser takes; empty where it is none."""
    if media.data is not None or media.reach is not None or "://" in media.uri:
        return ""
    return quote(os.fsencode(os.path.relpath(media.uri, folder)))


def _thumbnails(records: Mapping[int, BoxRecord], media: Media, side: int) -> dict[int, list[Thumbnail]]:
    """The small pictures of the first of some records of one name that is of these bytes, as far as it says so."""
    try:
        data = read_bytes(media)
        digest = hashing.sha256(data)
        for place, record in records.items():
            if record.sha256 not in ("", digest):
                continue
            if record.frames is None:
                return {place: [thumbnails.thumbnail(data, side)]}
            return {place: [thumbnails.reduced(one.picture, side) for one in decode_frames(data, len(record.frames))]}
    except ItemError:
        pass
    return {}


def _items(record: BoxRecord, found: Sequence[Thumbnail]) -> Iterator[PageItem]:
    size = (record.width, record.height)
    if found and not record.width:
        size = (found[0].width, found[0].height)
    uris = [one.uri for one in found]
    if record.frames is None:
        yield PageItem(record.image, size, record.detections, uris[0] if uris else "")
        return
    for place, frame in enumerate(record.frames):
        name = f"{record.video}, frame {frame.index} at {frame.time:.1f} s"
        yield PageItem(name, size, frame.detections, uris[place] if place < len(uris) else "")


def render(title: str, subtitle: str, statistics: BoxStatistics, items: Sequence[PageItem]) -> bytes:
    """The page as UTF-8 HTML.

    Args:
        title: what the boxes are of.
        subtitle: where they come from.
        statistics: of all records, whether on the page or not.
        items: the pictures.
    """
    script = asset("gallery.js") + asset("boxes.js")
    labels = sorted(statistics.labels.items(), key=lambda pair: (-pair[1], pair[0]))
    pictures = statistics.pictures + statistics.frames
    html = _template("boxes.html.j2").render(
        title=title,
        subtitle=subtitle,
        cards=_cards(statistics, pictures),
        failures=sorted(statistics.failures.items()),
        duplicates=statistics.duplicates,
        plots={
            "boxes a picture": _bars({name: statistics.histogram[name] for name in BIN_NAMES}),
            "labels": _bars(dict(labels[:MOST_LABELS])),
        },
        labels_left_out=max(0, len(labels) - MOST_LABELS),
        left_out=pictures - len(items),
        style=asset("report.css") + asset("boxes.css"),
        script=script,
        script_hash=script_hash(script),
        gallery=safe_json(_gallery(items, [label for label, _ in labels])),
        blocks=[safe_json(block) for block in _blocks(items)],
    )
    return html.encode("utf-8", "backslashreplace")  # names of files may be no text


def _template(name: str) -> jinja2.Template:
    loader = jinja2.PackageLoader("mgtool.report")
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template(name)


def _cards(statistics: BoxStatistics, pictures: int) -> list[tuple[str, str]]:
    mean = f"{statistics.boxes / pictures:.1f}" if pictures else "–"
    cards = [("boxes a picture", mean), ("boxes", f"{statistics.boxes:,}"), ("pictures", f"{statistics.pictures:,}")]
    if statistics.videos:
        cards += [("videos", f"{statistics.videos:,}"), ("frames", f"{statistics.frames:,}")]
    return [*cards, ("labels", f"{len(statistics.labels):,}")]


def _bars(counts: Mapping[str, int]) -> list[tuple[str, int, float]]:
    """(name, count, percent of the largest)."""
    largest = max(counts.values(), default=0) or 1
    return [(name, number, 100 * number / largest) for name, number in counts.items()]


def _gallery(items: Sequence[PageItem], labels: Sequence[str]) -> dict[str, Any]:
    numbers = {label: number for number, label in enumerate(labels)}
    used = {label for item in items for label in item.found.labels}
    rows = [
        {
            "name": item.name,
            "bin": bin_of(len(item.found.labels)),
            "count": len(item.found.labels),
            "labels": sorted({numbers[label] for label in item.found.labels if label in numbers}),
        }
        for item in items
    ]
    choice = [[numbers[label], label] for label in labels if label in used]
    return {"items": rows, "labels": choice, "bins": list(BIN_NAMES), "perBlock": PICTURES_PER_BLOCK}


def _blocks(items: Sequence[PageItem]) -> Iterator[list[dict[str, Any]]]:
    """Pictures some at a time, so that a browser decodes only those it shows."""
    for start in range(0, len(items), PICTURES_PER_BLOCK):
        yield [_with_boxes(item) for item in items[start : start + PICTURES_PER_BLOCK]]


def _with_boxes(item: PageItem) -> dict[str, Any]:
    rows = zip(item.found.boxes, item.found.scores, item.found.labels, strict=True)
    best = sorted(rows, key=lambda row: -row[1])[:MOST_BOXES]
    boxes = [[*(round(float(edge), 1) for edge in box), round(score, 3), label] for box, score, label in best]
    return {"uri": item.uri, "file": item.file, "size": item.size, "boxes": boxes}
