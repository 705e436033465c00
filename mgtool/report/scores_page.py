"""One evaluation as one HTML file: numbers with their intervals, slices, and a gallery of the items.

The file needs no network. All text from data goes through Jinja's autoescape or, in the gallery, through JSON whose
``<``, ``>`` and ``&`` are escaped and the DOM's `textContent`; a content security policy allows only this page's own
script.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
import msgspec

from mgtool.evaluation.comparison import Comparison, Flip
from mgtool.evaluation.explanations import BoxEffect
from mgtool.evaluation.slices import BOX_COUNTS, box_bin
from mgtool.records import BoxRecord, Score
from mgtool.report import diagnostics, tables
from mgtool.report.html import asset, safe_json, script_hash
from mgtool.report.thumbnails import ReadBytes, side_of, thumbnails
from mgtool.scoring.statistics import Metric

MOST_ITEMS = 10_000
MOST_BOXES = 60
PICTURES_PER_BLOCK = 100
MOST_FILTER_VALUES = 100
MOST_CHANGED = 100


def no_picture(name: str) -> None:
    """What reads pictures where there are none."""


@dataclass(frozen=True)
class ScoresPage:
    """What the report shows.

    Attributes:
        title: the benchmark's full name.
        name: the result's name, with its variant.
        subtitle: what was scored.
        headline: the metric that is shown large.
        metrics: all metrics.
        breakdown: metrics by category: field -> value -> metric.
        slices: mean item scores by slice.
        counts: how complete the answers are.
        notes: what a reader has to know.
        scores: the items.
        facts: what was scored, by what and when, by name.
        boxes: boxes by picture name.
        effects: what boxes did to the answers, by the items' ids.
        comparison: with another run.
        read: gives a picture's bytes by its name.
        calibration: whether probable answers are right; None where no answer says how probable it is.
        files: the folder of pictures as seen from the page; empty where they are not at hand.
    """

    title: str
    name: str
    subtitle: str
    headline: str
    metrics: Mapping[str, Metric]
    breakdown: Mapping[str, Mapping[str, Metric]]
    slices: Mapping[str, Mapping[str, Metric]]
    counts: Mapping[str, int]
    notes: Sequence[str]
    scores: Sequence[Score]
    facts: Mapping[str, str] = field(default_factory=dict)
    boxes: Mapping[str, BoxRecord] = field(default_factory=dict)
    effects: Mapping[str, Sequence[BoxEffect]] = field(default_factory=dict)
    comparison: Comparison | None = None
    read: ReadBytes = no_picture
    calibration: diagnostics.Calibration | None = None
    files: str = ""


def render(page: ScoresPage, files: str | None = None) -> bytes:
    """The page as UTF-8 HTML, with all that it shows in it; `files` stands in for the page's own."""
    shown = chosen(page.scores, page.comparison)
    names = list(dict.fromkeys(score.image for score in shown if score.image))
    first = {score.image: score for score in reversed(shown)}
    side = side_of(len(names))
    blocks = [
        list(pictures(page, names[start : start + PICTURES_PER_BLOCK], first, side))
        for start in range(0, len(names), PICTURES_PER_BLOCK)
    ]
    data = gallery(page, shown, names) | ({} if files is None else {"files": files})
    return _html(page, data, changed(data["items"]), blocks, len(page.scores) - len(shown))


def frame(page: ScoresPage, files: str, beside: str, chunks: int) -> bytes:
    """The page as UTF-8 HTML without its items and pictures, which it loads.

    Args:
        page: what the report shows.
        files: the folder of full pictures as seen from the page.
        beside: the folder of chunks.
        chunks: how many of them hold items.
    """
    empty, filters = gallery(page, [], []), _filters(page.scores)
    data = empty | {"files": files, "filters": filters, "beside": beside, "chunks": chunks}
    most = heapq.nlargest(MOST_CHANGED, flips(page).values(), key=lambda flip: abs(flip.second - flip.first))
    wanted = {str(flip.question_id): flip for flip in most}
    items = [entry(page, score, {}, wanted) for score in page.scores if str(score.question_id) in wanted]
    return _html(page, data | {"total": len(page.scores)}, changed(items), [], 0)


def _html(
    page: ScoresPage,
    data: Mapping[str, Any],
    changed: Sequence[Mapping[str, Any]],
    blocks: Iterable[Sequence[Any]],
    left_out: int,
) -> bytes:
    script = asset("gallery.js") + asset("report.js")
    html = _template().render(
        page=page,
        plots=[plot(name, values) for name, values in {**page.breakdown, **page.slices}.items() if len(values) > 1],
        style=asset("report.css"),
        script=script,
        script_hash=script_hash(script),
        gallery=safe_json(data),
        is_chunked="beside" in data,
        changed=changed,
        confusion=diagnostics.confusion(page.scores),
        calibration=page.calibration,
        blocks=[safe_json(block) for block in blocks],
        left_out=left_out,
    )
    return html.encode("utf-8", "backslashreplace")  # names of files may be no text


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mgtool.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {
        "number": tables.number,
        "interval": tables.interval,
        "reach": tables.reach,
        "signed": tables.signed,
    }
    environment.filters |= {"p": tables.p_text, "words": lambda text: text.replace("_", " "), "plain": "{:.4g}".format}
    return environment.get_template("report.html.j2")


@dataclass(frozen=True)
class Plot:
    """One dot-and-whisker plot; positions in percent of its width."""

    name: str
    low: float
    high: float
    rows: list[dict[str, Any]]


def plot(name: str, values: Mapping[str, Metric]) -> Plot:
    """Lay out the values of one breakdown on a common scale from 0."""
    defined = {label: metric for label, metric in values.items() if metric.value is not None}
    high = max([100.0, *(metric.value or 0.0 for metric in defined.values())])
    rows = []
    for label, metric in defined.items():
        value = metric.value or 0.0
        low_end, high_end = metric.interval or (value, value)
        left, dot, right = (min(max(end / high * 100, 0.0), 100.0) for end in (low_end, value, high_end))
        rows.append({"label": label, "metric": metric, "left": left, "width": right - left, "dot": dot})
    return Plot(name, 0.0, high, rows)


def chosen(scores: Sequence[Score], comparison: Comparison | None) -> list[Score]:
    """At most `MOST_ITEMS` for the gallery: all that flipped, the rest evenly spaced."""
    if len(scores) <= MOST_ITEMS:
        return list(scores)
    flipped = {str(flip.question_id) for flip in comparison.flips[:MOST_ITEMS]} if comparison else set()
    rest = [place for place, score in enumerate(scores) if str(score.question_id) not in flipped]
    room = MOST_ITEMS - len(flipped)
    kept = {rest[place * len(rest) // room] for place in range(room)} if room else set()
    return [s for place, s in enumerate(scores) if place in kept or str(s.question_id) in flipped]


def changed(items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The items of the gallery whose score another run changed, the most changed first, at most `MOST_CHANGED`."""
    found = [item for item in items if "flip" in item and item["flip"][0] != item["flip"][1]]
    return sorted(found, key=lambda item: -abs(item["flip"][1] - item["flip"][0]))[:MOST_CHANGED]


def gallery(page: ScoresPage, shown: Sequence[Score], names: Sequence[str]) -> dict[str, Any]:
    """The data of the gallery: items, filters, sizes of the blocks of pictures."""
    places, changes = {name: place for place, name in enumerate(names)}, flips(page)
    return {
        "items": [entry(page, score, places, changes) for score in shown],
        "filters": _filters(shown),
        "perBlock": PICTURES_PER_BLOCK,
        "files": page.files,
        "boxBins": list(BOX_COUNTS) if page.boxes else [],
        "compared": page.comparison is not None,
    }


def flips(page: ScoresPage) -> dict[str, Flip]:
    """The items whose score another run changed, by id."""
    return {str(flip.question_id): flip for flip in page.comparison.flips} if page.comparison else {}


def entry(page: ScoresPage, score: Score, places: Mapping[str, int], flips: Mapping[str, Flip]) -> dict[str, Any]:
    """One item of the gallery; `places` of the pictures."""
    found = {
        "id": str(score.question_id),
        "score": score.score,
        "status": score.status,
        "question": score.question,
        "answer": score.prediction,
        "read": shown_value(score.extracted),
        "target": shown_value(score.target),
        "image": score.image,
        "picture": places.get(score.image, -1),
        "fields": {name: shown_value(value) for name, value in score.fields.items()},
        "bin": box_bin(page.boxes.get(score.image)),
    }
    flip = flips.get(str(score.question_id))
    if flip is not None:
        found["flip"] = [flip.first, flip.second, flip.first_prediction]
    return found | _effects(page, score)


def _effects(page: ScoresPage, score: Score) -> dict[str, list[Any]]:
    """Boxes to colour: [x0, y0, x1, y1, change, label], the most first."""
    found = page.effects.get(str(score.question_id))
    if not found:
        return {}
    ordered = sorted(found, key=lambda one: -abs(one.change))[:MOST_BOXES]
    return {"effects": [[*_tenths(one.box), round(one.change, 4), one.label] for one in ordered]}


def _filters(shown: Sequence[Score]) -> dict[str, list[str]]:
    """Fields with few enough values to choose from; of the others no more values are kept than tell that."""
    values: dict[str, set[str]] = {}
    for score in shown:
        for name, value in score.fields.items():
            found = values.setdefault(name, set())
            if len(found) <= MOST_FILTER_VALUES:
                found.add(value if isinstance(value, str) else shown_value(value) or "")
    return {name: sorted(found) for name, found in values.items() if 1 < len(found) <= MOST_FILTER_VALUES}


def pictures(page: ScoresPage, names: Sequence[str], first: Mapping[str, Score], side: int) -> Iterator[dict[str, Any]]:
    """Pictures with their boxes, a block of them, so that a browser decodes only those it shows.

    Args:
        page: gives bytes and boxes.
        names: of the pictures.
        first: the first item of each picture.
        side: of the thumbnails, pixels.
    """
    for name, small in zip(names, thumbnails(names, page.read, side), strict=True):
        record = page.boxes.get(name)
        size = (record.width, record.height) if record is not None and record.width else (small.width, small.height)
        found, objects = _drawn(first[name], record)
        yield {"uri": small.uri, "size": size, "boxes": found, "objects": objects}


def _drawn(score: Score, record: BoxRecord | None) -> tuple[list[Any], list[Any]]:
    """Boxes to draw: [x0, y0, x1, y1, score, label] of the detector, and those of the target."""
    detected: Mapping[str, Any] = score.extracted if isinstance(score.extracted, Mapping) else {}
    if "boxes" not in detected and record is not None:
        detected = {"boxes": record.boxes or (), "scores": record.scores or (), "labels": record.labels or ()}
    rows = zip(detected.get("boxes", ()), detected.get("scores", ()), detected.get("labels", ()), strict=True)
    found = sorted(rows, key=lambda row: -row[1])[:MOST_BOXES]
    target = score.target if isinstance(score.target, Mapping) else {}
    objects = [(x, y, x + w, y + h) for x, y, w, h in target.get("bbox", ())]
    return (
        [[*_tenths(box), round(confidence, 3), label] for box, confidence, label in found],
        [[*_tenths(box), label] for box, label in zip(objects, target.get("labels", ()), strict=False)],
    )


def _tenths(box: Iterable[float]) -> list[float]:
    return [round(float(edge), 1) for edge in box]


def shown_value(value: Any) -> str | None:
    """A target or an extracted answer as a person reads it.

    >>> shown_value(["yes", "yes", "no"]), shown_value({"labels": ["cat", "cat"]}), shown_value(None)
    ('yes ×2, no', '2 objects: cat ×2', None)
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float | int):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, Mapping):
        labels = value.get("labels")
        if labels is None:
            return msgspec.json.encode(value).decode()
        objects = "1 object" if len(labels) == 1 else f"{len(labels)} objects"
        return f"{objects}: {shown_value(list(labels))}" if labels else "no objects"
    if isinstance(value, list | tuple | set | frozenset):
        counts = dict[str, int]()
        for entry in map(str, value):
            counts[entry] = counts.get(entry, 0) + 1
        return ", ".join(f"{entry} ×{n}" if n > 1 else entry for entry, n in counts.items())
    return str(value)
