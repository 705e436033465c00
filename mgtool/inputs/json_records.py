"""Records of JSON files as samples: LLaVA's conversations and questions, lines of boxes, COCO's images."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from mgtool.errors import InputError, ItemError, RecordError
from mgtool.inputs import layouts
from mgtool.media.names import is_video_name
from mgtool.media.reading import Find
from mgtool.records import BoxRecord, Failure, Sample, SampleId, Turn, convert, escaped, name_text, parse

_SURROGATE, _HALF = re.compile(rb"\\u[dD][89a-fA-F]"), re.compile("[\\ud800-\\udfff]")


class _Record(msgspec.Struct, rename={"speaker_turns": "conversations"}):
    """The union of a LLaVA conversation and a LLaVA question."""

    id: SampleId | float | None = None
    question_id: SampleId | float | None = None
    image: str | list[str] | None = None
    video: str | None = None
    speaker_turns: list[Turn] | None = None
    text: str | None = None


RESERVED = frozenset(
    {"id", "question_id", *layouts.PICTURE_KEYS, *layouts.VIDEO_KEYS, *layouts.TURN_KEYS, *layouts.QUESTION_KEYS}
)
"""Keys of a record that may be no metadata."""


_NO_NUMBER = re.compile(rb"\b(?:NaN|Infinity)\b")
_ID_KEYS = ("question_id", "id", "image", "video")
"""What names a record, the best first."""


class _CocoImage(msgspec.Struct):
    id: SampleId
    file_name: str


def sample(line: bytes, fallback: SampleId, find: Find, *, where: str) -> Sample | Failure:
    """A conversation, a question, or a line of a box file; a record that is none of these comes out as a failure.

    Args:
        line: the record.
        fallback: id of a record that has none.
        find: gives the picture or video that the record names.
        where: for messages.
    """
    try:
        fields = _parsed(line, where)
        if "sha256" in fields and ("boxes" in fields or "frames" in fields):
            return _box_sample(convert(fields, BoxRecord, where=where), find)
        own, others = layouts.to_llava(fields, where)
        return _conversation(convert(own, _Record, where=where), others, fallback, find)
    except RecordError as error:
        return _no_text(line, fallback, where) or Failure(
            id=fallback, stage="read", reason="bad_record", detail=str(error)
        )
    except ItemError as error:
        return Failure.of(_own_id(fields, fallback), "read", error)


def _own_id(fields: Mapping[str, Any], fallback: SampleId) -> SampleId:
    ids = (str(x) if isinstance(x, float) else x for x in map(fields.get, _ID_KEYS))
    return next((x for x in ids if isinstance(x, int | str)), fallback)


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    """A record's fields, also as Python's json and pandas write them: what is no number is null."""
    try:
        return parse(line.removeprefix(b"\xef\xbb\xbf"), dict[str, Any], where=where)
    except RecordError:
        if not _NO_NUMBER.search(line):
            raise
    try:
        fields = json.loads(line, parse_constant=lambda name: None)
    except ValueError as error:
        raise RecordError(f"{where}: {error}") from error
    return convert(fields, dict[str, Any], where=where)


def coco_on_a_line(line: bytes) -> dict[str, msgspec.Raw] | None:
    """The members of a COCO file that is one line, whatever comes first; None for another record."""
    if b'"file_name"' not in line:
        return None
    try:
        whole = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        first = msgspec.json.decode(whole.get("images", b"[]"), type=list[msgspec.Raw])[:1]
        msgspec.json.decode(first[0], type=_CocoImage)
    except (msgspec.DecodeError, UnicodeDecodeError, IndexError):
        return None
    return whole


def _no_text(line: bytes, fallback: SampleId, where: str) -> Failure | None:
    """The failure of a record with half a surrogate pair, which is valid JSON and no text; None for another one."""
    if not _SURROGATE.search(line):
        return None
    try:
        fields = json.loads(line)
        found = _HALF.search(json.dumps(fields, ensure_ascii=False))
    except (ValueError, RecursionError):
        return None
    if found is None or not isinstance(fields, dict):
        return None
    detail = f"{where}: a text with {name_text(found[0])}, half a surrogate pair, which is no character"
    return Failure(id=escaped(_own_id(fields, fallback)), stage="read", reason="bad_record", detail=detail)


def coco(whole: Mapping[str, msgspec.Raw], find: Find, *, where: str) -> Iterator[Sample | Failure]:
    """The images of a COCO file; arguments as in `sample`.

    Raises:
        InputError: a JSON object without images.
    """
    if "images" not in whole:
        raise InputError(f"{where}: a JSON object without `images`; expected a list of conversations or a COCO file")
    for number, raw in enumerate(parse(whole["images"], list[msgspec.Raw], where=f"{where}: images"), 1):
        try:
            image = parse(bytes(raw), _CocoImage, where=f"{where}: images[{number - 1}]")
        except RecordError as error:
            yield Failure(id=f"images[{number - 1}]", stage="read", reason="bad_record", detail=str(error))
            continue
        try:
            yield Sample(id=image.id, images=(find(image.file_name),))
        except ItemError as error:
            yield Failure.of(image.id, "read", error)


def _conversation(record: _Record, others: dict[str, Any], fallback: SampleId, find: Find) -> Sample:
    named = {"question_id": record.question_id, "id": record.id, "image": record.image}
    sample_id = _own_id(named, fallback)
    turns = record.speaker_turns or ([Turn("human", record.text)] if record.text is not None else [])
    names = [record.image] if isinstance(record.image, str) and record.image else list(record.image or [])
    film = record.video
    if not film and len(names) == 1 and is_video_name(names[0]):
        film = names.pop()
    return Sample(
        id=sample_id,
        images=tuple(find(name) for name in names),
        video=find(film) if film else None,
        turns=tuple(turns),
        metadata=others,
    )


def _box_sample(record: BoxRecord, find: Find) -> Sample:
    if record.video:
        frames = record.frames or ()
        found = tuple(frame.detections for frame in frames)
        times = tuple(frame.time for frame in frames)
        video = msgspec.structs.replace(find(record.video), detections=found, frame_times=times)
        return Sample(id=record.video, video=video)
    media = msgspec.structs.replace(find(record.image), detections=(record.detections,))
    return Sample(id=record.image, images=(media,))
