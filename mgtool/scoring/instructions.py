"""What question files and benchmarks say of the form of an answer, and where it stands in a prompt."""

from __future__ import annotations

from mgtool.records import Sample

SINGLE_WORD = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."
YES_OR_NO = "Please answer the question with yes or no."
SINGLE_NUMBER = "Answer the question using a single number."
SELECT = "Please select the correct answer from the options above."
_INSTRUCTIONS = (
    SINGLE_WORD,
    LETTER,
    YES_OR_NO,
    SINGLE_NUMBER,
    "Answer with a single word or phrase.",
    "Answer the question with a single word or phrase.",
    "Answer with a single word.",
    "Answer the question using a single word.",
    "Please answer yes or no.",
    "Answer with yes or no.",
    "Answer yes or no.",
    SELECT,
    "Please answer the question only a single word yes or no.",
)
"""Of question files of LLaVA, MG-LLaVA, VLMEvalKit and the benchmarks themselves."""
UNANSWERABLE = f"When the provided information is insufficient, respond with 'Unanswerable'.\n{SINGLE_WORD}"
"""Of LLaVA's questions of VizWiz."""


def question_of(sample: Sample) -> str:
    """The text of the question that a sample asks, without the picture's placeholder."""
    asked = next((turn.value for turn in sample.turns if turn.speaker == "human"), "")
    return asked.removeprefix("<image>\n").removesuffix("\n<image>")


def with_suffix(question: str, suffix: str) -> str:
    """A question with the published instruction below it, unless the question file brings one, whose word it is then.

    >>> with_suffix("Is it red?", "Answer yes or no.")
    'Is it red?\\nAnswer yes or no.'
    """
    is_there = has_instruction(question) or _words(suffix) in _words(question)
    return question if is_there else f"{question}\n{suffix}"


def has_instruction(question: str) -> bool:
    """Whether a question says how it is to be answered, in one of the ways that question files do.

    >>> has_instruction("answer the question using a single word or phrase\\nIs it red?"), has_instruction("Is it?")
    (True, False)
    """
    said = _words(question)
    return any(_words(instruction) in said for instruction in _INSTRUCTIONS)


def _words(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")
