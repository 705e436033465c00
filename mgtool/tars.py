"""WebDataset tars as samples: mgtool's own, and those of others (a picture with a caption or a conversation)."""

from __future__ import annotations

import contextlib
import io
import posixpath
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, TypeAlias, cast

import fsspec
import msgspec
import numpy as np
from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]

from mgtool import images
from mgtool.errors import ItemError, RecordError
from mgtool.records import Detections, Failure, FrameDetections, Media, Sample, SampleId, Turn, convert, parse

STAGE = "read"
FORMAT = "mgtool-1"
"""Value of `format` in the JSON of samples that mgtool packed."""

PICTURE_EXTENSIONS = frozenset(extension[1:] for extension in images.EXTENSIONS)
VIDEO_EXTENSIONS = frozenset({"mp4", "avi", "mkv", "mov", "webm", "m4v", "mpg", "mpeg", "wmv", "flv"})
_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_BLOCK = 512
_MAGIC_AT = 257
_ERRORS = (tarfile.TarError, OSError, EOFError, zlib.error, ValueError)
Item: TypeAlias = Sample | Failure


class PackedPicture(msgspec.Struct, frozen=True, kw_only=True):
    """A picture of a packed sample; `sha256` is of the original bytes, `converted_from` a format or empty."""

    name: str = ""
    sha256: str = ""
    width: int = 0
    height: int = 0
    converted_from: str = ""


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


class PackedBoxes(msgspec.Struct, frozen=True, kw_only=True):
    """``KEY.boxes.json``, one entry a row of ``KEY.boxes.npy``, or one stand-in where that has no rows.

    Attributes:
        pictures: index of the picture or frame that a row belongs to.
        tags: a JSON list of lists as text, one list a picture; empty without a tagger.
    """

    scores: tuple[float, ...]
    labels: tuple[str, ...]
    pictures: tuple[int, ...] | None = None
    tags: str = ""


def expand(given: str) -> list[str] | None:
    """The tars that a path, URL or brace pattern means; None where it names none.

    >>> expand("x-{000..001}.tar")
    ['x-000.tar', 'x-001.tar']
    >>> expand("train.json") is None
    True
    """
    if not given.partition("?")[0].lower().endswith(_ENDINGS):
        return None
    try:
        return list(braceexpand(given)) if "{" in given else [given]
    except UnbalancedBracesError:
        return [given]


def looks_like_tar(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a tar (not compressed)."""
    return head[_MAGIC_AT : _MAGIC_AT + 5] == b"ustar"


def read_samples(urls: Sequence[str]) -> Iterator[Item]:
    """The samples of tars in order; a tar that is broken gives a `Failure`, and the next one goes on."""
    for url in urls:
        try:
            with _open(url) as file:
                yield from read_stream(file, where=url)
        except FileNotFoundError:
            yield Failure(id=url, stage=STAGE, reason="missing", detail=f"no file {url}")
        except (OSError, ValueError) as error:
            yield Failure(id=url, stage=STAGE, reason="unreadable", detail=f"{url}: {error}")


def read_stream(fileobj: IO[bytes], where: str) -> Iterator[Item]:
    """The samples of one tar that is read once, front to back.

    Args:
        fileobj: the tar's bytes; compressed ones are understood.
        where: the tar's name for messages.
    """
    tail = _Tail(fileobj)
    key, parts = "", dict[str, bytes]()
    try:
        with tarfile.open(fileobj=cast(IO[bytes], tail), mode="r|*") as tar:
            for name, data in _members(tar):
                found, part = _split(name)
                if found != key and parts:
                    yield _sample(key, parts)
                    parts = {}
                key = found
                parts[part] = data
        if not tail.complete:
            raise tarfile.ReadError("unexpected end of data")
    except _ERRORS as error:
        yield _broken(where, key, error)
        return
    if parts:
        yield _sample(key, parts)


def frame_detections(frame: FrameDetections) -> Detections:
    """The objects of one frame of a video."""
    return Detections(frame.boxes, frame.scores, frame.labels)


class _Tail:
    """A reader that remembers how the file ended: a whole tar ends with an empty block."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._first = self._last = b""

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if data:
            self._first = self._first or data[:_BLOCK]
            self._last = (self._last + data[-_BLOCK:])[-_BLOCK:]
        return data

    @property
    def complete(self) -> bool:
        """Decompressors find for themselves that a file was cut."""
        return not any(self._last) or not looks_like_tar(self._first)


def _open(url: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    if "://" in url:
        opened: contextlib.AbstractContextManager[IO[bytes]] = fsspec.open(url, "rb")
        return opened
    return open(url, "rb")  # noqa: PTH123 - a name with a trailing slash must stay an error


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in tar:
        base = posixpath.basename(member.name)
        if not member.isfile() or base.startswith((".", "__")):
            continue
        file = tar.extractfile(member)
        data = file.read() if file is not None else b""
        if len(data) != member.size:
            raise tarfile.ReadError("unexpected end of data")
        yield member.name, data


def _split(name: str) -> tuple[str, str]:
    """Key and part of a member: the key ends at the first dot of the base name.

    >>> _split("a.b/000007.boxes.npy")
    ('a.b/000007', 'boxes.npy')
    """
    folder, base = posixpath.split(name)
    key, _, part = base.partition(".")
    return posixpath.join(folder, key), part.lower()


def _broken(where: str, key: str, error: Exception) -> Failure:
    text = str(error)
    if text == "empty file":
        return Failure(id=where, stage=STAGE, reason="empty", detail=f"{where}: 0 bytes")
    cut = isinstance(error, EOFError) or any(word in text for word in ("unexpected end", "end-of-stream", "truncated"))
    after = f" after {key}" if key else ""
    return Failure(id=where, stage=STAGE, reason="truncated" if cut else "unreadable", detail=f"{where}: {text}{after}")


def _sample(key: str, parts: Mapping[str, bytes]) -> Item:
    try:
        fields = parse(parts["json"], dict[str, Any], where=f"{key}.json") if parts.get("json") else {}
        if fields.get("format") == FORMAT:
            return _packed(key, convert(fields, PackedSample, where=f"{key}.json"), parts)
        return _foreign(key, fields, parts)
    except RecordError as error:
        return Failure(id=key, stage=STAGE, reason="bad_record", detail=str(error))
    except ItemError as error:
        return Failure.of(key, STAGE, error)


def _packed(key: str, record: PackedSample, parts: Mapping[str, bytes]) -> Sample:
    slots = sorted((part for part in parts if _extension(part) in PICTURE_EXTENSIONS), key=_slot)
    if len(slots) < record.pictures:
        raise ItemError("missing", f"{key}: {record.pictures} pictures in the JSON, {len(slots)} in the tar")
    media = record.frames if record.video else record.pictures
    found = _detections(key, parts, media)
    pictures = tuple(
        Media(name=about.name, data=parts[slot], detections=None if found is None else (found[index],))
        for index, (about, slot) in enumerate(zip(record.images[: record.pictures], slots, strict=False))
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


def _foreign(key: str, fields: Mapping[str, Any], parts: Mapping[str, bytes]) -> Sample:
    """A sample of another writer: pictures in the order of their parts, `.json` of LLaVA or img2dataset, `.txt`."""
    names = sorted((part for part in parts if _extension(part) in PICTURE_EXTENSIONS), key=_slot)
    video = next((part for part in parts if _extension(part) in VIDEO_EXTENSIONS), None)
    found = _detections(key, parts, max(len(names), 1))
    given = fields.get("question_id", fields.get("id"))
    known = {"id", "question_id", "conversations", "image", "video", "text", "question"}
    metadata = {name: value for name, value in fields.items() if name not in known}
    if "txt" in parts:
        metadata["caption"] = parts["txt"].decode("utf-8", "replace").strip()
    pictures = tuple(
        Media(name=f"{key}.{name}", data=parts[name], detections=None if found is None else (found[index],))
        for index, name in enumerate(names)
    )
    return Sample(
        id=given if isinstance(given, int | str) else key,
        images=pictures,
        video=Media(name=f"{key}.{video}", data=parts[video]) if video else None,
        turns=_turns(key, fields),
        metadata=metadata,
    )


def _turns(key: str, fields: Mapping[str, Any]) -> tuple[Turn, ...]:
    if fields.get("conversations") is not None:
        return convert(fields["conversations"], tuple[Turn, ...], where=f"{key}.json: conversations")
    question = fields.get("text", fields.get("question"))
    return (Turn("human", question),) if isinstance(question, str) else ()


def _extension(part: str) -> str:
    return part.rpartition(".")[2]


def _slot(part: str) -> tuple[int, str]:
    """The order of a sample's pictures: ``jpg``, ``1.jpg``, ``2.jpg``, ..."""
    number = part.rpartition(".")[0]
    return (int(number) if number.isdecimal() else 0, part)


def _detections(key: str, parts: Mapping[str, bytes], count: int) -> tuple[Detections, ...] | None:
    """The objects of each of `count` pictures or frames; None where the sample has no boxes."""
    if "boxes.npy" not in parts:
        return None
    try:
        rows = np.load(io.BytesIO(parts["boxes.npy"]), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ItemError("bad_boxes", f"{key}.boxes.npy: {error}") from error
    if rows.ndim != 2 or rows.shape[1] != 4 or rows.dtype.kind not in "fiu" or not np.isfinite(rows).all():
        raise ItemError("bad_boxes", f"{key}.boxes.npy: {rows.dtype} {rows.shape}, expected numbers of shape (n, 4)")
    about = parse(parts.get("boxes.json") or b'{"scores":[],"labels":[]}', PackedBoxes, where=f"{key}.boxes.json")
    scores, labels = about.scores or (1.0,) * len(rows), about.labels or ("",) * len(rows)
    owners = about.pictures or (0,) * len(rows)
    if min(len(scores), len(labels), len(owners)) < len(rows):
        raise ItemError("bad_boxes", f"{key}: {len(rows)} boxes, {len(scores)} scores, {len(labels)} labels")
    tags = parse(about.tags, list[tuple[str, ...] | None], where=f"{key}.boxes.json: tags") if about.tags else []
    return tuple(_of_one(rows, scores, labels, owners, one, tags) for one in range(count))


def _of_one(
    rows: Any,
    scores: Sequence[float],
    labels: Sequence[str],
    owners: Sequence[int],
    one: int,
    tags: Sequence[tuple[str, ...] | None],
) -> Detections:
    mine = [row for row in range(len(rows)) if owners[row] == one]
    return Detections(
        boxes=tuple(tuple(map(float, rows[row])) for row in mine),  # type: ignore[misc]
        scores=tuple(scores[row] for row in mine),
        labels=tuple(labels[row] for row in mine),
        tags=tags[one] if one < len(tags) else None,
    )
