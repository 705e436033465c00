"""Reading answers files: LLaVA's layout, and the layouts that official scripts and other toolkits write."""

from __future__ import annotations

import codecs
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from mgtool.errors import InputError, ItemError, Stage
from mgtool.files import json_lists
from mgtool.files.regular import open_input
from mgtool.records import BoxRecord, Failure, SampleId, decode
from mgtool.runs.run_file import FAILURES_FILE
from mgtool.scoring.answer_line import KEPT, NOTHING_KEPT, TEXTS, AnswerLine, kept
from mgtool.scoring.ground_truth import IDS, LONGEST_NAME, SHEETS, Document, lines_of
from mgtool.scoring.prediction_file import Prediction as Prediction
from mgtool.scoring.prediction_file import kept_predictions

_NO_FIELDS: dict[str, Any] = {}
_SHORT = 32
"""Characters of an answer that others may well give, too."""
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_SURROGATE = re.compile("[\ud800-\udfff]")


class Answers(NamedTuple):
    """The content of an answers file.

    Attributes:
        predictions: all usable answers in the file's order.
        failures: lines that could not be used, and the run's own failures from the file beside.
    """

    predictions: Sequence[Prediction]
    failures: list[Failure]


_LIST_KEYS = ("predictions", "results", "annotations", "answers", "data")


def read(data: bytes, *, where: str) -> Answers:
    """Read an answers file.

    Args:
        data: its whole content.
        where: its name for messages.

    Raises:
        InputError: when it is no answers file at all.
    """
    document = Document(Path(where), content=data)
    if document.suffix in SHEETS:
        return _collect(enumerate(document.rows(keep=TEXTS), 2), where)
    data = document.bytes
    start = data.lstrip()[:1]
    if start == b"[":
        return _collect(enumerate(_elements(data, where), 1), where, what="record")
    if start == b"{":
        whole = _whole_object(data)
        if whole is not None:
            return _from_object(whole, where)
    if not start:
        return Answers([], [])
    lines = ((number, line) for number, line in enumerate(lines_of(io.BytesIO(data)), 1) if line.strip())
    return _collect(lines, where)


def read_lines(path: Path) -> Answers | None:
    """The answers in a file of JSON lines, which is not read whole; None for a file that may be another.

    Raises:
        InputError: when not one of the lines holds an answer.
        OSError: when it cannot be read.
    """
    if path.suffix.lower() in SHEETS:
        return None
    with open_input(path) as file:
        return read_opened(file, where=str(path))


def read_opened(file: IO[bytes], *, where: str) -> Answers | None:
    """As `read_lines`, of a file that seeks and is open at its beginning; `where` is its name for messages."""
    first, second = file.readline(), file.readline()
    if not second.startswith(b"{") or _object(first.removeprefix(codecs.BOM_UTF8)) is None:
        return None
    file.seek(0)
    lines = ((number, line) for number, line in enumerate(lines_of(file), 1) if line.strip())
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
    for name in (f"{answers.stem}.{FAILURES_FILE}", FAILURES_FILE):
        beside = answers.with_name(name)
        if beside.is_file() and beside != answers:
            return recorded(beside)
    return []


def recorded(path: Path) -> list[Failure]:
    """The failures that other stages recorded in a file; what an earlier evaluation did is found again."""
    found = map(_failure, Document(path).bytes.splitlines())
    return [failure for failure in found if failure is not None and failure.stage != "eval"]


def _failure(line: bytes) -> Failure | None:
    """A recorded failure, another tool's by its id; None for a line without one."""
    try:
        return decode(line, Failure)
    except _UNREADABLE:
        pass
    try:
        record = _decoded(line, msgspec.json.Decoder(AnswerLine))
    except _UNREADABLE:
        return None
    own = _own_id(record)
    if own is None:
        return None
    stage: Stage = "eval" if record.stage == "eval" else "infer"
    return Failure(id=own, stage=stage, reason="model_error", detail=line.decode(errors="replace"))


def _collect(lines: Iterable[tuple[int | str, Any]], where: str, *, what: str = "line") -> Answers:
    """The answers of numbered lines.

    Raises:
        InputError: when not one of them holds an answer.
    """
    failures: list[Failure] = []
    predictions = kept_predictions(_read_lines(lines, where, what, failures))
    if failures and not predictions:
        raise InputError(f"{where}: no answer in this file; the first {what}: {failures[0].detail}")
    return Answers(predictions, failures)


def _read_lines(
    lines: Iterable[tuple[int | str, Any]], where: str, what: str, failures: list[Failure]
) -> Iterator[Prediction]:
    """The answers of numbered lines; what is none is added to the failures."""
    decoder = msgspec.json.Decoder(AnswerLine)
    for number, line in lines:
        place = f"{what} {number}"
        try:
            yield _prediction(_decoded(line, decoder))
        except ItemError as error:
            failures.append(Failure.of(getattr(error, "id", place), "eval", error))
        except _UNREADABLE as error:
            failures.append(Failure(id=place, stage="eval", reason="bad_record", detail=f"{where}:{number}: {error}"))


def _decoded(line: Any, decoder: msgspec.json.Decoder[AnswerLine]) -> AnswerLine:
    if isinstance(line, dict):
        return msgspec.convert(line, AnswerLine)
    try:
        record = decoder.decode(line)
    except _UNREADABLE as error:
        try:
            record = decoder.decode(line := _mended(bytes(line)))
        except (ValueError, RecursionError):
            raise error from None
    if record.filtered_resps is msgspec.UNSET:
        return record
    return msgspec.convert(_of_log(msgspec.json.decode(line)), AnswerLine)


def _of_log(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of lmms-eval's log of samples as a line.

    The question's id stands in the dictionary of a metric, or in the question beside; `doc_id` is a mere place.
    """
    parts = [value for value in (entry.get("doc"), *entry.values()) if isinstance(value, dict)]
    named = next((part for part in parts if any(part.get(name) is not None for name in IDS)), parts[0] if parts else {})
    asked = entry.get("input", named.get("question"))
    said = entry["filtered_resps"]
    while isinstance(said, list) and len(said) == 1:
        said = said[0]
    known = {name: named[name] for name in (*IDS, *KEPT, "image") if name in named}
    return {**known, "text": said, "prompt": asked if isinstance(asked, str) else ""}


def _mended(data: bytes) -> bytes:
    """What Python's own module takes for JSON, and writes, as JSON; a `ValueError` for what is neither.

    NaN and Infinity become objects, which are neither texts nor ids; half a surrogate pair becomes U+FFFD.
    """
    value = json.loads(data, parse_constant=lambda name: {name: None})
    return _SURROGATE.sub("\ufffd", json.dumps(value, ensure_ascii=False)).encode()


def _prediction(line: AnswerLine) -> Prediction:
    own = _own_id(line)
    if own is None:
        raise ItemError("bad_record", f"no id; expected one of {', '.join(IDS)}, image")
    said = _said(line)
    text = _text(said)
    if text is None:
        raise _no_answer(said, own)
    fields = dict(line.metadata) if isinstance(line.metadata, dict) else {}
    values = kept(line)
    for name, value in zip(KEPT, values, strict=True) if values != NOTHING_KEPT else ():
        if value is not None and not isinstance(value, dict):
            fields[name] = int(value) if isinstance(value, float) and value.is_integer() else value
    return Prediction(
        id=own,
        text=sys.intern(text) if len(text) < _SHORT else text,
        prompt=_shared(line.prompt),
        image=sys.intern(_image(line)),
        question=_shared(line.question),
        model=_shared(line.model_id),
        truncated=line.finish_reason == "length",
        fields=fields or _NO_FIELDS,
    )


def _shared(value: Any) -> str:
    """A text that many answers have in common, once in memory; empty for what is none."""
    return sys.intern(value) if isinstance(value, str) else ""


def _no_answer(said: Any, own: SampleId) -> ItemError:
    missing = f"no answer; expected one of {', '.join(TEXTS)}"
    error = ItemError("bad_record", missing if said is msgspec.UNSET else f"the answer is no text: {said!r:.80}")
    error.id = own  # type: ignore[attr-defined]
    return error


def _own_id(line: AnswerLine) -> SampleId | None:
    """The first of `IDS` that can be one, else the picture's name."""
    for name in IDS:
        value = getattr(line, name)
        if value is not None and (own := _id(value)) is not None:
            return own
    return _image(line) or None


def _id(value: Any) -> SampleId | None:
    """A text or a whole number, which pandas writes as 7.0 in a column with gaps; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _image(line: AnswerLine) -> str:
    """A picture's name, of several the first's; empty for a picture inside the line."""
    name = _id(line.image[0] if isinstance(line.image, list) and line.image else line.image)
    return "" if name is None or len(str(name)) > LONGEST_NAME else str(name)


def _said(line: AnswerLine) -> Any:
    """What the answer's own key holds; UNSET without such a key.

    In a line of questions, known by their `label`, `text` is the question where another key has the answer.
    """
    if line.text is not msgspec.UNSET and (line.label is None or line.prompt):
        return line.text
    said = {name: getattr(line, name) for name in TEXTS if getattr(line, name) is not msgspec.UNSET}
    if line.label is not None and not line.prompt and len(said) > 1:
        said.pop("text", None)
    return next(iter(said.values()), msgspec.UNSET)


def _text(said: Any) -> str | None:
    """An answer's text, "" where it is empty; None for several, and for what is no text."""
    if isinstance(said, list) and len(said) == 1:
        said = said[0]
    if isinstance(said, str):
        return said
    if said is None:
        return ""
    if isinstance(said, bool):
        return "true" if said else "false"
    return str(said) if isinstance(said, int | float) else None


def _elements(data: bytes, where: str) -> Iterable[bytes | msgspec.Raw]:
    """The elements of a JSON list.

    Raises:
        InputError: when it is cut off or no list; while iterating, where something in it cannot be decoded.
    """
    try:
        return decode(data, list[msgspec.Raw])
    except _UNREADABLE:
        return json_lists.elements(io.BytesIO(data.lstrip()), where=where)


def _whole_object(data: bytes) -> dict[str, msgspec.Raw] | None:
    """The file as one JSON object; None when it is JSON lines."""
    whole = _object(data)
    if whole is not None or _object(io.BytesIO(data.lstrip()).readline()) is not None:
        return whole
    try:
        return _object(_mended(data))
    except (ValueError, RecursionError):
        return None


def _object(data: bytes) -> dict[str, msgspec.Raw] | None:
    try:
        return decode(data, dict[str, msgspec.Raw])
    except _UNREADABLE:
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
        pairs = decode(data, dict[str, Any])
    except _UNREADABLE as error:
        raise InputError(f"{where}: a JSON object, but not of question ids and answers: {error}") from error
    return _collect((_named(key, said) for key, said in pairs.items()), where, what="question")


def _named(key: str, said: Any) -> tuple[str, dict[str, Any]]:
    """A question's entry as a line.

    In MathVista's results an entry is the whole problem, its `answer` the target; in pycocoevalcap's it is a list of
    one caption, bare or as COCO has it.
    """
    match said:
        case [str(caption)] | [{"caption": str(caption)}]:
            return key, {"text": caption, "question_id": key}
        case list():
            return key, {"question_id": key}
        case {"multiple_choice": str(text)} | {"direct_answer": str(text)}:  # A-OKVQA's two settings
            return key, {"text": text, "question_id": key, "metadata": said}
        case dict():
            return key, {**{name: value for name, value in said.items() if name != "answer"}, "question_id": key}
    return key, {"text": said, "question_id": key}
