"""Whether an answer is to the question that has its id: the same picture, else the same words.

Ids such as 1, 2, 3 are in every data set, so that an id alone is no proof.
"""

from __future__ import annotations

import html
import re
from collections.abc import Container, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mgtool.records import SampleId
from mgtool.scoring.benchmark import Item
from mgtool.scoring.predictions import Prediction

EXAMPLES = 3
_LONGEST = 80
_COCO = re.compile(r"^coco_[a-z]+\d{4}_(?=\d+$)")
_PLACEHOLDER = re.compile(r"<(?:image|video)(?: ?\d+)?>")
_WORDS = re.compile(r"\w+")
_SENTENCES = re.compile(r"[\n.!?;。？！]+")
_INSTRUCTION = re.compile(
    r"^\W*(?:hint\W+)?(?:please\W+)?(?:directly\W+|briefly\W+)?(?:answer|respond|reply|choose|select)\b", re.IGNORECASE
)


class Mismatch(NamedTuple):
    """An answer beside the question that has its id.

    Attributes:
        id: of the answer.
        answered: picture and question of the answer, for reading.
        expected: those of the benchmark.
    """

    id: SampleId
    answered: str
    expected: str

    def __str__(self) -> str:
        return f"{self.id} is about {self.answered}, where the benchmark has {self.expected}"


class Identity(NamedTuple):
    """How the answers fit the questions whose ids they bear.

    Attributes:
        comparable: answers that name a picture or a question which the benchmark names too.
        mismatched: numbers of those about another picture or, where no picture can be compared, another question.
        first: some of them.
        reworded: those about the same picture in other words.
    """

    comparable: int = 0
    mismatched: Sequence[int] = ()
    first: tuple[Mismatch, ...] = ()
    reworded: int = 0

    @property
    def is_of_another(self) -> bool:
        """Whether most of the answers that can be compared are to other questions."""
        return 2 * len(self.mismatched) > self.comparable

    @property
    def examples(self) -> str:
        """Some mismatches, as a sentence has room for them."""
        return "; ".join(map(str, self.first))


UNKNOWN, SAME, REWORDED, OTHER = range(4)
"""How an answer fits the question whose id it bears."""


def fit_of(item: Item, answer: Prediction, ids: Container[str]) -> int:
    """Compare an answer with the question whose id it bears: one of the four above.

    Args:
        item: the question.
        answer: to it.
        ids: of all questions: a picture that is named by one tells nothing beside a picture's own name.
    """
    picture = _same_picture(item, answer, ids)
    question = _same_question(item, answer)
    fits = question if picture is None else picture
    if fits is None:
        return UNKNOWN
    if not fits:
        return OTHER
    return REWORDED if question is False else SAME


def counted(fits: NDArray[np.int8], mismatched: Sequence[int], examples: Iterable[tuple[Item, Prediction]]) -> Identity:
    """What the fits of the answers that count come to, with pairs that show the mismatches."""
    numbers = np.bincount(fits, minlength=4).tolist()
    first = tuple(_mismatch(item, answer) for item, answer in examples)
    return Identity(len(fits) - numbers[UNKNOWN], mismatched, first, numbers[REWORDED])


def _mismatch(item: Item, answer: Prediction) -> Mismatch:
    asked = answer.question or answer.prompt
    return Mismatch(answer.id, _told(answer.image, asked), _told(item.image, item.question))


def _told(picture: str, question: str) -> str:
    text = " ".join(question.split())
    short = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return (
        ", ".join(part for part in (picture, f'"{short}"' if short else "") if part) or "neither picture nor question"
    )


def _same_picture(item: Item, answer: Prediction, ids: Container[str]) -> bool | None:
    """By the files' names without folders and endings; None where one is missing, or named by a question's id."""
    if not item.image or not answer.image:
        return None
    if item.image == answer.image:
        return True
    ours, theirs = _stems(item.image), _stems(answer.image)
    if ours & theirs:
        return True
    if answer.image.isdecimal() or item.image.isdecimal():
        return None  # the number of a row that has the picture
    named = [any(name in ids for name in names) for names in (theirs, ours)]
    return None if named == [True, False] else False


@lru_cache(maxsize=1 << 10)
def _stems(name: str) -> frozenset[str]:
    """A picture's name with and without its ending; COCO's prefixes and leading zeros do not count.

    >>> sorted(_stems("val2014/COCO_val2014_000000000042.jpg"))
    ['42', 'coco_val2014_000000000042.jpg']
    """
    base = name.replace("\\", "/").casefold().rstrip("/").rpartition("/")[2]
    plain = _COCO.sub("", base.rpartition(".")[0] or base)
    return frozenset((base, (plain.lstrip("0") or "0") if plain.isdecimal() else plain))


def _same_question(item: Item, answer: Prediction) -> bool | None:
    """Whether the words of either stand in the other, instructions aside; None where one has no words."""
    if item.question and (item.question in answer.prompt or item.question == answer.question):
        return True if _has_words(item.question) else None
    expected = _phrases(item.question)
    asked = [text for text in (answer.question, answer.prompt) if _has_words(text)]
    if not expected or not asked:
        return None
    wholes = [f" {_words(text)} " for text in asked]
    if any(all(f" {phrase} " in whole for phrase in expected) for whole in wholes):
        return True
    own = f" {_words(item.question)} "
    return any(phrases and all(f" {p} " in own for p in phrases) for phrases in map(_phrases, asked))


def _phrases(text: str) -> list[str]:
    """The words of each sentence that is no instruction; all of them where nothing else is left."""
    sentences = [part for part in _SENTENCES.split(_plain(text)) if _words(part)]
    return [_words(part) for part in sentences if not _INSTRUCTION.search(part)] or [_words(p) for p in sentences]


def _has_words(text: str) -> bool:
    return _WORDS.search(_plain(text) if "<" in text or "&" in text else text) is not None


def _words(text: str) -> str:
    return " ".join(_WORDS.findall(_plain(text).casefold()))


def _plain(text: str) -> str:
    return _PLACEHOLDER.sub(" ", html.unescape(text))
