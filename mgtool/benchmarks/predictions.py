"""Reading answers files: LLaVA's layout, and the layouts that official scripts and other toolkits write."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mgtool.benchmarks.files import SHEETS, Document
from mgtool.errors import InputError, ItemError
from mgtool.records import BoxRecord, Detections, Failure, SampleId

STAGE = "eval"
IDS = ("question_id", "questionId", "index", "image_id", "id")
TEXTS = ("text", "prediction", "pred", "model_prediction", "response", "caption", "answer")
Said = str | int | float | None | msgspec.UnsetType


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """One answer.

    Attributes:
        id: the question's id as the file has it.
        text: the answer.
        prompt: what was asked, where the file says it.
        image: the picture's name, where the file says it.
        truncated: whether the answer was cut off at the token limit.
        fields: category, split, LLaVA's rounds, and whatever else the line said about the question.
        detections: the boxes, where boxes are scored instead of text.
    """

    id: SampleId
    text: str
    prompt: str = ""
    image: str = ""
    truncated: bool = False
    fields: dict[str, Any] = {}
    detections: Detections | None = None


class Answers(NamedTuple):
    """The content of an answers file.

    Attributes:
        predictions: all usable answers in the file's order.
        failures: lines that could not be used, and the run's own failures from the file beside.
    """

    predictions: list[Prediction]
    failures: list[Failure]


class _Line(msgspec.Struct):
    """The keys of all layouts; the first of `IDS` that holds something and the first of `TEXTS` that is there count."""

    question_id: int | str | None = None
    questionId: int | str | None = None  # noqa: N815 - GQA's spelling
    index: int | str | None = None
    image_id: int | str | None = None
    id: int | str | None = None
    text: Said = msgspec.UNSET
    prediction: Said = msgspec.UNSET
    pred: Said = msgspec.UNSET
    model_prediction: Said = msgspec.UNSET
    response: Said = msgspec.UNSET
    caption: Said = msgspec.UNSET
    answer: Said = msgspec.UNSET
    label: Any = None
    prompt: str = ""
    image: str | list[str] | None = None
    finish_reason: str | None = None
    category: Any = None
    subcategory: Any = None
    set_id: Any = None
    figure_id: Any = None
    split: Any = None
    round_id: Any = None
    option_char: Any = None
    metadata: dict[str, Any] | None = None


_KEPT = ("category", "subcategory", "set_id", "figure_id", "split", "round_id", "option_char")
_LIST_KEYS = ("predictions", "results", "annotations", "answers", "data")


def read(data: bytes, *, where: str) -> Answers:
    """Read an answers file.

    Args:
        data: its whole content.
        where: its name for messages.

    Raises:
        InputError: when it is no answers file at all.
    """
    suffix = Path(where).suffix.lower()
    if suffix in SHEETS:
        return _collect(enumerate(Document(Path(where), content=data).rows(keep=TEXTS), 2), where)
    start = data.lstrip()[:1]
    if start == b"[":
        return _collect(enumerate(_elements(data, where), 1), where, what="record")
    if start == b"{":
        whole = _whole_object(data)
        if whole is not None:
            return _from_object(whole, where)
    if not start:
        return Answers([], [])
    lines = ((number, line) for number, line in enumerate(data.splitlines(), 1) if line.strip())
    return _collect(lines, where)


def from_boxes(records: Iterable[BoxRecord]) -> Answers:
    """Box shards as answers: one prediction for each picture, named by it."""
    return Answers(
        [
            Prediction(
                id=record.image,
                text="1 box" if len(record.boxes or ()) == 1 else f"{len(record.boxes or ())} boxes",
                image=record.image,
                detections=record.detections,
            )
            for record in records
        ],
        [],
    )


def read_failures(answers: Path) -> list[Failure]:
    """The failures that the run wrote beside its answers; none where there is no such file."""
    for name in (f"{answers.stem}.failures.jsonl", "failures.jsonl"):
        beside = answers.with_name(name)
        if beside.exists() and beside != answers:
            return Document(beside).typed_rows(Failure)
    return []


def _collect(lines: Iterable[tuple[int | str, Any]], where: str, *, what: str = "line") -> Answers:
    """The answers of numbered lines.

    Raises:
        InputError: when not one of them holds an answer.
    """
    predictions: list[Prediction] = []
    failures: list[Failure] = []
    decoder = msgspec.json.Decoder(_Line)
    for number, line in lines:
        place = f"{what} {number}"
        try:
            predictions.append(_prediction(_decoded(line, decoder)))
        except ItemError as error:
            failures.append(Failure.of(getattr(error, "id", place), STAGE, error))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            failures.append(Failure(id=place, stage=STAGE, reason="bad_record", detail=f"{where}:{number}: {error}"))
    if failures and not predictions:
        raise InputError(f"{where}: no answer in this file; the first {what}: {failures[0].detail}")
    return Answers(predictions, failures)


def _decoded(line: Any, decoder: msgspec.json.Decoder[_Line]) -> _Line:
    return msgspec.convert(line, _Line) if isinstance(line, dict) else decoder.decode(line)


def _prediction(line: _Line) -> Prediction:
    image = line.image if isinstance(line.image, str) else ""
    own = next((value for value in (getattr(line, name) for name in IDS) if value is not None), image or None)
    if own is None:
        raise ItemError("bad_record", f"no id; expected one of {', '.join(IDS)}, image")
    text = _said(line)
    if text is None:
        error = ItemError("bad_record", f"no answer; expected one of {', '.join(TEXTS)}")
        error.id = own  # type: ignore[attr-defined]
        raise error
    fields = dict(line.metadata or {})
    for name in _KEPT:
        value = getattr(line, name)
        if value is not None:
            fields[name] = value
    return Prediction(
        id=own,
        text=text,
        prompt=line.prompt,
        image=image,
        truncated=line.finish_reason == "length",
        fields=fields,
    )


def _said(line: _Line) -> str | None:
    """What the answer's own key holds, "" where that is empty; None without such a key.

    In a line of questions, known by their `label`, `text` is the question where another key has the answer.
    """
    said = {name: getattr(line, name) for name in TEXTS if getattr(line, name) is not msgspec.UNSET}
    if line.label is not None and not line.prompt and len(said) > 1:
        said.pop("text", None)
    return next(("" if text is None else str(text) for text in said.values()), None)


def _elements(data: bytes, where: str) -> list[msgspec.Raw]:
    try:
        return msgspec.json.decode(data, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not a JSON list: {error}") from error


def _whole_object(data: bytes) -> dict[str, msgspec.Raw] | None:
    """The file as one JSON object; None when it is JSON lines."""
    try:
        return msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _from_object(whole: dict[str, msgspec.Raw], where: str) -> Answers:
    for key in _LIST_KEYS:
        if key in whole and bytes(whole[key]).lstrip().startswith(b"["):
            return _collect(enumerate(_elements(bytes(whole[key]), where), 1), where, what="record")
    if any(name in whole for name in (*IDS, "image")) and any(name in whole for name in TEXTS):
        return _collect(iter([(1, msgspec.json.encode(whole))]), where)
    table = whole.get("outputs")
    data = bytes(table) if table else msgspec.json.encode(whole)
    try:
        pairs = msgspec.json.decode(data, type=dict[str, str | int | float | dict[str, Any] | None])
    except msgspec.DecodeError as error:
        raise InputError(f"{where}: a JSON object, but not of question ids and answers: {error}") from error
    return _collect((_named(key, said) for key, said in pairs.items()), where, what="question")


def _named(key: str, said: str | int | float | dict[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """A question's entry as a line; in MathVista's results an entry is the whole problem, its `answer` the target."""
    if isinstance(said, dict):
        return key, {**{name: value for name, value in said.items() if name != "answer"}, "question_id": key}
    return key, {"text": said, "question_id": key}
