"""Records as samples, whatever file they stand in: one table of their layouts, with how each is recognised."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from mgtool.errors import InputError, ItemError, RecordError
from mgtool.files.not_finite import with_nulls
from mgtool.inputs import layouts, visual_genome
from mgtool.inputs.seen import Seen
from mgtool.media import magic
from mgtool.media.names import is_video_name
from mgtool.media.reading import Find
from mgtool.records import BoxRecord, Failure, Item, Media, Sample, SampleId, Turn, convert, escaped, name_text, parse

_SURROGATE, _HALF = re.compile(rb"\\u[dD][89a-fA-F]"), re.compile("[\\ud800-\\udfff]")
_OF_IMAGE = re.compile(rb'"image_id"')
_DATA_URL = re.compile(r"data:[\w/.+-]*(?:;[\w=.+-]*)*;base64,", re.IGNORECASE)


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


_ID_KEYS = ("question_id", "id", "image", "video")
"""What names a record, the best first."""


class _CocoImage(msgspec.Struct):
    id: SampleId
    file_name: str


class Layout(NamedTuple):
    """One layout of records.

    Attributes:
        name: what people call it.
        told_by: its keys, for people.
        fits: whether a record, its keys in lower case, is one.
        read: record, id of a record that has none, what finds pictures, and place for messages -> samples.
    """

    name: str
    told_by: str
    fits: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any], SampleId, Find, str], Iterator[Item]]


def of_line(line: bytes, fallback: SampleId, find: Find, seen: Seen, *, where: str) -> Iterator[Item]:
    """A JSON record, as `of_fields`; one that is no JSON object comes out as a failure."""
    try:
        fields = _parsed(line, where)
    except RecordError as error:
        yield _no_text(line, fallback, where) or _bad_record(fallback, error)
        return
    yield from of_fields(fields, fallback, find, seen, where=where, line=line)


def of_fields(
    fields: Mapping[str, Any], fallback: SampleId, find: Find, seen: Seen, *, where: str, line: bytes = b""
) -> Iterator[Item]:
    """A record as a sample, or as the samples that it lists; one of no known layout comes out as a failure.

    Args:
        fields: JSON values.
        fallback: id of a record that has none.
        find: gives the picture or video that the record names.
        seen: told of the layout.
        where: for messages.
        line: the record's own JSON, where it was one.
    """
    keys = {key.lower(): value for key, value in fields.items() if value is not None}
    layout = next((one for one in LAYOUTS if one.fits(keys)), None)
    try:
        for item in (_conversation if layout is None else layout.read)(fields, fallback, find, where):
            seen.layouts[layout.name if layout else ""] += isinstance(item, Sample)
            yield item
    except RecordError as error:
        yield _no_text(line, fallback, where) or _bad_record(fallback, error)
    except ItemError as error:
        yield Failure.of(_own_id(fields, fallback), "read", error)


def _bad_record(id: SampleId, error: RecordError) -> Failure:
    return Failure(id=id, stage="read", reason="bad_record", detail=str(error))


def _own_id(fields: Mapping[str, Any], fallback: SampleId) -> SampleId:
    ids = (str(x) if isinstance(x, float) else x for x in map(fields.get, _ID_KEYS))
    named = (x for x in ids if isinstance(x, int) or (isinstance(x, str) and not _DATA_URL.match(x)))
    return next(named, fallback)


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    """A record's fields, also as Python's json and pandas write them: what is no number is null."""
    line = line.removeprefix(b"\xef\xbb\xbf")
    try:
        return parse(line, dict[str, Any], where=where)
    except RecordError:
        if (finite := with_nulls(line)) is line:
            raise
    return parse(finite, dict[str, Any], where=where)


def coco_on_a_line(line: bytes) -> dict[str, msgspec.Raw] | None:
    """The members of a COCO file that is one line, whatever comes first; None for another record."""
    if b'"file_name"' not in line:
        return None
    try:
        whole = msgspec.json.decode(with_nulls(line), type=dict[str, msgspec.Raw])
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


COCO = "COCO image"
ANNOTATIONS = "annotations of COCO files, which `boxes` takes"
"""What an images file says beside them."""


def coco(whole: Mapping[str, msgspec.Raw], find: Find, seen: Seen, *, where: str) -> Iterator[Item]:
    """The images of a COCO file; arguments as in `of_fields`.

    Raises:
        InputError: a JSON object without images.
    """
    if "images" not in whole:
        raise InputError(f"{where}: a JSON object without `images`; expected a list of conversations or a COCO file")
    annotations = whole.get("annotations", b"") if seen.wants_boxes else b""
    if count := sum(1 for _ in _OF_IMAGE.finditer(annotations)):
        seen.left_out.take({ANNOTATIONS: {"count": count, "examples": [where]}})
    for number, raw in enumerate(parse(whole["images"], list[msgspec.Raw], where=f"{where}: images"), 1):
        try:
            image = parse(bytes(raw), _CocoImage, where=f"{where}: images[{number - 1}]")
        except RecordError as error:
            yield Failure(id=f"images[{number - 1}]", stage="read", reason="bad_record", detail=str(error))
            continue
        try:
            yield Sample(id=image.id, images=(find(image.file_name),))
            seen.layouts[COCO] += 1
        except ItemError as error:
            yield Failure.of(image.id, "read", error)


def _conversation(fields: Mapping[str, Any], fallback: SampleId, find: Find, where: str) -> Iterator[Item]:
    """What `layouts.to_llava` understands."""
    own, others = layouts.to_llava(fields, where)
    record, carried = convert(own, _Record, where=where), dict[str, Media]()
    names = [record.image] if isinstance(record.image, str) and record.image else list(record.image or [])
    names = [_embedded(name, carried, where) for name in names]
    film = record.video
    if not film and len(names) == 1 and is_video_name(names[0]):
        film = names.pop()
    named = {"question_id": record.question_id, "id": record.id, "image": names[0] if len(names) == 1 else None}
    turns = record.speaker_turns or ([Turn("human", record.text)] if record.text is not None else [])
    yield Sample(
        id=_own_id(named, fallback),
        images=tuple(carried.get(name) or find(name) for name in names),
        video=find(film) if film else None,
        turns=tuple(turns),
        metadata=others,
    )


def _embedded(name: str, carried: dict[str, Media], where: str) -> str:
    """A name; of a data: URL that of its picture, which goes to `carried`."""
    if not name.startswith("data:") or name.startswith("data://"):  # the second is a protocol of fsspec
        return name
    match = _DATA_URL.match(name)
    try:
        data = base64.b64decode(name[match.end() :], validate=True) if match else b""
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise RecordError(f"{where}: a data: URL that holds no bytes in base64")
    own = f"{hashlib.sha256(data).hexdigest()[:16]}.{magic.ending(data[: magic.HEAD_BYTES])}"
    carried[own] = Media(name=own, data=data)
    return own


def _boxes(fields: Mapping[str, Any], fallback: SampleId, find: Find, where: str) -> Iterator[Item]:
    record = convert(fields, BoxRecord, where=where)
    if record.video:
        frames = record.frames or ()
        found = tuple(frame.detections for frame in frames)
        times = tuple(frame.time for frame in frames)
        video = msgspec.structs.replace(find(record.video), detections=found, frame_times=times)
        yield Sample(id=record.video, video=video)
    else:
        media = msgspec.structs.replace(find(record.image), detections=(record.detections,))
        yield Sample(id=record.image, images=(media,))


def _has_media(keys: Mapping[str, Any]) -> bool:
    return any(layouts.is_media(key) for key in keys)


def _is_foreign(fits: Callable[[Mapping[str, Any]], bool]) -> Callable[[Mapping[str, Any]], bool]:
    """The same for records that have neither pictures nor turns of their own."""
    return lambda keys: fits(keys) and not _has_media(keys) and not keys.keys() & {*layouts.TURN_KEYS}


LAYOUTS = (
    Layout(
        "line of a box file",
        "`sha256`, and `boxes` or `frames`",
        lambda keys: "sha256" in keys and ("boxes" in keys or "frames" in keys),
        _boxes,
    ),
    Layout(
        "picture of Visual Genome",
        "`image_id`, `url`, `width` and `height`",
        _is_foreign(visual_genome.is_picture),
        lambda fields, _, find, where: visual_genome.pictures(fields, find, where),
    ),
    Layout(
        "question of Visual Genome",
        "`qas`",
        _is_foreign(visual_genome.is_asked),
        lambda fields, _, find, where: visual_genome.questions(fields, find, where),
    ),
    Layout(
        "picture of Visual Genome with what is in it",
        f"`image_id` and one of {', '.join(f'`{name}`' for name in visual_genome.LISTS)}",
        _is_foreign(visual_genome.is_about),
        lambda fields, _, find, where: visual_genome.pictures(fields, find, where),
    ),
    Layout("conversation of LLaVA or ShareGPT", "`conversations`", lambda keys: "conversations" in keys, _conversation),
    Layout("chat messages", "`messages`", lambda keys: "messages" in keys, _conversation),
    Layout("turns of The Cauldron", "`texts`", lambda keys: "texts" in keys, _conversation),
    Layout(
        "captioned picture",
        "`file_name` or `..._file_name`, without `question_id`, `question`, `prompt` and `query`",
        lambda keys: layouts.is_caption(keys) and not keys.keys() & {*layouts.QUESTION_KEYS[1:]},
        _conversation,
    ),
    Layout(
        "question",
        f"one of {', '.join(f'`{name}`' for name in layouts.QUESTION_KEYS)}",
        lambda keys: bool(keys.keys() & {*layouts.QUESTION_KEYS}),
        _conversation,
    ),
    Layout(
        "picture or video",
        f"one of {', '.join(f'`{name}`' for name in (*layouts.PICTURE_KEYS, *layouts.VIDEO_KEYS))}",
        _has_media,
        _conversation,
    ),
)
"""Of several that fit, the first one."""
