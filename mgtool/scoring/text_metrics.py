"""Metrics of one text against one or several right ones, by name: what benchmarks share, and what own data take."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from mgtool.scoring import normalizers
from mgtool.scoring.multiple_choice import inferred

THRESHOLD = 0.5
"""Similarity below which ANLS counts nothing."""
TOLERANCE = 0.05
"""Part of a number by which relaxed accuracy lets it be off."""
SEVERAL = 3
"""Right answers from which they are taken for those of several annotators, as VQA's accuracy needs them."""
Options = Mapping[str, str]
TextMetric = Callable[[str, Sequence[str], Options], float]
"""An answer, the right ones, and a question's options by their letters -> 0 to 1."""


def spaced(text: str) -> str:
    """Lower case, white space collapsed.

    >>> spaced("  The  Cat ")
    'the cat'
    """
    return " ".join(text.lower().split())


def similarity(text: str, answer: str) -> float:
    """ANLS of one pair; the divisor is the longer of the raw texts, as all scripts have it.

    >>> similarity("The  Cat", "the cat"), similarity("dog", "cat")
    (1.0, 0.0)
    """
    from rapidfuzz.distance import Levenshtein

    length = max(len(answer.upper()), len(text.upper()))
    distance = Levenshtein.distance(spaced(text), spaced(answer)) / length if length else 0.0
    return 1 - distance if 1 - distance >= THRESHOLD else 0.0


def relaxed(said: str, expected: str) -> bool:
    """Relaxed equality of a stripped answer and a target.

    >>> relaxed("10.5", "10"), relaxed("5%", "0.05"), relaxed("Yes", "yes"), relaxed("0.0", "0")
    (True, True, True, False)
    """
    number, target = _number(said), _number(expected)
    if number is not None and target:
        return abs(number - target) / abs(target) <= TOLERANCE
    return said.lower() == expected.lower()


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None


def token_f1(text: str, answer: str) -> float:
    """F1 of the words that both have (SQuAD), without case, punctuation and articles.

    >>> token_f1("a red car", "The red bus."), token_f1("", "")
    (0.5, 1.0)
    """
    said, expected = (Counter(_words(each)) for each in (text, answer))
    if not said or not expected:
        return float(said == expected)
    return 2 * (said & expected).total() / (said.total() + expected.total())


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.casefold()) if word not in ("a", "an", "the")]


def _exact(text: str, answers: Sequence[str], options: Options) -> float:
    return float(any(spaced(text).rstrip(".") == spaced(answer).rstrip(".") for answer in answers))


def _vqa(text: str, answers: Sequence[str], options: Options) -> float:
    """VQAv2's accuracy over several annotators; over one answer, equality after the same normalisation."""
    said = normalizers.vqa(normalizers.flat(text))
    given = [normalizers.vqa(normalizers.flat(answer)) for answer in answers]
    return normalizers.soft_accuracy(said, given) if len(given) >= SEVERAL else float(said in given)


def _anls(text: str, answers: Sequence[str], options: Options) -> float:
    return max((similarity(text, answer) for answer in answers), default=0.0)


def _relaxed(text: str, answers: Sequence[str], options: Options) -> float:
    return float(any(relaxed(text.strip().rstrip("."), answer.strip()) for answer in answers))


def _choice(text: str, answers: Sequence[str], options: Options) -> float:
    """By the option that is named; a right answer is a letter, or an option's text."""
    letters = options or {letter: letter for letter in "ABCDEFGH"}
    right = {_lettered(answer, letters) for answer in answers}
    return float((inferred(text, letters) or text.strip().strip("().").upper()) in right)


def _lettered(answer: str, options: Options) -> str:
    """The letter that a right answer is, or whose text it is."""
    plain = answer.strip().strip("().").upper()
    if plain in options:
        return plain
    return next((letter for letter, text in options.items() if spaced(text) == spaced(answer)), "") or plain


def _yes_no(text: str, answers: Sequence[str], options: Options) -> float:
    said = normalizers.yes_or_no(text)
    return float(said is not None and said in {normalizers.yes_or_no(answer) for answer in answers})


def _contains(text: str, answers: Sequence[str], options: Options) -> float:
    said = f" {plain(text)} "
    return float(any(f" {plain(answer)} " in said for answer in answers if plain(answer)))


def plain(text: str) -> str:
    """Words in lower case with a space between, without punctuation.

    >>> plain("A red-brown Car.")
    'a red brown car'
    """
    return " ".join(re.findall(r"\w+", text.casefold()))


def _f1(text: str, answers: Sequence[str], options: Options) -> float:
    return max((token_f1(text, answer) for answer in answers), default=0.0)


METRICS: dict[str, TextMetric] = {
    "exact": _exact,
    "vqa": _vqa,
    "anls": _anls,
    "relaxed": _relaxed,
    "choice": _choice,
    "yes-no": _yes_no,
    "contains": _contains,
    "f1": _f1,
}
