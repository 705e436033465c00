"""Lowest scores, one for each label."""

from __future__ import annotations

from collections.abc import Mapping

from mgtool.errors import UsageError


class LabelThresholds(float):
    """Lowest scores by label in a number's place; as a number the lowest of them.

    Args:
        by_label: score by label, compared without regard to case.
        others: of all other labels; None for the detector's own.

    Raises:
        UsageError: a score that is not from 0 to 1.
    """

    by_label: Mapping[str, float]
    others: float | None

    def __new__(cls, by_label: Mapping[str, float], others: float | None = None) -> LabelThresholds:
        scores = [*by_label.values(), *([] if others is None else [others])]
        if not scores or not all(0 <= score <= 1 for score in scores):
            raise UsageError("threshold", f"{_text(by_label, others)}: give scores from 0 to 1")
        made = super().__new__(cls, min(scores))
        made.by_label = {label.casefold(): float(score) for label, score in by_label.items()}
        made.others = others
        return made

    @classmethod
    def parse(cls, text: str) -> float:
        """A number, or numbers by label with commas between them; one alone is of all other labels.

        >>> LabelThresholds.parse("0.2,person=0.3").of("cup", own=0.5), LabelThresholds.parse("0.2")
        (0.2, 0.2)

        Raises:
            UsageError: anything else.
        """
        by_label: dict[str, float] = {}
        alone: list[float] = []
        for part in text.split(","):
            label, equals, number = part.rpartition("=")
            if equals:
                by_label[label.strip()] = _score(number, text)
            else:
                alone.append(_score(number, text))
        if len(alone) > 1:
            raise UsageError("threshold", f"{text}: several scores without a label")
        others = alone[0] if alone else None
        return cls(by_label, others) if by_label else alone[0]

    def of(self, label: str, own: float) -> float:
        """The lowest score of a label, where `own` is the detector's."""
        return self.by_label.get(label.casefold(), own if self.others is None else self.others)

    def lowest(self, own: float) -> float:
        """The lowest score of any label, where `own` is the detector's."""
        return min(float(self), own if self.others is None else self.others)

    def __eq__(self, other: object) -> bool:
        return repr(self) == repr(other) if isinstance(other, LabelThresholds) else NotImplemented

    def __hash__(self) -> int:
        return hash(repr(self))

    def __reduce__(self) -> tuple[type[LabelThresholds], tuple[Mapping[str, float], float | None]]:
        return LabelThresholds, (self.by_label, self.others)

    def __repr__(self) -> str:
        return _text(self.by_label, self.others)


def _score(number: str, text: str) -> float:
    try:
        return float(number)
    except ValueError as error:
        detail = f"{text}: give a score from 0 to 1, or scores by label: person=0.3,cup=0.5"
        raise UsageError("threshold", detail) from error


def _text(by_label: Mapping[str, float], others: float | None) -> str:
    first = [] if others is None else [f"{others:g}"]
    return ",".join([*first, *(f"{label}={score:g}" for label, score in sorted(by_label.items()))])
