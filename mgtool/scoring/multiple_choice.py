"""What the multiple-choice benchmarks share: their rows, the published prompt, reading a letter in an answer."""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from mgtool.records import Sample, Score
from mgtool.scoring.benchmark import Benchmark, Item, Judge, JudgeRequest, Pair, Verdict, kept_items
from mgtool.scoring.ground_truth import LONGEST_NAME, Document, Row, Truth, first, listed, whole
from mgtool.scoring.instructions import LETTER, SELECT, has_instruction, question_of, with_suffix
from mgtool.scoring.judged import ask_until_read, rubric, unread_notes
from mgtool.scoring.lmms_eval import LMMS_EVAL, letter_anywhere

_LETTERS = frozenset(string.ascii_uppercase)
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
VLMEVALKIT = "vlmevalkit"
MATCHING_ATTEMPTS = 3
CHOICE_VARIANTS = {
    VLMEVALKIT: "its rules, without options that are spelled as pandas spells a missing cell (None, NA, ...)",
    "mg-llava": "the first run of the capitals A to D, wherever it stands, is the whole letter",
}


class LetteredQuestion(NamedTuple):
    """A question as an answer to it is read.

    Attributes:
        text: the question.
        options: letters and texts.
        target: the right letter; None where it is not known.
        rubric: what a judge is asked with, where it is not the usual.
        read: the option that a text names; None where it names none.
        max_tokens: of the judge's reply.
    """

    text: str
    options: Choices
    target: str | None
    rubric: str = ""
    read: Callable[[str, Choices], str | None] | None = None
    max_tokens: int = 1024


class ChoiceBenchmark(Benchmark):
    """Questions with lettered options; right is the letter."""

    metric = "accuracy of the chosen letter, by category"
    variants: ClassVar[Mapping[str, str]] = {
        "official": "VLMEvalKit's rules: a letter that stands alone, else the one option in the text, else a judge",
        **CHOICE_VARIANTS,
    }
    judge = "optional"
    breakdowns: ClassVar[tuple[str, ...]] = ("l2-category", "category")
    image_fields: ClassVar[tuple[str, ...]] = ("image_path", "image")

    def prompt(self, sample: Sample) -> str:
        """Hint, question, options, and the request for the letter."""
        return choice_prompt(sample)

    def prompt_as(self, sample: Sample, prompts: str) -> str:
        """As `prompt`, or with the names that VLMEvalKit gives its parts."""
        return vlmevalkit_prompt(sample) if prompts == "vlmevalkit" else self.prompt(sample)

    def load(self, truth: Truth) -> Sequence[Item]:
        """Rows with `question`, the options under `A`, `B`, ... and `answer`."""
        rows = iter(self.selected((row for document in truth.files for row in self.rows(document)), truth.split))
        head = next(rows, {})
        if "question" not in head:
            raise truth.mismatch(f"rows with index, question, A, B, ..., answer: {self.files}")
        return kept_items(map(self.item, itertools.chain([head], rows)))

    def rows(self, document: Document) -> Iterable[Row]:
        """A file's rows; benchmarks with other official files override this."""
        return document.each()

    def selected(self, rows: Iterable[Row], split: str) -> Iterable[Row]:
        """The rows of a split, where the rows name one."""
        return (row for row in rows if not split or str(row.get("split", split)) == split)

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

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> Iterable[Verdict]:
        """By the rules; a judge, where there is one, matches the answers in which the rules find nothing."""
        verdicts = super().grade(pairs, variant)
        if judge is None or not self.asks_judge(variant):
            return verdicts
        return matched(pairs, verdicts, [self.question(item, variant) for item, _ in pairs], judge)

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """The letter that was read; one that cannot be read is wrong."""
        asked = self.question(item, variant)
        read = first_letters(text) if variant == "mg-llava" else inferred(text, asked.options)
        return Verdict(read, float(read is not None and read == asked.target))

    def question(self, item: Item, variant: str) -> LetteredQuestion:
        """Options and right letter as a variant has them."""
        options = item.fields["options"]
        return LetteredQuestion(
            item.question, as_pandas_reads(options) if variant == VLMEVALKIT else options, item.target
        )

    def asks_judge(self, variant: str) -> bool:
        """VLMEvalKit matches with a judge; lmms-eval and the reference implementation ask nobody."""
        return variant not in ("mg-llava", LMMS_EVAL)

    def notes(self, scores: Sequence[Score], variant: str) -> list[str]:
        """How many answers named no option, and which options are none."""
        unread = sum(
            score.status == "answered" and score.extracted is None and "unread" not in score.fields for score in scores
        )
        return [
            *([f"{unread:,} answers name no option that can be read, and count as wrong"] if unread else []),
            *unread_notes(scores, "they count as wrong"),
            *missing_options((score, self._known_options(score, variant)) for score in scores),
        ]

    def _known_options(self, score: Score, variant: str) -> Choices:
        item = Item(id=score.question_id, question=score.question, target=score.target, fields=score.fields)
        return self.question(item, variant).options


def matched(
    pairs: Sequence[Pair], verdicts: Iterable[Verdict], questions: Sequence[LetteredQuestion], judge: Judge
) -> list[Verdict]:
    """The verdicts, those without a letter by what a judge finds the answer to be most like.

    The original draws a letter at random where no reply can be read: not here.
    """
    result = list(verdicts)
    unread = [
        (place, questions[place], answer.text)
        for place, (_, answer) in enumerate(pairs)
        if answer is not None and result[place].extracted is None
    ]

    def read(case: tuple[int, LetteredQuestion, str], reply: str) -> Verdict | None:
        letter = (case[1].read or inferred)(reply, case[1].options)
        return None if letter is None else Verdict(letter, float(letter == case[1].target), {"reply": reply})

    found = ask_until_read(
        judge, unread, lambda case, n: _matching_request(case[1], case[2], n), read, MATCHING_ATTEMPTS
    )
    for (place, _, _), verdict in zip(unread, found, strict=True):
        result[place] = verdict
    return result


def missing_options(known: Iterable[tuple[Score, Choices]]) -> list[str]:
    """How many options pandas takes for missing cells, and how many questions lack their right option.

    Args:
        known: each item, and the options that it has then.
    """
    notes, dropped, lacking = list[str](), 0, 0
    for score, own in known:
        if options := score.fields.get("options"):
            dropped += sum(letter not in own for letter in options)
            lacking += isinstance(score.target, str) and len(score.target) == 1 and score.target not in own
    if dropped:
        notes.append(
            f"{dropped:,} options are spelled as pandas spells a missing cell (None, NA, ...), and are none here"
        )
    if lacking:
        notes.append(f"the right option of {lacking:,} questions is missing: no answer to them can be right")
    return notes


def _matching_request(question: LetteredQuestion, text: str, attempt: int) -> JudgeRequest:
    lines = (f"{letter}. {option}\n" for letter, option in question.options.items())
    options = "There are several options: \n" + "".join(lines)
    prompt = rubric(question.rubric or ("choices-cn" if _CHINESE.search(question.text) else "choices"))
    asked = prompt.format(question.text, options, text.strip())
    return JudgeRequest(user=asked, max_tokens=question.max_tokens, repeat=attempt)


def as_pandas_reads(options: Choices) -> dict[str, str]:
    """The options that VLMEvalKit has: a cell that pandas takes for missing is none.

    >>> as_pandas_reads({"A": "None", "B": "none"})
    {'B': 'none'}
    """
    return {letter: text for letter, text in options.items() if text not in MISSING}


def options_of(row: Mapping[str, Any]) -> dict[str, str]:
    """The options of a row by their letters."""
    return {letter: str(row[letter]) for letter in sorted(_LETTERS.intersection(row)) if row[letter] not in (None, "")}


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
    hint, question, options = _parts(sample)
    text = "\n".join([*([hint] if hint else []), question, *options])
    return with_suffix(text, LETTER_CHINESE if _CHINESE.search(text) else LETTER)


def vlmevalkit_prompt(sample: Sample) -> str:
    """Hint, question and options by their names, and VLMEvalKit's request; a question that has one stays as it is."""
    hint, question, options = _parts(sample)
    if has_instruction(question):
        return question
    named = [*([f"Hint: {hint}"] if hint else []), f"Question: {question}"]
    asked = ["Options:", *options, SELECT] if options else []
    return "\n".join([*named, *asked])


def _parts(sample: Sample) -> tuple[str, str, list[str]]:
    """Hint, question, and a line for each option."""
    options = options_of(sample.metadata) or lettered(listed(sample.metadata.get("choices", ())) or ())
    hint = sample.metadata.get("hint") or sample.metadata.get("context")
    lines = [f"{letter}. {text}" for letter, text in options.items()]
    return str(hint or ""), question_of(sample), lines


def named_anywhere(item: Item, text: str, letters: Sequence[str] = "ABCD") -> Verdict:
    """The letter that stands where it counts most, as lmms-eval reads it, whatever the options are."""
    read = letter_anywhere(text, letters)
    return Verdict(read, float(read is not None and read == str(item.target).strip().upper()))


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
