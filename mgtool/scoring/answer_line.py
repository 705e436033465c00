"""What a line of an answers file may hold."""

from __future__ import annotations

import operator
from typing import Any

import msgspec

TEXTS = ("text", "prediction", "pred", "model_prediction", "response", "caption", "answer")


class AnswerLine(msgspec.Struct):
    """The keys of all layouts, untyped: what others put under these names is no reason to lose the answer beside it.

    The first of `IDS` that holds an id and the first of `TEXTS` that is there count.
    """

    question_id: Any = None
    questionId: Any = None  # noqa: N815 - GQA's spelling
    index: Any = None
    image_id: Any = None
    id: Any = None
    text: Any = msgspec.UNSET
    prediction: Any = msgspec.UNSET
    pred: Any = msgspec.UNSET
    model_prediction: Any = msgspec.UNSET
    response: Any = msgspec.UNSET
    caption: Any = msgspec.UNSET
    answer: Any = msgspec.UNSET
    label: Any = None
    prompt: Any = None
    image: Any = None
    question: Any = None
    model_id: Any = None
    finish_reason: Any = None
    category: Any = None
    subcategory: Any = None
    set_id: Any = None
    figure_id: Any = None
    split: Any = None
    round_id: Any = None
    option_char: Any = None
    metadata: Any = None
    stage: Any = None
    filtered_resps: Any = msgspec.UNSET


KEPT = ("category", "subcategory", "set_id", "figure_id", "split", "round_id", "option_char")
NOTHING_KEPT = (None,) * len(KEPT)
kept = operator.attrgetter(*KEPT)
