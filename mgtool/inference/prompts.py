"""Samples -> conversations as the model was asked in training: what is asked, and where pictures and videos stand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from mgtool import benchmarks
from mgtool.errors import ItemError, UsageError
from mgtool.inference.options import InferOptions
from mgtool.media.placeholders import IMAGE, PLACEHOLDER, VIDEO, bare, show_media
from mgtool.records import Sample, Turn
from mgtool.scoring.benchmark import SINGLE_WORD

CAPTION = "Describe this picture."
"""What the task ``caption`` asks."""
MAX_NEW_TOKENS = 100

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Conversation:
    """Turns with their placeholders, the last without an answer, the question that is asked in it, the system text."""

    turns: list[tuple[str, str | None]]
    question: str
    system: str = ""

    def asking(self, question: str) -> Conversation:
        """The same with another last question."""
        *earlier, (last, answer) = self.turns
        before, found, after = last.rpartition(self.question)
        if not found:
            before, after = "".join(PLACEHOLDER.findall(last)) + "\n", ""
        return Conversation([*earlier, (before + question + after, answer)], question, self.system)


@dataclass(frozen=True)
class Prompter:
    """What is asked about a sample.

    Attributes:
        task: ``caption``, ``vqa``, a benchmark, or empty for questions as they are.
        template: in place of the task's prompt; ``{question}`` and fields of the sample's metadata are filled in.
        system: in place of a conversation's own system text; None leaves it.
    """

    task: str = InferOptions.task
    template: str | None = InferOptions.prompt
    system: str | None = InferOptions.system

    def __post_init__(self) -> None:
        if any(placeholder in (self.system or "") for placeholder in (IMAGE, VIDEO)):
            raise UsageError("system", "is text alone: pictures stand in the questions")
        if self.task not in ("", "caption", "vqa") and benchmarks.get(self.task).takes == "boxes":
            raise UsageError("task", f"{self.task}: this benchmark scores boxes, there is nothing to ask")

    @property
    def max_new_tokens(self) -> int:
        """The task's published limit of an answer."""
        return MAX_NEW_TOKENS if self.task in ("", "caption", "vqa") else benchmarks.get(self.task).max_new_tokens

    @property
    def needs_question(self) -> bool:
        """Whether a bare picture leaves nothing to ask."""
        return "{question}" in self.template if self.template is not None else self.task not in ("caption", *_CAPTIONS)

    def converse(self, sample: Sample) -> Conversation:
        """The conversation to continue.

        Raises:
            ItemError: ``empty_prompt``, ``bad_record`` or ``unsupported``.
        """
        turns = list(sample.turns)
        own = turns.pop(0).value if turns and turns[0].speaker == "system" else ""
        earlier, last = _split(turns)
        question = self._question(sample, last)
        if not question:
            raise ItemError("empty_prompt", "the question has no text")
        places = PLACEHOLDER.findall(last)
        final = "".join(places) + "\n" + question if places else question
        final = last if places and question == bare(last) else final
        placed = show_media([*earlier, (final, None)], pictures=len(sample.images), is_video=sample.video is not None)
        return Conversation(placed, question, own if self.system is None else self.system)

    def _question(self, sample: Sample, last: str) -> str:
        question = bare(last)
        if not question and self.needs_question:
            return ""
        if self.template is not None:
            return _filled(self.template, {**sample.metadata, "question": question}).strip()
        if self.task == "caption":
            return CAPTION
        if self.task == "vqa":
            return question if question.endswith(SINGLE_WORD) else f"{question}\n{SINGLE_WORD}"
        if self.task:
            turns = (Turn("human", question),)
            return bare(benchmarks.get(self.task).prompt(msgspec.structs.replace(sample, turns=turns)))
        return question


_CAPTIONS = ("coco-caption", "nocaps", "flickr30k")


def _filled(template: str, fields: dict[str, object]) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in fields:
            raise ItemError("bad_record", f"`prompt` names {{{match[1]}}}, which the sample does not have")
        return str(fields[match[1]])

    return _FIELD.sub(value, template)


def _split(turns: Sequence[Turn]) -> tuple[list[tuple[str, str | None]], str]:
    """Questions with their answers, and the last question; what was answered last is asked again."""
    kept = list(turns)
    if kept and kept[-1].speaker == "gpt":
        kept.pop()
    if [turn.speaker for turn in kept] != ["human", "gpt"] * (len(kept) // 2) + ["human"] * (len(kept) % 2):
        raise ItemError("unsupported", "turns are " + ", ".join(turn.speaker for turn in turns))
    if not kept:
        return [], ""
    pairs = [(kept[at].value, kept[at + 1].value) for at in range(0, len(kept) - 1, 2)]
    return list(pairs), kept[-1].value
