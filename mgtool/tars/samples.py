"""WebDataset tars as samples: mgtool's own, and those of others (a picture with a caption or a conversation)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from mgtool.errors import InputError, ItemError, RecordError
from mgtool.files.urls import is_of_network, unread
from mgtool.media.names import PICTURE_EXTENSIONS, VIDEO_EXTENSIONS
from mgtool.records import (
    Detections,
    Failure,
    Item,
    LeftOut,
    Media,
    Sample,
    SampleId,
    Turn,
    convert,
    parse,
)
from mgtool.tars import foreign
from mgtool.tars.box_parts import detections
from mgtool.tars.members import SPARSE, Member, read_members
from mgtool.tars.paths import find, open_url

FORMAT = "mgtool-1"
"""Value of `format` in the JSON of samples that mgtool packed."""

_MOST_BYTES, _PART_BYTES = 1 << 30, 1 << 10
"""Of a sample's members together, where there are several, and what each counts beside its own."""

_OWN_START = b'{"format":"' + FORMAT.encode() + b'"'


class RawSample(NamedTuple):
    """The members of one sample.

    Attributes:
        key: their common name.
        parts: bytes by what follows the first dot of the name.
        offset, end: where they begin and end in the tar.
        error: why the sample cannot be used, where one of its members is none that is read.
    """

    key: str
    parts: dict[str, bytes]
    offset: int
    end: int
    error: ItemError | None = None


class PackedPicture(msgspec.Struct, frozen=True, kw_only=True):
    """A picture of a packed sample.

    Attributes:
        sha256: of the original bytes.
        converted_from: a format, or empty where the bytes are the original ones.
        orientation: what the EXIF of the packed bytes says; where that is not 1, some readers turn the picture, and
            its boxes do not fit.
        turned_from: what the original's EXIF said where picture and boxes were turned by it; else 1.
    """

    name: str = ""
    sha256: str = ""
    width: int = 0
    height: int = 0
    converted_from: str = ""
    orientation: int = 1
    turned_from: int = 1


class PackedSample(msgspec.Struct, frozen=True, kw_only=True):
    """``KEY.json``. Readers infer types from the first samples, so lists are never empty: counts say what is real.

    Attributes:
        id: the sample's own id as text; `numeric_id` says that it is a number.
        image: name of the first picture.
        images: as many as `pictures`, or one stand-in.
        conversations: as many as `turns`, or one stand-in.
        frame_times: seconds, as many as `frames`, or one stand-in.
        metadata: a JSON object as text.
    """

    format: str
    id: str
    numeric_id: bool
    image: str
    pictures: int
    images: tuple[PackedPicture, ...]
    turns: int
    conversations: tuple[Turn, ...]
    video: str
    frames: int
    frame_times: tuple[float, ...]
    metadata: str


def open_tars(
    source: str | Path | Sequence[str | Path],
    *,
    on_failure: Callable[[Failure], None] | None = None,
    stdin: IO[bytes] | None = None,
) -> Iterator[Sample]:
    """The samples of WebDataset tars in order, mgtool's own and those of others, one at a time.

    Args:
        source: a folder of tars, a tar, a brace pattern (``x-{000..003}.tar``), an fsspec URL, a list of these,
            or ``-`` for stdin.
        on_failure: told of a sample or tar that cannot be read, which is then left out; without it, that raises.
        stdin: what ``-`` reads; the process's own where it is None.

    Raises:
        InputError: no tar there, or the first sample that cannot be read.
    """
    for url, item in read_tars(source, stdin=stdin):
        if isinstance(item, Sample):
            yield item
        elif on_failure is None:
            raise InputError(f"{url}: {item.id}: {item.reason}: {item.detail}")
        else:
            on_failure(item)


def read_tars(
    source: str | Path | Sequence[str | Path], *, stdin: IO[bytes] | None = None, left_out: LeftOut | None = None
) -> Iterator[tuple[str, Item]]:
    """The samples of tars as `open_tars` takes them, and failures in their places, each with its tar.

    `left_out` is told of members that are not used.

    Raises:
        InputError: no tar there.
    """
    yield from read_found(find(source), stdin=stdin, left_out=left_out)


def read_found(
    urls: Iterable[str], *, stdin: IO[bytes] | None = None, left_out: LeftOut | None = None
) -> Iterator[tuple[str, Item]]:
    """As `read_tars`, of tars that `find` gave: one that has vanished since gives a `Failure`."""
    for url in urls:
        stream = stdin or sys.stdin.buffer
        for item in read_stream(stream, "-", left_out) if url == "-" else read_samples([url], left_out):
            yield url, item


def read_samples(urls: Sequence[str], left_out: LeftOut | None = None) -> Iterator[Item]:
    """The samples of tars in order; a tar that is broken gives a `Failure`, and the next one goes on."""
    for url in urls:
        try:
            with open_url(url) as file:
                yield from read_stream(file, url, left_out)
        except FileNotFoundError:
            yield Failure(id=url, stage="read", reason="missing", detail=f"no file {url}")
        except (OSError, ValueError) as error:
            if is_of_network(error):  # what it holds is not known, so that nothing can stand for it
                raise unread(url, error) from error
            yield Failure(id=url, stage="read", reason="unreadable", detail=f"{url}: {error}")


def read_stream(fileobj: IO[bytes], where: str, left_out: LeftOut | None = None) -> Iterator[Item]:
    """The samples of one tar that is read once, front to back.

    Args:
        fileobj: the tar's bytes; compressed ones are understood.
        where: the tar's name for messages.
        left_out: told of members that are not used.
    """
    unused = LeftOut() if left_out is None else left_out

    def behind(count: int) -> None:
        unused.add("bytes behind the end of a tar", f"{where}: {count:,} bytes")

    try:
        for raw in group(read_members(fileobj, behind=behind), unused):
            yield _told(sample(raw, unused), raw)
    except ItemError as error:
        yield Failure(id=where, stage="read", reason=error.reason, detail=f"{where}: {error.detail}")


def _told(item: Item, raw: RawSample) -> Item:
    """A sample, or a `Failure` in place of one that nothing can be made of."""
    if isinstance(item, Failure) or item.images or item.video or item.turns or "txt" in raw.parts:
        return item
    if raw.parts.get("json", b"").startswith(_OWN_START):
        return item
    detail = f"{raw.key}: neither picture, video nor text in {', '.join(f'.{part}' for part in raw.parts)}"
    return Failure(id=raw.key, stage="read", reason="bad_record", detail=detail)


def read_parts(file: IO[bytes], *, offset: int = 0) -> Iterator[RawSample]:
    """The samples of one tar as bytes, undecoded.

    Args:
        file: the tar's bytes; compressed ones are understood.
        offset: where `file` stands in the tar.

    Raises:
        ItemError: a tar that is empty, cut or no tar, after the samples before that place.
    """
    return group(read_members(file, offset=offset))


def group(members: Iterable[Member], left_out: LeftOut | None = None) -> Iterator[RawSample]:
    """Members that stand together and have one key, as samples; names that readers skip are left out.

    A part that comes again begins another sample of the same key, so that nothing is lost.
    """
    now: _Gathered | None = None
    try:
        for member in _used(members, left_out):
            key, part = split_name(member.name)
            if now is not None and (key != now.key or part in now.parts):
                yield now.sample()
                now = None
            now = now or _Gathered(key, member.offset)
            now.take(member, part)
    except ItemError as error:
        raise ItemError(error.reason, f"{error.detail} after {now.key}" if now else error.detail) from error
    if now is not None:
        yield now.sample()


class _Gathered:
    """The members of one key so far."""

    def __init__(self, key: str, begin: int) -> None:
        self.key, self.parts = key, dict[str, bytes]()
        self._begin = self._end = begin
        self._size = 0
        self._wrong: ItemError | None = None

    def take(self, member: Member, part: str) -> None:
        """One more, as long as memory is for them."""
        self._end, self._size = member.end, self._size + len(member.data) + _PART_BYTES
        if member.kind == SPARSE:
            self._wrong = ItemError("unsupported", f"{member.name}: a sparse file; pack it anew without holes")
        if self._size <= _MOST_BYTES or not self.parts:
            self.parts[part] = member.data
        else:
            self._wrong = ItemError("bad_record", f"{self.key}: members of more than {_MOST_BYTES:,} bytes together")
            self.parts = dict.fromkeys(list(self.parts)[:1], b"")

    def sample(self) -> RawSample:
        """All of them."""
        return RawSample(self.key, self.parts, self._begin, self._end, self._wrong)


def _used(members: Iterable[Member], left_out: LeftOut | None) -> Iterator[Member]:
    for member in members:
        reason = _unused(member)
        if not reason:
            yield member
        elif left_out is not None and member.kind != "folder":
            left_out.add(reason, member.name)


def _unused(member: Member) -> str:
    """Why a member is part of no sample; empty where it is."""
    base = member.name.rfind("/") + 1
    if member.kind not in ("file", SPARSE):
        return f"members of tars that are no files: {member.kind}"
    if member.name.startswith((".", "__"), base):
        return "hidden members of tars"
    return "" if "." in member.name[base:] else "members of tars without an ending"


def split_name(name: str) -> tuple[str, str]:
    """Key and part of a member: the key ends at the first dot of the base name.

    >>> split_name("a.b/000007.boxes.npy")
    ('a.b/000007', 'boxes.npy')
    """
    dot = name.find(".", name.rfind("/") + 1)
    return (name[:dot], name[dot + 1 :].lower()) if dot >= 0 else (name, "")


def sample(raw: RawSample, left_out: LeftOut | None = None) -> Item:
    """A sample's bytes as a record; a `Failure` where they are none. `left_out` is told of parts that are not used."""
    key, parts = raw.key, raw.parts
    about = parts.get("json", b"")
    try:
        if raw.error is not None:
            raise raw.error
        if about.startswith(_OWN_START):
            return _packed(key, parse(about, PackedSample, where=f"{key}.json"), parts)
        fields = foreign.fields_of(about, f"{key}.json", left_out) if about else {}
        if fields.get("format") == FORMAT:
            return _packed(key, convert(fields, PackedSample, where=f"{key}.json"), parts)
        return _foreign(key, fields, parts, LeftOut() if left_out is None else left_out)
    except RecordError as error:
        return Failure(id=key, stage="read", reason="bad_record", detail=str(error))
    except ItemError as error:
        return Failure.of(key, "read", error)


def _packed(key: str, record: PackedSample, parts: Mapping[str, bytes]) -> Sample:
    slots = {_slot(part)[0]: part for part in parts if _extension(part) in PICTURE_EXTENSIONS}
    gone = [index for index in range(record.pictures) if index not in slots]
    if gone or len(record.images) < record.pictures:
        raise ItemError("missing", f"{key}: {record.pictures} pictures in the JSON, not so many in the tar")
    media = record.frames if record.video else record.pictures
    found = detections(key, parts, media)
    pictures = tuple(
        Media(name=about.name, data=parts[slots[index]], detections=None if found is None else (found[index],))
        for index, about in enumerate(record.images[: record.pictures])
    )
    return Sample(
        id=_own_id(record),
        images=pictures,
        video=_packed_video(key, record, parts, found),
        turns=record.conversations[: record.turns],
        metadata=parse(record.metadata, dict[str, Any], where=f"{key}.json: metadata"),
    )


def _own_id(record: PackedSample) -> SampleId:
    return int(record.id) if record.numeric_id else record.id


def _packed_video(
    key: str, record: PackedSample, parts: Mapping[str, bytes], found: tuple[Detections, ...] | None
) -> Media | None:
    if not record.video:
        return None
    data = next((parts[part] for part in parts if part in VIDEO_EXTENSIONS), None)
    if data is None:
        raise ItemError("missing", f"{key}: a video in the JSON, none in the tar")
    times = record.frame_times[: record.frames] or None
    return Media(name=record.video, data=data, detections=found or None, frame_times=times)


def _foreign(key: str, fields: Mapping[str, Any], parts: Mapping[str, bytes], left_out: LeftOut) -> Sample:
    """A sample of another writer: pictures in the order of their parts, `.json` of LLaVA or img2dataset, `.txt`."""
    names = sorted((part for part in parts if foreign.is_picture(part, parts[part])), key=_slot)
    video = next((part for part in parts if _extension(part) in VIDEO_EXTENSIONS), None)
    found = detections(key, parts, max(len(names), 1))
    given = fields.get("question_id", fields.get("id"))
    known = {"id", "question_id", "conversations", "image", "video", "text", "question"}
    metadata = {name: value for name, value in fields.items() if name not in known}
    if "txt" in parts:
        metadata["caption"] = parts["txt"].decode("utf-8", "replace").strip()
    used = {*names, video, "json", "txt", "boxes.npy", "boxes.json"}
    foreign.keep_texts(key, {part: data for part, data in parts.items() if part not in used}, metadata, left_out)
    pictures = tuple(
        Media(name=f"{key}.{name}", data=parts[name], detections=None if found is None else (found[index],))
        for index, name in enumerate(names)
    )
    turns = _turns(key, fields, metadata if names or video else None)
    _refuse_no_json(key, metadata, is_told=bool(names or video or turns or "txt" in parts))
    return Sample(
        id=given if isinstance(given, int | str) else key,
        images=pictures,
        video=Media(name=f"{key}.{video}", data=parts[video]) if video else None,
        turns=turns,
        metadata=metadata,
    )


def _refuse_no_json(key: str, metadata: Mapping[str, Any], *, is_told: bool) -> None:
    if not is_told and set(metadata) == {"json"}:
        raise RecordError(f"{key}.json: neither an object nor beside a picture")


def _turns(key: str, fields: Mapping[str, Any], metadata: dict[str, Any] | None) -> tuple[Turn, ...]:
    """The conversation; one that is none costs no picture, and stands in the metadata as it came."""
    if fields.get("conversations") is not None:
        try:
            return convert(fields["conversations"], tuple[Turn, ...], where=f"{key}.json: conversations")
        except RecordError:
            if metadata is None:
                raise
            metadata["conversations"] = fields["conversations"]
            return ()
    question = fields.get("text", fields.get("question"))
    return (Turn("human", question),) if isinstance(question, str) else ()


def _extension(part: str) -> str:
    return part.rpartition(".")[2]


def _slot(part: str) -> tuple[int, str]:
    """The order of a sample's pictures: ``jpg``, ``1.jpg``, ``2.jpg``, ..."""
    number = part.rpartition(".")[0]
    return (int(number) if number.isdecimal() else 0, part)
