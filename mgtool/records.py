"""The records that pass between stages, and their JSON.

Boxes are xyxy in pixels of the stored picture (EXIF orientation ignored), float, (n, 4), best first.
Every record is one JSON object a line; keys that hold their default are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

from mgtool.errors import ItemError, Reason, RecordError, Stage

Advance = Callable[[int], None]
"""Told how many more items are done."""

Box = tuple[float, float, float, float]
SampleId = int | str
FinishReason = Literal["stop", "length"]
T = TypeVar("T")


class Detections(msgspec.Struct, frozen=True, omit_defaults=True):
    """Objects of one picture, best first.

    Attributes:
        boxes: n times (x0, y0, x1, y1), float pixels of the original picture.
        scores: n numbers.
        labels: n names.
        tags: what a tagger saw, when one ran.
    """

    boxes: tuple[Box, ...] = ()
    scores: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    tags: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_numbers(self.boxes, self.scores, self.labels)


def check_numbers(*found: Sequence[Any] | None) -> None:
    """Raise a `ValueError` unless there are as many boxes as scores and labels; msgspec tells the record's place."""
    boxes, scores, labels = (len(values or ()) for values in found)
    if not boxes == scores == labels:
        raise ValueError(f"{boxes} boxes, {scores} scores and {labels} labels: the numbers must agree")


class FrameDetections(msgspec.Struct, frozen=True):
    """Objects of one frame of a video; `time` in seconds from its start."""

    index: int
    time: float
    boxes: tuple[Box, ...] = ()
    scores: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_numbers(self.boxes, self.scores, self.labels)

    @property
    def detections(self) -> Detections:
        """The frame's objects."""
        return Detections(self.boxes, self.scores, self.labels)


class BoxRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a box shard: one distinct picture, or one video with its frames."""

    image: str = ""
    sha256: str
    width: int
    height: int
    boxes: tuple[Box, ...] | None = None
    scores: tuple[float, ...] | None = None
    labels: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    video: str = ""
    frames: tuple[FrameDetections, ...] | None = None

    def __post_init__(self) -> None:
        check_numbers(self.boxes, self.scores, self.labels)

    @property
    def detections(self) -> Detections:
        """The picture's objects (none for a video)."""
        return Detections(self.boxes or (), self.scores or (), self.labels or (), self.tags)


class Turn(msgspec.Struct, frozen=True, rename={"speaker": "from"}):
    """One turn of a conversation in LLaVA's layout: `from` is ``human``, ``gpt`` or ``system``."""

    speaker: str
    value: str


class Media(msgspec.Struct, frozen=True, kw_only=True):
    """A picture or a video by its name, with where its bytes are.

    Attributes:
        name: what records call it: the path relative to the folder of pictures, with ``/``.
        uri: path or fsspec URL of the bytes; unused when `data` is given.
        data: the bytes themselves, where the input carried them (tars, base64).
        detections: objects that came with the input: one entry for a picture, one a frame for a video.
        frame_times: seconds from the start, one a frame, for a video whose input named them.
    """

    name: str
    uri: str = ""
    data: bytes | None = None
    detections: tuple[Detections, ...] | None = None
    frame_times: tuple[float, ...] | None = None


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What users bring, whatever the file: pictures or a video, a conversation, and what is known about it.

    Attributes:
        id: the question's or conversation's own id; the name for a bare picture.
        images: pictures in the order in which the conversation shows them.
        video: a video in place of pictures.
        turns: the conversation; for a question one ``human`` turn without an answer. Empty for a bare picture.
        metadata: whatever else the input said (category, options, answer, ...), JSON values.
    """

    id: SampleId
    images: tuple[Media, ...] = ()
    video: Media | None = None
    turns: tuple[Turn, ...] = ()
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def picture_id(self) -> SampleId | None:
        """The id, where it names one picture: boxes by id are of a sample's only picture."""
        return self.id if len(self.images) == 1 else None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an answers file, in LLaVA's layout."""

    question_id: SampleId
    prompt: str
    text: str
    model_id: str
    image: str = ""
    finish_reason: FinishReason = "stop"
    tokens: int = 0
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One item that could not be used: a line of ``failures.jsonl``."""

    id: SampleId
    stage: Stage
    reason: Reason
    detail: str

    @classmethod
    def of(cls, id: SampleId, stage: Stage, error: ItemError) -> Failure:
        """The record of an `ItemError`."""
        return cls(id=id, stage=stage, reason=error.reason, detail=error.detail)


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One line of ``scores.jsonl``: how one item was scored.

    Attributes:
        prediction: the answer as given.
        extracted: what the scorer read in it; None where it could read nothing.
        target: what was expected.
        score: 1 right, 0 wrong, or between.
        status: ``answered``, ``missing`` or ``failed``; the last two score 0.
        group: what standard errors are clustered by, as a rule the picture.
        fields: what the breakdowns need (category, question type, ...), JSON values.
    """

    question_id: SampleId
    prediction: str | None
    extracted: Any
    target: Any
    score: float
    status: Literal["answered", "missing", "failed"] = "answered"
    group: str = ""
    question: str = ""
    image: str = ""
    fields: dict[str, Any] = msgspec.field(default_factory=dict)


def name_text(name: str) -> str:
    """A file's name as records can hold it: bytes that are no UTF-8 (surrogates in Python) as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def escaped(value: Any) -> Any:
    """JSON values, or records, with every text in them as records can hold it: see `name_text`."""
    if isinstance(value, str):
        return name_text(value)
    if isinstance(value, dict):
        return {escaped(key): escaped(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [escaped(entry) for entry in value]
    return value


def dumps(record: Any) -> bytes:
    """A record as one JSON line without its newline, UTF-8; floats in their shortest exact form."""
    try:
        return msgspec.json.encode(record)
    except UnicodeEncodeError:
        return dumps(escaped(msgspec.to_builtins(record)))
    except OverflowError:  # integers over 64 bits, which only the slow encoder knows
        return json.dumps(escaped(msgspec.to_builtins(record)), ensure_ascii=False, separators=(",", ":")).encode()


def parse(data: bytes | str, type: type[T], *, where: str) -> T:
    """Decode and validate one JSON value.

    Raises:
        RecordError: naming `where`, and the field that does not fit.
    """
    try:
        return msgspec.json.decode(data, type=type, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise RecordError(f"{where}: {_explain(error)}") from error


def convert(value: Any, type: type[T], *, where: str) -> T:
    """Validate a value that is decoded already; errors as in `parse`."""
    try:
        return msgspec.convert(value, type=type, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise RecordError(f"{where}: {_explain(error)}") from error


def _explain(error: Exception) -> str:
    return str(error).replace(" - at `$`", "").replace("`$.", "`")


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces, for hashing and comparing."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain).encode()


_plain: Callable[[Any], Any] = msgspec.to_builtins


Item: TypeAlias = Sample | Failure


def media_of(sample: Sample) -> tuple[Media, ...]:
    """A sample's pictures, then its video."""
    return sample.images if sample.video is None else (*sample.images, sample.video)
