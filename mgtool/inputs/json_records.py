"""Records of JSON files as samples: LLaVA's conversations and questions, lines of boxes, COCO's images."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from mgtool.errors import InputError, RecordError
from mgtool.media.names import is_video_name
from mgtool.media.reading import Find
from mgtool.records import BoxRecord, Failure, Sample, SampleId, Turn, convert, escaped, name_text, parse

_SURROGATE, _HALF = re.compile(rb"\\u[dD][89a-fA-F]"), re.compile("[\\ud800-\\udfff]")


class _Record(msgspec.Struct, rename={"speaker_turns": "conversations"}):
    """The union of a LLaVA conversation and a LLaVA question."""

    id: SampleId | None = None
    question_id: SampleId | None = None
    image: str | list[str] | None = None
    video: str | None = None
    speaker_turns: list[Turn] | None = None
    text: str | None = None
    question: str | None = None


RESERVED = frozenset({"id", "question_id", "image", "video", "conversations", "text", "question"})
"""Keys of a record that are no metadata."""


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
        fields = parse(line, dict[str, Any], where=where)
        if "sha256" in fields and ("boxes" in fields or "frames" in fields):
            return _box_sample(convert(fields, BoxRecord, where=where), find)
        return _conversation(convert(fields, _Record, where=where), fields, fallback, find)
    except RecordError as error:
        return _no_text(line, fallback, where) or Failure(
            id=fallback, stage="read", reason="bad_record", detail=str(error)
        )


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
    known = (fields.get(name) for name in ("question_id", "id", "image"))
    known_id = next((name for name in known if isinstance(name, int | str) and not isinstance(name, bool)), fallback)
    detail = f"{where}: a text with {name_text(found[0])}, half a surrogate pair, which is no character"
    return Failure(id=escaped(known_id), stage="read", reason="bad_record", detail=detail)


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
        yield Sample(id=image.id, images=(find(image.file_name),))


def _conversation(record: _Record, fields: Mapping[str, Any], fallback: SampleId, find: Find) -> Sample:
    sample_id = next((x for x in (record.question_id, record.id, record.image) if isinstance(x, int | str)), fallback)
    question = record.text if record.text is not None else record.question
    turns = record.speaker_turns or ([Turn("human", question)] if question is not None else [])
    names = [record.image] if isinstance(record.image, str) and record.image else list(record.image or [])
    film = record.video
    if not film and len(names) == 1 and is_video_name(names[0]):
        film = names.pop()
    return Sample(
        id=sample_id,
        images=tuple(find(name) for name in names),
        video=find(film) if film else None,
        turns=tuple(turns),
        metadata={key: value for key, value in fields.items() if key not in RESERVED},
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
