"""A person's own data as a benchmark: questions with their right answers, scored by metrics that are chosen by name."""

from __future__ import annotations

import dataclasses
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from mgtool.errors import UsageError, one_of
from mgtool.records import Score
from mgtool.runs.run_file import FAILURES_FILE, RUN_FILE
from mgtool.scoring import captions
from mgtool.scoring.benchmark import (
    OFFICIAL,
    Benchmark,
    ByField,
    Item,
    Judge,
    JudgeRequest,
    Pair,
    Verdict,
    by_field,
    kept_items,
)
from mgtool.scoring.clusters import sizes
from mgtool.scoring.compact import Names
from mgtool.scoring.ground_truth import READABLE, Row, Truth, first, listed, picture_name, whole
from mgtool.scoring.judged import HEAT_STEP, READINGS, ask_until_read, rubric, unread_notes
from mgtool.scoring.multiple_choice import lettered, options_of
from mgtool.scoring.normalizers import yes_or_no
from mgtool.scoring.predictions import Prediction
from mgtool.scoring.score_file import groups_of, numbers_in, rows_of
from mgtool.scoring.statistics import Metric, Statistic
from mgtool.scoring.text_metrics import METRICS, plain
from mgtool.tars import paths
from mgtool.tars.index import WIDS_INDEX_FILE
from mgtool.tars.index_file import INDEX_FILE
from mgtool.tars.samples import open_tars

_IDS = ("question_id", "questionId", "index", "id")
_TARGETS = ("answers", "answer", "target", "label", "references", "reference", "ground_truth", "captions", "caption")
_QUESTIONS = ("question", "text", "prompt", "query")
_PICTURES = ("image", "image_path", "video")
_OWN = frozenset((*_IDS, *_TARGETS, *_QUESTIONS, *_PICTURES))
_PLAIN = (str, int, float)
_OPTION = re.compile(r"^[^\S\n]*\(?([A-H])[.):]\s*(\S(?:.*\S)?)[^\S\n]*$", re.MULTILINE)
_LONGEST_FIELD = 100
BLEU, NGRAMS, JUDGE = "bleu", "ngrams", "judge"
TOGETHER = (BLEU, "cider", "rouge")
"""Metrics of all answers together, by pycocoevalcap's measures."""
KNOWN = (*METRICS, *TOGETHER, JUDGE)
_BESIDE_TARS = frozenset({INDEX_FILE, WIDS_INDEX_FILE, RUN_FILE, FAILURES_FILE})
TABULAR = READABLE - {".txt"}


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
        "or `id`, `question`, `answer` or `answers`, or packed tars"
    )
    metric = f"`metric`, one or several of {', '.join(KNOWN)}"
    headline = "exact"
    judge: ClassVar[Literal["no", "optional", "needed"]] = "optional"
    variants: ClassVar[Mapping[str, str]] = {OFFICIAL: "by the metrics that were asked for"}

    def __init__(self, metrics: Sequence[str] = ("exact",), by: Sequence[str] = ()) -> None:
        self.metrics_asked, self.by = tuple(metrics), tuple(by)
        self.needs_all = not {*TOGETHER, JUDGE}.isdisjoint(metrics)

    def configured(self, metrics: Sequence[str], by: Sequence[str]) -> Benchmark:
        """The same data by other metrics.

        Raises:
            UsageError: for a metric that is not known.
        """
        for name in metrics:
            if name not in KNOWN:
                raise UsageError("metric", f"{name}: not known; there are {one_of(name, KNOWN)}")
        return Custom(tuple(dict.fromkeys(metrics)) or self.metrics_asked, by)

    def load(self, truth: Truth) -> Sequence[Item]:
        """Every record with a right answer.

        Raises:
            UsageError: for a field to break down by that no record has.
        """
        rows = (
            (name, row)
            for path in truth.paths
            for name, row in _rows(truth, path)
            if not truth.split or str(row.get("split", truth.split)) == truth.split
        )
        items = _named(rows)
        if not items:
            raise truth.mismatch(self.files)
        for field in self.by:
            if not any(field in item.fields for item in items):
                known = sorted({name for item in items for name in item.fields} - {"options"})
                raise UsageError("by", f"{field}: no record has this field; there are: {one_of(field, known)}")
        return items

    def asks_judge(self, variant: str) -> bool:
        """Where it is one of the metrics."""
        return JUDGE in self.metrics_asked

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> Iterable[Verdict]:
        """By each metric; the first is the item's score."""
        if not self.needs_all:
            return (self._verdict(answer, dict(verdict.fields)) for verdict, answer in self._graded(pairs, variant))
        found = [dict(verdict.fields) for verdict in super().grade(pairs, variant)]
        together = [name for name in self.metrics_asked if name in TOGETHER]
        if together:
            for fields, more in zip(found, _together(pairs, together), strict=True):
                fields.update(more)
        if JUDGE in self.metrics_asked:
            for fields, verdict in zip(found, _judged(pairs, judge), strict=True):
                fields.update({**verdict.fields, JUDGE: verdict.score})
        return [self._verdict(answer, fields) for (_, answer), fields in zip(pairs, found, strict=True)]

    def _graded(self, pairs: Sequence[Pair], variant: str) -> Iterator[tuple[Verdict, Prediction | None]]:
        """Each answer with what the metrics of single answers say of it."""
        for item, answer in pairs:
            yield self.missing(item) if answer is None else self.score(item, answer.text, variant), answer

    def _verdict(self, answer: Prediction | None, fields: dict[str, Any]) -> Verdict:
        said = None if answer is None else " ".join(answer.text.split())
        return Verdict(said, fields[self.metrics_asked[0]], fields)

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """By each metric of single answers."""
        options = item.fields.get("options", {})
        found = {name: METRICS[name](text, item.target, options) for name in self.metrics_asked if name in METRICS}
        return Verdict(text, 0.0, found)

    def missing(self, item: Item) -> Verdict:
        """Wrong by every metric."""
        return Verdict(None, 0.0, dict.fromkeys(self.metrics_asked, 0.0))

    def notes(self, scores: Sequence[Score], variant: str) -> list[str]:
        """What metrics of all answers together are over, and what the judge left unread."""
        together = [name for name in self.metrics_asked if name in TOGETHER]
        said = f"{', '.join(together)}: over words in lower case, without punctuation"
        return [*([said] if together else []), *unread_notes(scores, "they count as wrong")]

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """The mean of each metric; BLEU over all answers together."""
        groups = groups_of(scores)
        return {
            name: captions.bleu([score.fields[NGRAMS] for score in scores], groups.tolist())
            if name == BLEU
            else Statistic(rows_of(scores) if name == self.metrics_asked[0] else numbers_in(scores, name), groups)
            for name in self.metrics_asked
        }

    def breakdown(self, scores: Sequence[Score], variant: str) -> Mapping[str, dict[str, Statistic | Metric]]:
        """The mean of each metric by the fields that were asked for."""
        several = len(self.metrics_asked) > 1

        def numbers(field: str) -> dict[str, Statistic | Metric]:
            return {
                f"{value} {name}" if several else value: number
                for value, part in by_field(scores, field).items()
                for name, number in self.metrics(part, variant).items()
            }

        return ByField(self.by, numbers)

    def label(self, scores: Sequence[Score], variant: str) -> str:
        """The metrics are what tells one result from another."""
        return f"{self.name} ({', '.join(self.metrics_asked)})"


def _rows(truth: Truth, path: Path) -> Iterator[tuple[str, Row]]:
    return _packed(path) if _is_packed(path) else _written(dataclasses.replace(truth, paths=(path,)))


def _is_packed(path: Path) -> bool:
    """Whether a path is a tar, or a folder of tars and of nothing else that is read but what `mgtool pack` adds."""
    if paths.expand(str(path)) is not None:
        return True
    files = list(path.iterdir()) if path.is_dir() else []
    tars = {file.stem for file in files if file.suffix.lower() == ".tar"}
    others = [file for file in files if file.suffix.lower() in TABULAR and file.stem not in tars]
    return bool(tars) and {file.name for file in others} <= _BESIDE_TARS


def _packed(path: Path) -> Iterator[tuple[str, Row]]:
    """The samples of tars as LLaVA's JSON has them."""
    for sample in open_tars(path):
        turns = [{"from": turn.speaker, "value": turn.value} for turn in sample.turns]
        media = sample.images[0] if sample.images else sample.video
        yield (
            str(sample.id),
            {
                **sample.metadata,
                "id": sample.id,
                **({"image": media.name} if media is not None else {}),
                **({"conversations": turns} if turns else {}),
            },
        )


def _written(truth: Truth) -> Iterator[tuple[str, Row]]:
    for document in truth.files:
        what = "line" if document.suffix == ".jsonl" else "record"
        for number, row in enumerate(document.each(), 1):
            yield f"{what} {number}", row


def _together(pairs: Sequence[Pair], names: Sequence[str]) -> list[dict[str, Any]]:
    """What the metrics of all answers together give of each; one that is missing is empty."""
    said = [plain(answer.text) if answer is not None else "" for _, answer in pairs]
    references = [[plain(text) for text in item.target] for item, _ in pairs]
    found: list[dict[str, Any]] = [{} for _ in pairs]
    scorers = {"cider": captions.ciders, "rouge": captions.rouges}
    for name in names:
        for place, value in enumerate(scorers[name](said, references) if name in scorers else ()):
            found[place][name] = value
    if BLEU in names:
        for fields, counts in zip(found, captions.ngrams(said, references), strict=True):
            alone = captions.bleu([counts], [""]).estimate().value or 0.0
            fields.update({NGRAMS: counts, BLEU: alone / 100})
    return found


def _judged(pairs: Sequence[Pair], judge: Judge | None) -> list[Verdict]:
    """What a judge says of each answer."""
    if judge is None:
        raise UsageError("metric", f"{JUDGE} needs a judge: add `judge` openai:MODEL or `judge` hf:PATH")
    verdicts = [Verdict(None, 0.0) for _ in pairs]
    cases = [(place, item, answer.text) for place, (item, answer) in enumerate(pairs) if answer is not None]

    def request(case: tuple[int, Item, str], attempt: int) -> JudgeRequest:
        _, item, text = case
        asked = rubric("custom").format(question=item.question, reference="\n".join(item.target), answer=text)
        return JudgeRequest(user=asked, temperature=HEAT_STEP * attempt)

    def read(case: tuple[int, Item, str], reply: str) -> Verdict | None:
        said = yes_or_no(reply)
        return None if said is None else Verdict(said, float(said == "yes"), {"reply": reply})

    for (place, _, _), verdict in zip(cases, ask_until_read(judge, cases, request, read, READINGS), strict=True):
        verdicts[place] = verdict
    return verdicts


def _named(rows: Iterable[tuple[str, Row]]) -> Sequence[Item]:
    """The records with a right answer.

    One without an id is called, as where it is answered, by its picture where no other without one is about that, else
    by its place.
    """
    pictures, numbers = Names(), array("i")  # of the records without an id; -1 for those with one

    def placed() -> Iterator[Item]:
        count = 0
        for place, row in rows:
            has_id = first(row, _IDS) is not None
            if not has_id:
                pictures.extend([_picture(row)])
                count += 1
            item = _item(row, place)
            if item.target:
                numbers.append(-1 if has_id else count - 1)
                yield item

    items = kept_items(placed())
    if not len(pictures.codes):
        return items
    is_alone = (sizes(pictures.codes) == 1)[pictures.codes]
    return kept_items(
        msgspec.structs.replace(item, id=whole(item.image)) if number >= 0 and item.image and is_alone[number] else item
        for item, number in zip(items, numbers, strict=True)
    )


def _picture(row: Row) -> str:
    image = row.get("image")
    return str(image[0]) if isinstance(image, list) and image else picture_name(row, _PICTURES)


def _item(row: Row, name: str) -> Item:
    """A question, by its own id or else by this name."""
    question, target = _turns(row) if isinstance(row.get("conversations"), list) else ("", [])
    columns = _columns(row) if not target else ("", [])
    question, target = question or columns[0], target or columns[1]
    image = _picture(row)
    options = options_of(row) or lettered(listed(first(row, ("choices", "options"), [])))
    options = options or dict(_OPTION.findall(question))
    fields = {
        name: value
        for name, value in row.items()
        if name not in _OWN and name not in options and isinstance(value, _PLAIN) and len(str(value)) <= _LONGEST_FIELD
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
