"""What the multiple-choice benchmarks share: their rows, the published prompt, reading a letter in an answer."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mgtool.records import Sample, Score
from mgtool.scoring.benchmark import (
    LETTER,
    OFFICIAL,
    Benchmark,
    Item,
    Judge,
    JudgeRequest,
    Pair,
    Verdict,
    question_of,
    with_suffix,
)
from mgtool.scoring.ground_truth import LONGEST_NAME, Document, Row, Truth, first, listed, whole
from mgtool.scoring.judged import rubric
from mgtool.scoring.predictions import Prediction

LETTER_CHINESE = "请直接回答选项字母。"
_NUMBERS_THAT_ARE_NONE = ("-1.#IND", "-1.#QNAN", "1.#IND", "1.#QNAN", "-NaN", "-nan", "NaN", "nan")
MISSING = frozenset(
    (*_NUMBERS_THAT_ARE_NONE, "#N/A", "#N/A N/A", "#NA", "<NA>", "N/A", "n/a", "NA", "NULL", "null", "None")
)
"""Cells that pandas reads as missing."""
FAILED = "Z"
"""What the official reader calls a refusal or a failure; never right."""

_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_SPACED = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_LAST_TOKENS = 4
# The official pattern has no word boundary: "the answer is a dog" reads as A.
_ANSWER_IS = re.compile(r"(?:correct\s+)?answer\s+is\s+\**([A-D])\**", re.IGNORECASE)
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
Choices = Mapping[str, str]


class ChoiceBenchmark(Benchmark):
    """Questions with lettered options; right is the letter."""

    metric = "accuracy of the chosen letter, by category"
    variants = ("official", "mg-llava")
    judge = "optional"
    breakdowns: ClassVar[tuple[str, ...]] = ("l2-category", "category")
    image_fields: ClassVar[tuple[str, ...]] = ("image_path", "image")

    def prompt(self, sample: Sample) -> str:
        """Hint, question, options, and the request for the letter."""
        return choice_prompt(sample)

    def load(self, truth: Truth) -> list[Item]:
        """Rows with `question`, the options under `A`, `B`, ... and `answer`."""
        rows = [row for document in truth.files for row in self.rows(document)]
        rows = self.selected(rows, truth.split)
        if not rows or "question" not in rows[0]:
            raise truth.mismatch(f"rows with index, question, A, B, ..., answer: {self.files}")
        return [self.item(row) for row in rows]

    def rows(self, document: Document) -> list[Row]:
        """A file's rows; benchmarks with other official files override this."""
        return table_rows(document)

    def selected(self, rows: list[Row], split: str) -> list[Row]:
        """The rows of a split, where the rows name one."""
        return [row for row in rows if not split or str(row.get("split", split)) == split]

    def item(self, row: Row) -> Item:
        """One question; the target is the letter."""
        options = options_of(row)
        picture = picture_of(row, self.image_fields)
        fields = {name: row[name] for name in (*self.breakdowns, "split") if row.get(name) not in (None, "")}
        return Item(
            id=whole(first(row, ("index", "question_id", "id"))),
            question=str(row["question"]),
            target=str(row["answer"]) if row.get("answer") is not None else None,
            image=picture,
            group=picture,
            fields={**fields, "options": options},
        )

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> list[Verdict]:
        """By the rules; a judge, where there is one, matches the answers in which the rules find nothing."""
        verdicts = super().grade(pairs, variant)
        if judge is None or variant != OFFICIAL:
            return verdicts
        unread = [(n, pair) for n, pair in enumerate(pairs) if pair[1] is not None and verdicts[n].extracted is None]
        replies = judge.ask([_matching_request(item, answer) for _, (item, answer) in unread])
        for (place, (item, _)), reply in zip(unread, replies, strict=True):
            read = inferred(reply, item.fields["options"]) if reply is not None else None
            verdicts[place] = Verdict(read, float(read is not None and read == item.target), {"reply": reply})
        return verdicts  # The original draws a letter at random where even the reply cannot be read: not here.

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """The letter that was read; one that cannot be read is wrong."""
        read = first_letters(text) if variant == "mg-llava" else inferred(text, item.fields["options"])
        return Verdict(read, float(read is not None and read == item.target))

    def notes(self, scores: Sequence[Score], variant: str) -> list[str]:
        """How many answers named no option."""
        unread = sum(score.status == "answered" and score.extracted is None for score in scores)
        return [f"{unread:,} answers name no option that can be read, and count as wrong"] if unread else []


def _matching_request(item: Item, answer: Prediction | None) -> JudgeRequest:
    lines = (f"{letter}. {text}\n" for letter, text in item.fields["options"].items())
    options = "There are several options: \n" + "".join(lines)
    text = answer.text.strip() if answer is not None else ""
    prompt = rubric("choices-cn" if _CHINESE.search(item.question) else "choices")
    return JudgeRequest(user=prompt.format(item.question, options, text))


def table_rows(document: Document) -> list[Row]:
    """The rows of a table as VLMEvalKit reads them: an option that pandas takes for missing (`None`) is no option."""
    if document.suffix != ".tsv":
        return document.rows()
    return [
        {name: cell for name, cell in row.items() if name not in string.ascii_uppercase or cell not in MISSING}
        for row in document.rows()
    ]


def options_of(row: Mapping[str, Any]) -> dict[str, str]:
    """The options of a row by their letters."""
    return {letter: str(row[letter]) for letter in string.ascii_uppercase if row.get(letter) not in (None, "")}


def lettered(options: Sequence[Any]) -> dict[str, str]:
    """Options in order, with their letters.

    >>> lettered(["cat", "dog"])
    {'A': 'cat', 'B': 'dog'}
    """
    return dict(zip(string.ascii_uppercase, map(str, options), strict=False))


def picture_of(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """The picture's name, or the index of the row that holds it; a picture inside the row goes by its own index."""
    name = first(row, names)
    if isinstance(name, str) and 0 < len(name) <= LONGEST_NAME:
        return name
    return str(first(row, ("index", "question_id", "id"), ""))


def choice_prompt(sample: Sample) -> str:
    """Hint, question, options, one a line, and the request for the letter, in the question's language."""
    question = question_of(sample)
    cells = {letter: cell for letter, cell in options_of(sample.metadata).items() if cell not in MISSING}
    options = cells or lettered(listed(sample.metadata.get("choices", ())) or ())
    hint = sample.metadata.get("hint") or sample.metadata.get("context")
    lines = [*([str(hint)] if hint else []), question, *(f"{letter}. {text}" for letter, text in options.items())]
    text = "\n".join(lines)
    return with_suffix(text, LETTER_CHINESE if _CHINESE.search(text) else LETTER)


def inferred(text: str, options: Choices) -> str | None:
    """The option that an answer names, by VLMEvalKit's rules; None where it names none.

    >>> inferred("(B)", {"A": "cat", "B": "dog"}), inferred("a dog", {"A": "cat", "B": "dog"})
    ('B', 'B')
    """
    return _by_letter(text, options) or _by_text(text, options)


def first_letters(text: str) -> str | None:
    """The reference implementation's reading: the first run of the capitals A to D, wherever it stands.

    >>> first_letters("Answer: B"), first_letters("E")
    ('A', None)
    """
    match = re.search(r"[A-D]+", text)
    return match.group() if match else None


def _by_letter(text: str, options: Choices) -> str | None:
    if "Failed to obtain answer via API" in text:
        return None
    if any(refusal in text for refusal in _REFUSALS):
        return FAILED
    tokens = text.translate(_SPACED).split()
    named = [letter for letter in options if letter in tokens]
    if len(named) == 1 and tokens.index(named[0]) >= len(tokens) - _LAST_TOKENS:
        return named[0]
    if not named and FAILED in tokens:
        return FAILED
    match = _ANSWER_IS.search(text)
    return match[1].upper() if match and match[1].upper() in options else None


def _by_text(text: str, options: Choices) -> str | None:
    said = text.lower()
    if len(said) > 2 * sum(len(option) for option in options.values()):
        return None
    named = [letter for letter, option in options.items() if option.lower() in said]
    return named[0] if len(named) == 1 else None
