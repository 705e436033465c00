"""MMMU (Yue et al., 2024; the official `mmmu/utils/eval_utils.py`, and VLMEvalKit)."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mgtool.errors import InputError
from mgtool.records import Sample, Score
from mgtool.scoring import predictions
from mgtool.scoring.benchmark import OFFICIAL, Item, Judge, Pair, Verdict
from mgtool.scoring.ground_truth import Document, Row, Truth, first, listed, whole
from mgtool.scoring.instructions import LETTER, SINGLE_WORD, question_of, with_suffix
from mgtool.scoring.lmms_eval import LMMS_EVAL
from mgtool.scoring.multiple_choice import (
    CHOICE_VARIANTS,
    VLMEVALKIT,
    ChoiceBenchmark,
    LetteredQuestion,
    as_pandas_reads,
    choice_prompt,
    lettered,
    options_of,
    picture_of,
)
from mgtool.scoring.predictions import Answers

SPLITS = ("dev", "validation", "test")
HIDDEN = "?"
"""The answer of a question whose answer is not public."""
SEED = 42
SEEDS = {OFFICIAL: SEED, LMMS_EVAL: 0}
"""What the variants that draw a choice begin to draw with."""
OPEN = "open"
CHOICE = "multiple-choice"

_STRIPPED = (",", ".", "!", "?", ";", ":", "'")
_FEW_WORDS = 5
_BETWEEN_SPACES = " {} "
_FORMS = {OFFICIAL: ("({})", _BETWEEN_SPACES), LMMS_EVAL: ("({})", "{} ", "{}.")}
"""How a letter is told from other text, the surest first."""
_SENTENCE_END = re.compile(r"\.\s(?=[A-Z])|\n")
_BEFORE_THE_ANSWER = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"(?:-|(?<!\d))\d++(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"(?:-|(?<!\d)(?=\d)|(?=\.))(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)
"""As the original has them, but that none begins within a number: what fails at its first digit, fails at all."""
_DECIMALS = 2
Value = str | float


class Mmmu(ChoiceBenchmark):
    """College questions: choices, and open ones with a word or a number for an answer."""

    name = "mmmu"
    title = "MMMU"
    files = (
        "MMMU_DEV_VAL.tsv (opencompass.openxlab.space), the Parquet files of huggingface.co/datasets/MMMU/MMMU, or "
        "answer_dict_val.json or an output.json (github.com/MMMU-Benchmark/MMMU)"
    )
    variants: ClassVar[Mapping[str, str]] = {
        "official": "a letter in brackets or between spaces, else a text, else one is drawn; open: texts and numbers",
        VLMEVALKIT: "its rules for choices; an open question is one between its answer and `Other Answers`",
        "mg-llava": CHOICE_VARIANTS["mg-llava"],
        LMMS_EVAL: "a letter in brackets, before a space or a period, even inside words, else a text, else one drawn; "
        "open questions are never right, as its script compares single characters",
    }
    breakdowns = ("category", "l2-category")

    def prompt(self, sample: Sample) -> str:
        """As for all choices; an open question asks for a word."""
        if options_of(sample.metadata) or sample.metadata.get("choices"):
            return choice_prompt(sample)
        question = question_of(sample)
        return question if LETTER in question else with_suffix(question, SINGLE_WORD)

    def load(self, truth: Truth) -> list[Item]:
        """Questions with their answers; the text of a question is not needed."""
        rows = list(self.selected((row for document in truth.files for row in self.rows(document)), truth.split))
        if not rows:
            raise truth.mismatch(f"rows with an id, options and answer: {self.files}")
        return [self.item(row) for row in rows]

    def folder_answers(self, folder: Path) -> Answers:
        """The results of MMMU's own scripts: a folder for each subject, with its output.json."""
        found = [predictions.read(path.read_bytes(), where=str(path)) for path in sorted(folder.glob("*/output.json"))]
        if not found:
            raise InputError(f"{folder}: holds no SUBJECT/output.json")
        return Answers(
            [one for part in found for one in part.predictions], [one for part in found for one in part.failures]
        )

    def rows(self, document: Document) -> list[Row]:
        """A file's rows with an answer; a Parquet's split is in the ids, or in its name."""
        rows = _answer_rows(document) if document.keys else document.rows()
        known = [row for row in rows if first(row, ("index", "id")) is not None and "answer" in row]
        return [{"split": _split(str(first(row, ("index", "id")))) or _split(document.stem), **row} for row in known]

    def selected(self, rows: Iterable[Row], split: str) -> list[Row]:
        """The validation split, unless another is asked for."""
        wanted, rows = split or "validation", list(rows)
        named = [row for row in rows if row.get("split") == wanted]
        return named if named or split else rows

    def item(self, row: Row) -> Item:
        """One question; the target of an open one is its answer, or a list of right ones."""
        index = first(row, ("index", "id"))
        options = _options(row)
        kind = str(row.get("question_type") or (CHOICE if options else OPEN))
        category = first(row, ("category", "subfield"), "_".join(str(index).split("_")[1:-1]))
        fields = {name: row[name] for name in ("l2-category", "split") if row.get(name) not in (None, "")}
        picture = picture_of({**row, "index": index}, self.image_fields)
        return Item(
            id=whole(index),
            question=str(row.get("question", "")),
            target=None if row["answer"] == HIDDEN else _target(row["answer"], is_choice=kind == CHOICE),
            image=picture,
            group=picture,
            fields={"category": category, **fields, "question_type": kind, "options": options},
        )

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> list[Verdict]:
        """As the official script does, which draws a choice where an answer names none, in the file's order."""
        verdicts = list(super().grade(pairs, variant, judge))
        if variant not in SEEDS:
            return verdicts
        generator = random.Random(SEEDS[variant])
        for place, (item, answer) in enumerate(pairs):
            letters = list(item.fields["options"])
            if answer is not None and verdicts[place].extracted is None and letters and _is_choice(item):
                drawn = generator.choice(letters)
                verdicts[place] = Verdict(drawn, float(drawn == item.target), {"drawn": True})
        return verdicts

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """Officially a choice by its letter or text, an open answer by the texts and numbers in it."""
        if variant not in SEEDS:
            return super().score(item, text, variant)
        if not _is_choice(item):
            found = candidates(text)
            return Verdict(found, float(variant == OFFICIAL and _is_right(item.target, found)))
        options = item.fields["options"]
        read = chosen(text, options, variant) if options else text  # without options, letters that were read already
        return Verdict(read, float(read is not None and read == item.target))

    def question(self, item: Item, variant: str) -> LetteredQuestion:
        """VLMEvalKit makes a choice of a question without an option A, and takes any answer but a letter for that A."""
        asked, target = super().question(item, variant), item.target
        if variant != VLMEVALKIT or target is None:
            return asked._replace(target=target if isinstance(target, str) else None)
        answer = str(target)
        known = item.fields["options"] or not _is_choice(item)
        options = as_pandas_reads(item.fields["options"]) if known else dict.fromkeys("ABCDEFGHI", "")
        if "A" not in options:
            options = {"A": answer, "B": "Other Answers", **{k: v for k, v in options.items() if k != "B"}}
        is_letter = len(answer) == 1 and answer in string.ascii_uppercase
        return LetteredQuestion(item.question, options, answer if is_letter else "A")

    def asks_judge(self, variant: str) -> bool:
        """The official script asks nobody."""
        return variant == VLMEVALKIT

    def notes(self, scores: Sequence[Score], variant: str) -> list[str]:
        """How many answers were drawn."""
        drawn = [score.score for score in scores if "drawn" in score.fields]
        said = (
            f"{len(drawn):,} answers name no choice: one was drawn for each (Python's generator, seed "
            f"{SEEDS.get(variant, SEED)}), as the {variant} script does, and {int(sum(drawn)):,} of them are right"
        )
        return [*([said] if drawn else []), *super().notes(scores, variant)]


def chosen(text: str, options: Mapping[str, str], variant: str = OFFICIAL) -> str | None:
    """The choice that an answer names last: by a mark of the variant, else by its text; None where none is.

    >>> chosen("(A) is wrong, so (B)", {"A": "cat", "B": "dog"}), chosen("B.", {"A": "cat", "B": "dog"})
    ('B', 'B')
    """
    for mark in _STRIPPED:
        text = text.strip(mark)
    said = f" {text} "
    for form in _FORMS[variant]:
        named = [letter for letter in options if form.format(letter) in said]
        if named:
            place = form if form in _FORMS[OFFICIAL] else _BETWEEN_SPACES
            return max(named, key=lambda letter: said.rfind(place.format(letter)))
    lower = said.lower()
    named = [letter for letter, option in options.items() if option.lower() in lower]
    if not named or len(said.split()) <= _FEW_WORDS:
        return None
    return max(named, key=lambda letter: lower.rfind(options[letter].lower()))


def candidates(text: str) -> list[Value]:
    """What may be the answer in a response to an open question: its last parts, and the numbers in them.

    >>> candidates("So it is 2 m, or 24")
    ['2 m, or 24', 2.0, 24.0]
    """
    parts = _last_parts(text)
    numbers = [number for part in parts for pattern in _NUMBERS for number in pattern.findall(part)]
    return list(dict.fromkeys(value for found in (*parts, *numbers) for value in _normalized(found)))


def _last_parts(text: str) -> list[str]:
    """What follows the words that announce an answer, the shortest of each sentence; the whole where none does."""
    said = text.strip().strip(".").lower()
    sentences = _SENTENCE_END.split(said)
    found = []
    for place, sentence in enumerate(sentences):
        marks = (*_BEFORE_THE_ANSWER, *(("=",) if place == len(sentences) - 1 else ()))
        tails = [sentence.split(mark)[-1].strip() for mark in marks if mark in sentence]
        shortest = _first_shortest(tails)
        if shortest and shortest not in _STRIPPED:
            found.append(shortest)
    return found or [said]


def _first_shortest(tails: Sequence[str]) -> str:
    """The shortest; as the original has it, an empty one is forgotten at the next."""
    shortest = ""
    for tail in tails:
        if not shortest or len(tail) < len(shortest):
            shortest = tail
    return shortest


def _normalized(text: str) -> list[Value]:
    """A number to two decimals, or a text in lower case; a single character with a space on either side."""
    said = text.strip()
    try:
        return [round(float(said.replace(",", "")), _DECIMALS)]
    except ValueError:
        said = said.lower()
    return [f" {said}", f"{said} "] if len(said) == 1 else [said]


def _is_right(target: Any, found: Sequence[Value]) -> bool:
    """Whether a right text is inside a text that was found, or a right number among the numbers."""
    if target is None:
        return False
    right = [value for answer in (target if isinstance(target, list) else [target]) for value in _normalized(answer)]
    texts = [value for value in right if isinstance(value, str)]
    return any(any(text in value for text in texts) if isinstance(value, str) else value in right for value in found)


def _is_choice(item: Item) -> bool:
    return bool(item.fields["question_type"] == CHOICE)


def _split(name: str) -> str:
    return next((split for split in SPLITS if re.match(rf"{split}[_-]", name)), "")


def _answer_rows(document: Document) -> list[Row]:
    """The rows of MMMU's own answer_dict_val.json, an object of ids; none of any other object."""
    entries = document.json(dict[str, Any])
    known = {number: entry for number, entry in entries.items() if isinstance(entry, dict) and "ground_truth" in entry}
    return [{"id": number, **entry, "answer": entry["ground_truth"]} for number, entry in known.items()]


def _options(row: Row) -> dict[str, str]:
    if isinstance(row.get("index2ans"), dict):
        return {str(letter): str(text) for letter, text in row["index2ans"].items()}
    return options_of(row) or lettered(listed(row["options"]) if row.get("options") not in (None, "[]") else [])


def _target(answer: Any, *, is_choice: bool) -> str | list[str]:
    """The letter, the right text, or several right texts, which tables hold as a written list."""
    if isinstance(answer, list):
        return [str(one) for one in answer]
    text = str(answer)
    return text if is_choice or not text.startswith(("['", '["')) else listed(text)
