"""Questions that do not fit the model, cut until they do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mgtool.inference.limits import PositionLimit
from mgtool.inference.plan import InferencePlan
from mgtool.inference.prompts import Conversation
from mgtool.model.config import MGLlavaConfig
from mgtool.model.processor import PlacedPicture
from mgtool.records import Sample


class Cut(NamedTuple):
    """A prompt's token ids with placeholders, and what is left of its question."""

    ids: list[int]
    question: str


class Truncator:
    """Cuts the text of questions, never pictures, boxes or earlier turns, and leaves room for an answer."""

    def __init__(self, plan: InferencePlan, processor: Any) -> None:
        self.prompter, self.side, self.processor = plan.prompter, plan.options.truncate, processor
        config: Any = MGLlavaConfig.from_pretrained(plan.model)
        self.limit = PositionLimit.of_config(config.text_config)
        longest = self.limit.longest
        self.room = None if longest is None else max(1, longest - plan.max_new_tokens)
        self.patches, self.has_boxes = config.low_grid**2, config.boxes

    def fit(self, sample: Sample, ids: Sequence[int], pictures: Sequence[PlacedPicture]) -> Cut | None:
        """The prompt with as much of its question as fits; None where all of it does, or nothing would."""
        visual = sum(self.patches + self.has_boxes * len(picture.boxes) for picture in pictures)
        is_video, longest = sample.video is not None, self.limit.longest
        if longest is None or self.room is None or self.limit.counted(ids, visual, is_video=is_video) < longest:
            return None
        conversation = self.prompter.converse(sample)
        fitting, over = 0, len(conversation.question)
        while over - fitting > 1:
            middle = (fitting + over) // 2
            part = self._ids(conversation, self._part(conversation.question, middle))
            has_room = self.limit.counted(part, visual, is_video=is_video) <= self.room
            fitting, over = (middle, over) if has_room else (fitting, middle)
        if not fitting:
            return None
        question = self._part(conversation.question, fitting).strip()
        return Cut(self._ids(conversation, question), question)

    def _part(self, question: str, length: int) -> str:
        return question[-length:] if self.side == "left" else question[:length]

    def _ids(self, conversation: Conversation, question: str) -> list[int]:
        ids: list[int] = self.processor.tokenize(conversation.asking(question).turns, conversation.system)
        return ids
