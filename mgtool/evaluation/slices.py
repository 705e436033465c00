"""Scores by what the items are like: boxes, sizes, lengths, any field."""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

from mgtool.errors import UsageError, one_of
from mgtool.records import BoxRecord, Score
from mgtool.scoring.benchmark import mean_score
from mgtool.scoring.score_file import by_value, has_field
from mgtool.scoring.statistics import Metric

Bin = str | None
BOX_COUNTS = ("0", "1-10", "11-20", "21-30", "31-50", ">50")
BOX_SIZES = ("no box", "small (< 32² px)", "medium (< 96² px)", "large")
ANSWER_WORDS = ("0", "1", "2-3", "4-10", "11-30", ">30")
_COUNT_EDGES = (0, 10, 20, 30, 50)
_WORD_EDGES = (0, 1, 3, 10, 30)
_SIZE_EDGES = (32.0**2, 96.0**2)


def sliced(
    scores: Sequence[Score], fields: Sequence[str], boxes: Mapping[str, BoxRecord] | None = None
) -> dict[str, dict[str, Metric]]:
    """Mean item scores by slice.

    Args:
        scores: the items.
        fields: names of item fields to slice by, beside the answer's length and the boxes.
        boxes: the pictures' boxes by picture name; slices by number and size of boxes need them.

    Raises:
        UsageError: for a field that no item has.
    """
    slices = {"answer_words": _by(scores, _answer_words, ANSWER_WORDS)}
    if boxes is not None:
        slices["boxes"] = _by(scores, lambda score: box_bin(boxes.get(score.image)), BOX_COUNTS)
        slices["largest_box"] = _by(scores, lambda score: _size_bin(boxes.get(score.image), max), BOX_SIZES)
        slices["smallest_box"] = _by(scores, lambda score: _size_bin(boxes.get(score.image), min), BOX_SIZES)
    for field in fields:
        if not has_field(scores, field):
            known = sorted({name for score in scores for name in score.fields})
            raise UsageError("slices", f"{field}: no item has this field; there are: {one_of(field, known)}")
        slices[field] = _by(scores, functools.partial(_field_text, field))
    return {name: bins for name, bins in slices.items() if len(bins) > 1 or name in fields}


def box_bin(record: BoxRecord | None) -> Bin:
    """The paper's bins of the number of boxes; None for an unknown picture."""
    return None if record is None else BOX_COUNTS[bisect_left(_COUNT_EDGES, len(record.boxes or ()))]


def _size_bin(record: BoxRecord | None, pick: Callable[[Sequence[float]], float]) -> Bin:
    if record is None:
        return None
    if not record.boxes:
        return BOX_SIZES[0]
    area = pick([(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in record.boxes])
    return BOX_SIZES[1 + sum(area >= edge for edge in _SIZE_EDGES)]


def _answer_words(score: Score) -> Bin:
    if score.prediction is None:
        return None
    return ANSWER_WORDS[bisect_left(_WORD_EDGES, len(score.prediction.split()))]


def _field_text(field: str, score: Score) -> Bin:
    value = score.fields.get(field)
    return None if value is None else str(value)


def _by(scores: Sequence[Score], bin_of: Callable[[Score], Bin], order: Sequence[str] = ()) -> dict[str, Metric]:
    parts = by_value(scores, bin_of)
    names = [name for name in order if name in parts] + sorted(name for name in parts if name not in order)
    return {name: mean_score(parts[name]).estimate() for name in names}
