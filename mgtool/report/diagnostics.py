"""What a report shows beside its metrics: which answers are taken for which, and whether probabilities are right."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mgtool.records import Score
from mgtool.scoring.benchmark import Pair

MOST_TARGETS = 12
LONGEST_TARGET = 40
BINS = 10
PROBABLE = ("choices", "logprobs")
"""Fields of answers that say how probable they were."""
OTHER, NOTHING = "other", "no answer"


@dataclass(frozen=True)
class Confusion:
    """How often each target was answered in which way.

    Attributes:
        answers: the columns, the targets among them first.
        rows: target -> count of each column.
    """

    answers: tuple[str, ...]
    rows: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class CalibrationBin:
    """Answers of about one probability.

    Attributes:
        name: the bin's borders in percent.
        confidence, score: means, percent.
        count: of answers.
    """

    name: str
    confidence: float
    score: float
    count: int


@dataclass(frozen=True)
class Calibration:
    """Whether probable answers are right as often as they are probable.

    Attributes:
        bins: those that have answers, in order.
        error: the expected calibration error, percent: mean distance of score and probability, weighted by answers.
    """

    bins: tuple[CalibrationBin, ...]
    error: float


def confusion(scores: Sequence[Score]) -> Confusion | None:
    """The table of targets and answers; None where the targets are no small closed set of texts."""
    names = _closed_set(scores)
    if len(names) < 2:
        return None
    by_case = {name.casefold(): name for name in names}
    counts = Counter((score.target, _answer(score, by_case)) for score in scores)
    found = {answer for _, answer in counts}
    answers = (*names, *(name for name in (OTHER, NOTHING) if name in found))
    return Confusion(answers, {name: tuple(counts[name, answer] for answer in answers) for name in names})


def _closed_set(scores: Sequence[Score]) -> list[str]:
    """The targets, sorted; none where they are many, long or no texts."""
    targets = set[str]()
    for score in scores:
        target = score.target
        if not isinstance(target, str) or len(target) > LONGEST_TARGET:
            return []
        targets.add(target)
        if len(targets) > MOST_TARGETS:
            return []
    return sorted(targets)


def _answer(score: Score, by_case: Mapping[str, str]) -> str:
    if score.status != "answered":
        return NOTHING
    return by_case.get(str(score.extracted).casefold(), OTHER)


def confidences(pairs: Iterable[Pair]) -> Iterator[float | None]:
    """The probability of each answer; None where there is none, or its file does not say it."""
    return (None if answer is None or not answer.fields else _probability(answer.fields) for _, answer in pairs)


def _probability(fields: Mapping[str, Any]) -> float | None:
    """Of the chosen option among all that were scored, else of all the answer's tokens together."""
    choices, tokens = (fields.get(name) for name in PROBABLE)
    if isinstance(choices, Mapping) and choices and all(_is_log(value) for value in choices.values()):
        best = max(choices.values())
        return 1 / sum(math.exp(value - best) for value in choices.values())
    if isinstance(tokens, list) and tokens and all(_is_log(value) for value in tokens):
        return math.exp(sum(tokens))
    return None


def _is_log(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value <= 0


def calibration(scores: Iterable[Score], probabilities: Iterable[float | None]) -> Calibration | None:
    """Scores by their answers' probabilities, in `BINS` bins of one width; None where no answer has one."""
    members = [[0.0, 0.0, 0] for _ in range(BINS)]  # sums of probabilities and of scores, and how many
    for probability, score in zip(probabilities, scores, strict=False):
        if score.status == "answered" and probability is not None:
            own = members[min(int(probability * BINS), BINS - 1)]
            own[:] = own[0] + probability, own[1] + score.score, own[2] + 1
    total = sum(count for *_, count in members)
    if not total:
        return None
    bins = tuple(_bin(number, *part) for number, part in enumerate(members) if part[2])
    error = sum(abs(one.confidence - one.score) * one.count for one in bins) / total
    return Calibration(bins, error)


def _bin(number: int, probabilities: float, scores: float, count: float) -> CalibrationBin:
    width = 100 // BINS
    name = f"{number * width}-{(number + 1) * width} %"
    return CalibrationBin(name, 100 * probabilities / count, 100 * scores / count, int(count))
