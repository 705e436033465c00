"""The records that pass between stages, and their JSON.

Boxes are xyxy in pixels of the stored picture (EXIF orientation ignored), float, (n, 4), best first.
Every record is one JSON object a line; keys that hold their default are left out.
"""

from __future__ import annotations

import builtins
import functools
import json
import mmap
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, cast, get_args

import msgspec

from mgtool.errors import ItemError, Reason, RecordError, Stage

Advance = Callable[[int], None]
"""Told how many more items are done."""

Inputs = str | Path | Iterable[str | Path]
"""What a stage reads: paths, URLs, patterns or ``-``; one that stands alone is the only one."""

Box = tuple[float, float, float, float]
SampleId = int | str
FinishReason = Literal["stop", "length"]
T = TypeVar("T")


def input_names(inputs: Inputs) -> tuple[str, ...]:
    """Inputs as they are read.

    >>> input_names("photos"), input_names(["a.json", Path("b.json")])
    (('photos',), ('a.json', 'b.json'))
    """
    return (str(inputs),) if isinstance(inputs, str | Path) else tuple(map(str, inputs))


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


_MOST_SIDE = (1 << 31) - 1
Side = Annotated[int, msgspec.Meta(ge=-_MOST_SIDE, le=_MOST_SIDE)]
"""Pixels of a picture's side, as a record may tell them."""


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
    width: Side
    height: Side
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


class Reach(msgspec.Struct, frozen=True):
    """Where a URL that stands in data may lead; what the texts mean is known to `mgtool.files.remote`.

    Attributes:
        allowed: each ``SCHEME[:HOST-PATTERN]``.
        named: hosts that the user named.
    """

    allowed: tuple[str, ...] = ()
    named: tuple[str, ...] = ()


class Media(msgspec.Struct, frozen=True, kw_only=True):
    """A picture or a video by its name, with where its bytes are.

    Attributes:
        name: what records call it: the path relative to the folder of pictures, with ``/``.
        uri: path or fsspec URL of the bytes; unused when `data` is given.
        data: the bytes themselves, where the input carried them (tars, base64).
        detections: objects that came with the input: one entry for a picture, one a frame for a video.
        frame_times: seconds from the start, one a frame, for a video whose input named them.
        reach: where `uri` may lead that is a URL out of data; None for what the user named, and for paths.
    """

    name: str
    uri: str = ""
    data: bytes | None = None
    detections: tuple[Detections, ...] | None = None
    frame_times: tuple[float, ...] | None = None
    reach: Reach | None = None


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


class LeftOut:
    """What was seen in an input and is not used: how often by reason, with the first few of each."""

    _EXAMPLES = 3

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, list[str]]] = {}

    def add(self, reason: str, example: str) -> None:
        """Count one thing."""
        count, examples = self._found.get(reason, (0, []))
        self._found[reason] = (count + 1, [*examples, name_text(example)] if count < self._EXAMPLES else examples)

    def take(self, summary: Mapping[str, Any]) -> None:
        """Count what another counted, by its `summary`."""
        for reason, found in summary.items():
            count, examples = self._found.get(reason, (0, []))
            self._found[reason] = (count + found["count"], [*examples, *found["examples"]][: self._EXAMPLES])

    def clear(self) -> None:
        """Begin anew."""
        self._found.clear()

    def summary(self) -> dict[str, Any]:
        """Plain values: ``count`` and ``examples`` by reason."""
        return {reason: {"count": count, "examples": list(few)} for reason, (count, few) in self._found.items()}


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


class Score(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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


def escaped(value: Any, text: Callable[[str], str] = name_text) -> Any:
    """JSON values, or records, with every text in them as records can hold it: see `name_text`."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {escaped(key, text): escaped(entry, text) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [escaped(entry, text) for entry in value]
    return value


def dumps(record: Any) -> bytes:
    """A record as one JSON line without its newline, UTF-8; floats in their shortest exact form."""
    try:
        return msgspec.json.encode(record)
    except UnicodeEncodeError:
        return dumps(escaped(msgspec.to_builtins(record)))
    except OverflowError:  # integers over 64 bits, which only the slow encoder knows
        return json.dumps(escaped(msgspec.to_builtins(record)), ensure_ascii=False, separators=(",", ":")).encode()


MAX_DEPTH = 100
"""Levels of lists and objects within each other that a value of any kind may have."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SQUARE = bytes.maketrans(b"{}", b"[]")


def decode(data: bytes | str | mmap.mmap | msgspec.Raw, type: type[T], *, strict: bool = True) -> T:
    """Decode and validate one JSON value that a stranger may have written.

    Raises:
        msgspec.DecodeError: no JSON, values of other types, more than `MAX_DEPTH` levels, or a number of thousands of
            digits; a `msgspec.ValidationError` where it is JSON.
        UnicodeDecodeError: no UTF-8.
    """
    try:
        found = msgspec.json.decode(data, type=type, strict=strict)
    except RecursionError as error:
        raise msgspec.DecodeError(TOO_DEEP) from error
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        raise msgspec.DecodeError(str(error)) from error
    if _holds_any(cast(Any, type)) and is_deep(data.encode() if isinstance(data, str) else bytes(data)):
        raise msgspec.DecodeError(TOO_DEEP)
    return found


TOO_DEEP = f"more than {MAX_DEPTH} levels of lists and objects"


@functools.cache
def _holds_any(type: Any) -> bool:
    """Whether values of a type may have any depth."""
    if isinstance(type, builtins.type) and issubclass(type, msgspec.Struct):
        return any(_holds_any(field.type) for field in msgspec.structs.fields(type))
    return type in (Any, object) or any(map(_holds_any, get_args(type)))


def is_deep(data: bytes) -> bool:
    """Whether JSON has more than `MAX_DEPTH` levels.

    >>> is_deep(b"[" * 101 + b"]" * 101), is_deep(b"[" + b"[[]]," * 200 + b'"' + b"[" * 200 + b'"]')
    (True, False)
    """
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return False
    nested = _STRING.sub(b"", data).translate(_SQUARE, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        nested = nested.replace(b"[]", b"")
    return bool(nested)


def parse(data: bytes | str, type: type[T], *, where: str) -> T:
    """Decode and validate one JSON value.

    Raises:
        RecordError: naming `where`, and the field that does not fit.
    """
    try:
        return decode(data, type, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
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
