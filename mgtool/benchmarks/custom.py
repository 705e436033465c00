"""A person's own data as a benchmark: questions with their right answers, scored by metrics that are chosen by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from mgtool.errors import UsageError, one_of
from mgtool.records import Score
from mgtool.scoring.benchmark import OFFICIAL, Benchmark, Item, Verdict, by_field
from mgtool.scoring.ground_truth import Row, Truth, first, listed, picture_name, whole
from mgtool.scoring.multiple_choice import lettered, options_of
from mgtool.scoring.statistics import Metric, Statistic, mean_of
from mgtool.scoring.text_metrics import METRICS

_IDS = ("question_id", "questionId", "index", "id")
_TARGETS = ("answers", "answer", "target", "label", "reference", "ground_truth")
_QUESTIONS = ("question", "text", "prompt", "query")
_PICTURES = ("image", "image_path", "video")
_OPTION = re.compile(r"^\s*\(?([A-H])[.):]\s*(\S.*?)\s*$", re.MULTILINE)
_LONGEST_FIELD = 100


class Custom(Benchmark):
    """Any data with right answers.

    Args:
        metrics: names of `text_metrics.METRICS`, the first of which is the items' score.
        by: fields of the data to break the metrics down by.
    """

    name = "custom"
    title = "Your own data"
    files = (
        "LLaVA's JSON (the last `gpt` turn is the right answer), or JSON, JSONL, CSV, TSV, Parquet with `question_id` "
        "or `id`, `question`, `answer` or `answers`"
    )
    metric = f"`metric`, one or several of {', '.join(METRICS)}"
    headline = "exact"
    variants: ClassVar[Mapping[str, str]] = {OFFICIAL: "by the metrics that were asked for"}

    def __init__(self, metrics: Sequence[str] = ("exact",), by: Sequence[str] = ()) -> None:
        self.metrics_asked, self.by = tuple(metrics), tuple(by)

    def configured(self, metrics: Sequence[str], by: Sequence[str]) -> Benchmark:
        """The same data by other metrics.

        Raises:
            UsageError: for a metric that is not known.
        """
        for name in metrics:
            if name not in METRICS:
                raise UsageError("metric", f"{name}: not known; there are {one_of(name, METRICS)}")
        return Custom(tuple(dict.fromkeys(metrics)) or self.metrics_asked, by)

    def load(self, truth: Truth) -> list[Item]:
        """Every record with a right answer.

        Raises:
            UsageError: for a field to break down by that no record has.
        """
        rows = [
            (f"{'line' if document.suffix == '.jsonl' else 'record'} {number}", row)
            for document in truth.files
            for number, row in enumerate(document.rows(), 1)
            if not truth.split or str(row.get("split", truth.split)) == truth.split
        ]
        items = [item for name, row in rows if (item := _item(row, name)).target]
        if not items:
            raise truth.mismatch(self.files)
        for field in self.by:
            if not any(field in item.fields for item in items):
                known = sorted({name for item in items for name in item.fields} - {"options"})
                raise UsageError("by", f"{field}: no record has this field; there are: {one_of(field, known)}")
        return items

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """By each metric; the first is the item's score."""
        options = item.fields.get("options", {})
        found = {name: METRICS[name](text, item.target, options) for name in self.metrics_asked}
        return Verdict(" ".join(text.split()), found[self.metrics_asked[0]], found)

    def missing(self, item: Item) -> Verdict:
        """Wrong by every metric."""
        return Verdict(None, 0.0, dict.fromkeys(self.metrics_asked, 0.0))

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """The mean of each metric."""
        groups = [score.group for score in scores]
        return {name: mean_of([score.fields[name] for score in scores], groups) for name in self.metrics_asked}

    def breakdown(self, scores: Sequence[Score], variant: str) -> dict[str, dict[str, Statistic | Metric]]:
        """The mean of each metric by the fields that were asked for."""
        several = len(self.metrics_asked) > 1
        return {
            field: {
                f"{value} {name}" if several else value: number
                for value, part in by_field(scores, field).items()
                for name, number in self.metrics(part, variant).items()
            }
            for field in self.by
        }

    def label(self, scores: Sequence[Score], variant: str) -> str:
        """The metrics are what tells one result from another."""
        return f"{self.name} ({', '.join(self.metrics_asked)})"


def _item(row: Row, name: str) -> Item:
    """A question; one without an id goes by its place, as it does where it is answered."""
    question, target = _turns(row) if isinstance(row.get("conversations"), list) else _columns(row)
    image = row.get("image")
    image = str(image[0]) if isinstance(image, list) and image else picture_name(row, _PICTURES)
    options = options_of(row) or lettered(listed(first(row, ("choices", "options"), [])))
    options = options or dict(_OPTION.findall(question))
    fields = {
        name: value
        for name, value in row.items()
        if isinstance(value, str | int | float | bool)
        and len(str(value)) <= _LONGEST_FIELD
        and name not in (*_IDS, *_TARGETS, *_QUESTIONS, *_PICTURES, *options)
    }
    return Item(
        id=whole(first(row, _IDS, name)),
        question=question,
        target=target,
        image=image,
        group=image,
        fields={**fields, **({"options": options} if options else {})},
    )


def _turns(row: Row) -> tuple[str, list[str]]:
    """The last question and its answer, in LLaVA's layout."""
    turns = [turn for turn in row["conversations"] if isinstance(turn, dict)]
    said = [str(turn.get("value", "")) for turn in turns if turn.get("from") in ("gpt", "assistant")]
    asked = [str(turn.get("value", "")) for turn in turns if turn.get("from") in ("human", "user")]
    question = asked[-1] if asked else ""
    return re.sub(r"\s*<(?:image|video)>\s*", "", question), said[-1:]


def _columns(row: Row) -> tuple[str, list[str]]:
    target = first(row, _TARGETS)
    return str(first(row, _QUESTIONS, "")), [] if target is None else listed(target)
