"""Box records as one HTML file: the numbers, and pictures with their boxes to look through by label.

Self-contained and safe in the way of `mgtool.report.scores_page`: no network, all text from data escaped, one script.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from mgtool.boxes.statistics import BIN_NAMES, Statistics, bin_of
from mgtool.errors import ItemError
from mgtool.files import hashing
from mgtool.media.reading import read_bytes
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
class Shown:
    """One picture or frame of the page.

    Attributes:
        name: the picture's name; of a frame, the video's with its place and time.
        size: width and height in the pixels that the boxes are in; zeros where nobody knows them.
        found: the objects.
        uri: a thumbnail as data URI; empty where the picture is not at hand.
    """

    name: str
    size: tuple[int, int]
    found: Detections
    uri: str = ""


def sampled(records: Iterable[BoxRecord], total: int, most: int = MOST_PICTURES) -> list[BoxRecord]:
    """At most `most` of `total` records, evenly spaced."""
    places = {place * total // most for place in range(most)} if total > most else None
    return [record for place, record in enumerate(records) if places is None or place in places]


def with_thumbnails(records: Sequence[BoxRecord], media: Iterable[Media]) -> list[Shown]:
    """The pictures and frames of some records.

    Args:
        records: what is shown.
        media: the input's pictures and videos, in any order; read until all that are shown are there.
    """
    side = thumbnails.FEW_SIDE if len(records) <= thumbnails.FEW else thumbnails.SIDE
    wanted: dict[str, list[int]] = {}
    for place, record in enumerate(records):
        wanted.setdefault(record.image or record.video, []).append(place)
    found: dict[int, list[Thumbnail]] = {}
    for one in media:
        places = [place for place in wanted.get(one.name, []) if place not in found]
        found |= _thumbnails({place: records[place] for place in places}, one, side) if places else {}
        if len(found) == len(records):
            break
    shown = [one for place, record in enumerate(records) for one in _shown(record, found.get(place, []))]
    return shown[:MOST_PICTURES]


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


def _shown(record: BoxRecord, found: Sequence[Thumbnail]) -> Iterator[Shown]:
    size = (record.width, record.height)
    if found and not record.width:
        size = (found[0].width, found[0].height)
    uris = [one.uri for one in found]
    if record.frames is None:
        yield Shown(record.image, size, record.detections, uris[0] if uris else "")
        return
    for place, frame in enumerate(record.frames):
        name = f"{record.video}, frame {frame.index} at {frame.time:.1f} s"
        yield Shown(name, size, frame.detections, uris[place] if place < len(uris) else "")


def render(title: str, subtitle: str, statistics: Statistics, shown: Sequence[Shown]) -> bytes:
    """The page as UTF-8 HTML.

    Args:
        title: what the boxes are of.
        subtitle: where they come from.
        statistics: of all records, whether shown or not.
        shown: the pictures.
    """
    loader = jinja2.PackageLoader("mgtool.report")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script = asset("gallery.js") + asset("boxes.js")
    labels = sorted(statistics.labels.items(), key=lambda pair: (-pair[1], pair[0]))
    looked_at = statistics.pictures + statistics.frames
    html = environment.get_template("boxes.html.j2").render(
        title=title,
        subtitle=subtitle,
        cards=_cards(statistics, looked_at),
        failures=sorted(statistics.failures.items()),
        duplicates=statistics.duplicates,
        plots={
            "boxes a picture": _bars({name: statistics.histogram[name] for name in BIN_NAMES}),
            "labels": _bars(dict(labels[:MOST_LABELS])),
        },
        labels_left_out=max(0, len(labels) - MOST_LABELS),
        left_out=looked_at - len(shown),
        style=asset("report.css") + asset("boxes.css"),
        script=script,
        script_hash=script_hash(script),
        gallery=safe_json(_gallery(shown, [label for label, _ in labels])),
        blocks=[safe_json(block) for block in _blocks(shown)],
    )
    return html.encode()


def _cards(statistics: Statistics, looked_at: int) -> list[tuple[str, str]]:
    mean = f"{statistics.boxes / looked_at:.1f}" if looked_at else "–"
    cards = [("boxes a picture", mean), ("boxes", f"{statistics.boxes:,}"), ("pictures", f"{statistics.pictures:,}")]
    if statistics.videos:
        cards += [("videos", f"{statistics.videos:,}"), ("frames", f"{statistics.frames:,}")]
    return [*cards, ("labels", f"{len(statistics.labels):,}")]


def _bars(counts: Mapping[str, int]) -> list[tuple[str, int, float]]:
    """(name, count, percent of the largest)."""
    largest = max(counts.values(), default=0) or 1
    return [(name, number, 100 * number / largest) for name, number in counts.items()]


def _gallery(shown: Sequence[Shown], labels: Sequence[str]) -> dict[str, Any]:
    numbers = {label: number for number, label in enumerate(labels)}
    used = {label for one in shown for label in one.found.labels}
    items = [
        {
            "name": one.name,
            "bin": bin_of(len(one.found.labels)),
            "count": len(one.found.labels),
            "labels": sorted({numbers[label] for label in one.found.labels if label in numbers}),
        }
        for one in shown
    ]
    choice = [[numbers[label], label] for label in labels if label in used]
    return {"items": items, "labels": choice, "bins": list(BIN_NAMES), "perBlock": PICTURES_PER_BLOCK}


def _blocks(shown: Sequence[Shown]) -> Iterator[list[dict[str, Any]]]:
    """Pictures some at a time, so that a browser decodes only those it shows."""
    for start in range(0, len(shown), PICTURES_PER_BLOCK):
        yield [_drawn(one) for one in shown[start : start + PICTURES_PER_BLOCK]]


def _drawn(one: Shown) -> dict[str, Any]:
    rows = zip(one.found.boxes, one.found.scores, one.found.labels, strict=True)
    best = sorted(rows, key=lambda row: -row[1])[:MOST_BOXES]
    boxes = [[*(round(float(edge), 1) for edge in box), round(score, 3), label] for box, score, label in best]
    return {"uri": one.uri, "size": one.size, "boxes": boxes}
