"""One answer, and many of them on disk with what readers ask about all of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence, Set
from typing import Any

import msgspec

from mgtool.files.record_file import MOST_IN_MEMORY, NotedFile, spilled
from mgtool.records import Detections, SampleId


class Prediction(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One answer.

    Attributes:
        id: the question's id as the file has it.
        text: the answer.
        prompt: what was asked, where the file says it.
        image: the picture's name, where the file says it.
        question: the question alone, where the file says it.
        model: the name of the model that answered, where the file says it.
        truncated: whether the answer was cut off at the token limit.
        fields: category, split, LLaVA's rounds, and whatever else the line said about the question.
        detections: the boxes, where boxes are scored instead of text.
    """

    id: SampleId
    text: str
    prompt: str = ""
    image: str = ""
    question: str = ""
    model: str = ""
    truncated: bool = False
    fields: dict[str, Any] = {}
    detections: Detections | None = None


class PredictionFile(NotedFile[Prediction]):
    """Answers on disk, and in memory what all of them together have."""

    def __init__(self) -> None:
        super().__init__(Prediction)
        self._models: dict[str, None] = {}
        self._fields: set[str] = set()
        self._is_any_truncated = False

    def take(self, fresh: Sequence[Prediction]) -> None:
        """Note models, fields and whether one was cut off."""
        for prediction in fresh:
            self._models[prediction.model] = None
            if prediction.fields:
                self._fields.update(prediction.fields)
            self._is_any_truncated |= prediction.truncated

    @property
    def models(self) -> Iterable[str]:
        """The different names of models, in order of appearance."""
        self.note()
        return self._models

    @property
    def fields(self) -> Set[str]:
        """The names of all fields."""
        self.note()
        return self._fields

    @property
    def is_any_truncated(self) -> bool:
        """Whether any answer was cut off."""
        self.note()
        return self._is_any_truncated


def kept_predictions(predictions: Iterable[Prediction], most: int = MOST_IN_MEMORY) -> Sequence[Prediction]:
    """Answers as a list, or, where there are more than `most`, in a file; errors as of `RecordFile.append`."""
    return spilled(predictions, PredictionFile, most)


def models_in(predictions: Sequence[Prediction], most: int) -> list[str]:
    """The names of the first models that answered, each once."""
    if isinstance(predictions, PredictionFile):
        names = predictions.models
    else:
        names = dict.fromkeys(prediction.model for prediction in predictions)
    return list(itertools.islice(filter(None, names), most))


def fields_in(predictions: Sequence[Prediction]) -> Set[str]:
    """The names of all fields of the answers."""
    if isinstance(predictions, PredictionFile):
        return predictions.fields
    return {name for prediction in predictions for name in prediction.fields}


def is_any_truncated(predictions: Sequence[Prediction]) -> bool:
    """Whether any answer was cut off at the token limit."""
    if isinstance(predictions, PredictionFile):
        return predictions.is_any_truncated
    return any(prediction.truncated for prediction in predictions)
