"""Questions that do not fit the model, cut until they do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from mgtool.errors import ItemError
from mgtool.inference.limits import PositionLimit
from mgtool.inference.loading import load_config
from mgtool.inference.plan import InferencePlan
from mgtool.inference.prompts import Conversation
from mgtool.inference.transformers_processor import PreparedPrompts, TransformersProcessor
from mgtool.model.processor import PlacedPicture
from mgtool.records import Sample


class Cut(NamedTuple):
    """A prompt's token ids with placeholders, and what is left of its question."""

    ids: Sequence[int]
    question: str


class Counter(Protocol):
    """Counts the tokens of one sample's prompts against a limit.

    Attributes:
        longest: tokens that the model takes; None for one that names no number.
    """

    longest: int | None

    def counted(self, text: Sequence[int]) -> int:
        """Of a prompt, by the token ids of its rendered text."""
        ...


class Truncator:
    """Cuts the text of questions, never pictures, boxes or earlier turns, and leaves room for an answer."""

    def __init__(self, plan: InferencePlan, processor: Any) -> None:
        self.prompter, self.side, self.processor = plan.prompter, plan.options.truncate, processor
        self.config: Any = load_config(plan)
        self.max_new_tokens = plan.max_new_tokens
        self._is_foreign = isinstance(processor, TransformersProcessor)
        self._limit = None if self._is_foreign else PositionLimit.of_config(self.config.text_config)

    def fit(self, sample: Sample, ids: Sequence[int], pictures: Sequence[PlacedPicture]) -> Cut | None:
        """The prompt with as much of its question as fits; None where all of it does, or nothing would."""
        conversation = self.prompter.converse(sample)
        counter = self._counter(sample, conversation, ids, pictures)
        if counter.longest is None or counter.counted(self._ids(conversation)) < counter.longest:
            return None
        room = max(1, counter.longest - self.max_new_tokens)
        fitting, over = 0, len(conversation.question)
        while over - fitting > 1:
            middle = (fitting + over) // 2
            part = conversation.asking(self._part(conversation.question, middle))
            fitting, over = (middle, over) if counter.counted(self._ids(part)) <= room else (fitting, middle)
        if not fitting:
            return None
        question = self._part(conversation.question, fitting).strip()
        return self._cut(conversation.asking(question), question, pictures)

    def _counter(
        self, sample: Sample, conversation: Conversation, ids: Sequence[int], pictures: Sequence[Any]
    ) -> Counter:
        if self._limit is None:
            longest = getattr(self.config.get_text_config(), "max_position_embeddings", None)
            return _Expanded(longest, len(ids) - len(self._ids(conversation)))
        patches, has_boxes = self.config.vision_tokens, self.config.boxes
        visual = sum(patches + has_boxes * len(picture.boxes) for picture in pictures)
        return _Placed(self._limit, visual, is_video=sample.video is not None)

    def _cut(self, conversation: Conversation, question: str, pictures: Sequence[Any]) -> Cut | None:
        if not self._is_foreign:
            return Cut(self._ids(conversation), question)
        [prepared] = pictures
        assert isinstance(prepared, PreparedPrompts)
        ids = prepared.add(self.processor.render(conversation.turns, conversation.system))
        return None if isinstance(ids, ItemError) else Cut(ids, question)

    def _part(self, question: str, length: int) -> str:
        return question[-length:] if self.side == "left" else question[:length]

    def _ids(self, conversation: Conversation) -> list[int]:
        ids: list[int] = self.processor.tokenize(conversation.turns, conversation.system)
        return ids


class _Placed:
    """MG-LLaVA's: what stands at the placeholders is counted beside the text."""

    def __init__(self, limit: PositionLimit, visual: int, *, is_video: bool) -> None:
        self.longest, self._limit, self._visual, self._is_video = limit.longest, limit, visual, is_video

    def counted(self, text: Sequence[int]) -> int:
        return self._limit.counted(text, self._visual, is_video=self._is_video)


class _Expanded:
    """Of any model of transformers: its processor puts so many tokens more into a prompt than the text has."""

    def __init__(self, longest: int | None, more: int) -> None:
        self.longest, self._more = longest, more

    def counted(self, text: Sequence[int]) -> int:
        return len(text) + self._more
