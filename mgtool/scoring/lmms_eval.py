"""How lmms-eval finds a choice in an answer."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence

LMMS_EVAL = "lmms-eval"
ANYWHERE = "a capital, by where it stands: first, last, behind `answer is` and the like, in brackets, before a mark"

_STRIPPED = ",.!?;:'\""
_MARKED = {"({})": 6, "{}.": 5, "{}:": 4, "{})": 3, "{} ": 2}
"""Spellings of a letter, and how much they count."""
_FIRST, _LAST, _ANNOUNCED, _ANYWHERE = 10, 9, 7, 0
_ANNOUNCING = (
    *(f"{start}answer is" for start in ("", "the ", "correct ", "the correct ", "best ", "the best ", "my ")),
    *(f"{start}option is" for start in ("correct ", "the correct ", "best ", "the best ")),
    *(f"{start}choice is" for start in ("", "the ", "correct ", "the correct ", "my ")),
    *(f"i {verb}" for verb in ("choose", "select", "pick")),
    *("옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def letter_anywhere(text: str, letters: Sequence[str] = "ABCD") -> str | None:
    """The letter that stands where it counts most, of several such the last one; None without any.

    >>> letter_anywhere("(A) is wrong, so the answer is B"), letter_anywhere("A Dog"), letter_anywhere("dog")
    ('B', 'A', None)
    """
    said = f" {_stripped(text.strip())} "
    found = [*_marked(said, letters), *_announced(said, letters), *_at_the_ends(said, letters)]
    found = found or [(_ANYWHERE, said.rfind(letter), letter) for letter in letters if letter in said]
    return max(found, key=lambda each: each[:2])[2] if found else None


Found = tuple[int, int, str]
"""How much a letter counts, its place, and itself."""


def _stripped(text: str) -> str:
    for mark in _STRIPPED:
        text = text.strip(mark)
    return text


def _marked(said: str, letters: Sequence[str]) -> Iterable[Found]:
    for form, weight in _MARKED.items():
        for letter in letters:
            place = said.rfind(form.format(letter))
            if place >= 0:
                yield weight, place, letter


def _announced(said: str, letters: Sequence[str]) -> Iterable[Found]:
    lower = said.lower()
    for phrase in _ANNOUNCING:
        start = lower.find(phrase)
        for letter in letters if start >= 0 else ():
            place = said.find(letter, start + len(phrase))
            if place >= 0:
                yield _ANNOUNCED, place, letter


def _at_the_ends(said: str, letters: Sequence[str]) -> Iterable[Found]:
    inner = said.strip()
    for letter in letters:
        if inner.startswith(letter) and not inner[1:2].isalpha():
            yield _FIRST, 0, letter
        if inner.endswith(letter) and not inner[-2:-1].isalpha():
            yield _LAST, len(said) - 1, letter


def bare(text: str) -> str:
    """Lower case, without white space around and any ASCII punctuation: what `exact_match` compares.

    >>> bare(" (B)."), bare("It's B")
    ('b', 'its b')
    """
    return text.strip().lower().translate(_PUNCTUATION)


_MATCHED = "ABCD"
_NAMED = f"{_MATCHED}E"
_LONGEST_WITH_A = 3
"""Words of an answer in which an `A` that stands alone is no article."""
_FORMS = (
    *("{}.", "{},", "{}:", "{})", "{}).", "({})", "({})."),
    *(":{}", ":{},", ":{}.", ":{})", ":{})."),
)
MISSING_OPTION = "nan"
"""What lmms-eval's copy of a table has where there is no option; it is looked for in answers as all others are."""


def named_option(text: str, options: Mapping[str, str]) -> str | None:
    """MMBench's older rules: a letter that stands alone or with a mark, else the one option in the text.

    >>> named_option("(B)", {}), named_option("a dog", {"A": "cat", "B": "dog"}), named_option("A or B", {})
    ('B', 'B', None)
    """
    words = text.split()
    alone = [letter for letter in _NAMED if letter in words]
    if len(alone) == 1 and not ("A" in words and len(words) > _LONGEST_WITH_A):
        return alone[0]
    for form in _FORMS:
        marked = [letter for letter in _NAMED if form.format(letter) in words]
        if len(marked) == 1:
            return marked[0]
    said = text.lower()
    named = [letter for letter in _MATCHED if options.get(letter, MISSING_OPTION).lower() in said]
    return named[0] if len(named) == 1 else None
