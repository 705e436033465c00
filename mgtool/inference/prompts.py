"""Samples -> conversations as the model was asked in training: what is asked, and where pictures and videos stand."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from mgtool import benchmarks
from mgtool.errors import ItemError, UsageError
from mgtool.inference.options import InferOptions, PromptStyle
from mgtool.media.names import MEDIA_SUFFIXES
from mgtool.media.placeholders import IMAGE, PLACEHOLDER, VIDEO, bare, show_media
from mgtool.records import Sample, Turn, media_of
from mgtool.scoring.benchmark import Benchmark
from mgtool.scoring.instructions import SINGLE_WORD, with_suffix

TASKS = ("caption", "vqa")
"""What a model can be asked for beside a benchmark's questions."""
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
        prompts: whose words a benchmark is asked in.
    """

    task: str = InferOptions.task
    template: str | None = InferOptions.prompt
    system: str | None = InferOptions.system
    prompts: PromptStyle = InferOptions.prompts

    def __post_init__(self) -> None:
        if any(placeholder in (self.system or "") for placeholder in (IMAGE, VIDEO)):
            raise UsageError("system", "is text alone: pictures stand in the questions")
        if self.prompts != InferOptions.prompts and (self.task in ("", *TASKS) or self.template is not None):
            raise UsageError("prompts", f"{self.prompts}: is of a benchmark: add its `task`, and no `prompt`")
        if self.task not in ("", *TASKS) and self._benchmark.takes == "boxes":
            raise UsageError("task", f"{self.task}: this benchmark scores boxes, there is nothing to ask")

    @property
    def max_new_tokens(self) -> int:
        """The task's published limit of an answer."""
        return MAX_NEW_TOKENS if self.task in ("", *TASKS) else self._benchmark.max_new_tokens

    @property
    def _benchmark(self) -> Benchmark:
        return benchmarks.get(self.task, option="task", others=TASKS)

    @property
    def needs_question(self) -> bool:
        """Whether a bare picture leaves nothing to ask."""
        return "{question}" in self.template if self.template is not None else self.task not in ("caption", *_CAPTIONS)

    def converse(self, sample: Sample) -> Conversation:
        """The conversation to continue.

        Raises:
            ItemError: ``empty_prompt``, ``bad_record`` or ``unsupported``.
        """
        _refuse_blind(sample)
        turns = list(sample.turns)
        own = turns.pop(0).value if turns and turns[0].speaker == "system" else ""
        earlier, last = _split(turns)
        question = self._question(sample, last)
        if not question:
            raise ItemError("empty_prompt", "the question has no text" + _hint(sample))
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
            return with_suffix(question, SINGLE_WORD)
        if self.task:
            turns = (Turn("human", question),)
            return bare(self._benchmark.prompt_as(msgspec.structs.replace(sample, turns=turns), self.prompts))
        return question


_MEDIA_KEY = re.compile(r"(^|_)(images?|imgs?|pictures?|photos?|pics?|figures?|videos?|clips?|frames?)(_|\d|$)")
_SIDE_KEY = re.compile(r"_(size|width|height|count|num|type|format|source|license|category|caption|text|url_source)s?$")
_FILE_KEYS = ("file_name", "filename", "file_path", "filepath", "file", "path", "url")
_TEXT_KEYS = ("prompt", "query", "messages", "conversation", "question_text", "instruction", "input", "problem")


def _refuse_blind(sample: Sample) -> None:
    """Nothing is asked without the picture that its record seems to name."""
    if media_of(sample):
        return
    for key, value in sample.metadata.items():
        if _names_media(key.lower(), value):
            raise ItemError("bad_record", f"`{key}` seems to name a picture or video, which was not understood")


def _names_media(key: str, value: object) -> bool:
    """Whether an entry of a record is a picture, a video, or the name of one."""
    values = value if isinstance(value, list) else [value]
    texts = [text for one in values for text in (one.values() if isinstance(one, dict) else [one])]
    if any(isinstance(text, str) and (_is_media_name(text) or text.startswith("data:image/")) for text in texts):
        return key in _FILE_KEYS or _MEDIA_KEY.search(key) is not None or not isinstance(value, str)
    is_named = _MEDIA_KEY.search(key) is not None and not _SIDE_KEY.search(key)
    return is_named and any(text not in ("", None) and not isinstance(text, bool) for text in texts)


def _is_media_name(text: str) -> bool:
    return " " not in text.strip() and posixpath.splitext(text.strip())[1].lower() in MEDIA_SUFFIXES


def _hint(sample: Sample) -> str:
    """Where a record without a question seems to have it."""
    found = [key for key in sample.metadata if key.lower() in _TEXT_KEYS]
    return f"; `{found[0]}` is not understood: `text` or `conversations` holds a question" if found else ""


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
