"""Packed samples back to pictures, a conversation file and box shards: what `mgtool pack` takes."""

from __future__ import annotations

import errno
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from mgtool.errors import ItemError
from mgtool.files import atomic, hashing, shard_names
from mgtool.inputs.json_records import RESERVED
from mgtool.media import images
from mgtool.records import Advance, BoxRecord, Detections, Failure, FrameDetections, LeftOut, Media, Sample, dumps
from mgtool.runs import run_file

CONVERSATIONS_FILE = "conversations.json"
IMAGES_FOLDER = "images"
BOXES_FOLDER = "boxes"
RENAMED_FILE = "renamed.jsonl"
BOXES_PER_FILE = 10_000

_SCHEME = re.compile(r"^\w+://")
_UNSAFE = re.compile(r'[\x00-\x1f\\:*?"<>|]')
_RESERVED = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]", re.IGNORECASE)
"""Names of devices to Windows, whatever their ending."""
_LONGEST, _ENDING = 200, 16
"""Bytes of a part of a path; characters of an ending."""
_REFUSALS = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)


def unpack_samples(items: Iterable[Sample | Failure], folder: Path, advance: Advance) -> dict[str, Any]:
    """Fill an empty folder, that of an `atomic_folder`; gives the counts.

    Args:
        items: samples of tars, in order.
        folder: gets ``images/``, ``conversations.json``, and ``boxes/``, ``renamed.jsonl`` and ``failures.jsonl`` where
            there are any.
        advance: told of every item.
    """
    (folder / IMAGES_FOLDER).mkdir()
    unpacker = _Unpacker(folder)
    with (folder / CONVERSATIONS_FILE).open("wb") as file:
        failures = list(_write(items, file, unpacker, advance))
    unpacker.finish()
    if failures:
        atomic.write_lines(folder / run_file.FAILURES_FILE, failures)
    return {"failures": len(failures), **unpacker.counts, "renames": unpacker.renames.summary()}


def _write(
    items: Iterable[Sample | Failure], file: IO[bytes], unpacker: _Unpacker, advance: Advance
) -> Iterator[Failure]:
    """Write the list of conversations; gives what could not be written."""
    between = b"[\n"
    for item in items:
        advance(1)
        try:
            if isinstance(item, Failure):
                yield item
                continue
            file.write(between + dumps(unpacker.conversation(item)))
            between = b",\n"
        except ItemError as error:
            yield Failure.of(item.id, "unpack", error)
    file.write(b"[]\n" if between == b"[\n" else b"\n]\n")


class _Unpacker:
    """Writes media and boxes, and remembers only what stands on the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts = Counter(samples=0, pictures=0, renamed=0, boxes_differ=0)
        self.renames = LeftOut()
        self._boxes: IO[bytes] | None = None
        self._renamed: IO[bytes] | None = None
        self._written: dict[bytes, int] = {}

    def conversation(self, sample: Sample) -> dict[str, Any]:
        """Write a sample's pictures and boxes; gives its record in LLaVA's layout."""
        names = [self._media(media) for media in sample.images]
        video = {"video": self._media(sample.video)} if sample.video is not None else {}
        image = {"image": names[0] if len(names) == 1 else names} if names else {}
        self.counts["samples"] += 1
        others = {f"{name}_" if name in RESERVED else name: value for name, value in sample.metadata.items()}
        return {"id": sample.id, **image, **video, "conversations": sample.turns, **others}

    def _media(self, media: Media) -> str:
        data = media.data or b""
        name, why = self._place(safe_name(media.name), data)
        if name != media.name:
            self._tell_renamed(media.name, name, why or "names that some file systems refuse")
        if media.detections is not None:
            self._add_boxes(media, name, data)
        return name

    def _tell_renamed(self, before: str, after: str, why: str) -> None:
        self.counts["renamed"] += 1
        self.renames.add(why, f"{before} -> {after}")
        if self._renamed is None:
            self._renamed = (self.folder / RENAMED_FILE).open("wb")
        self._renamed.write(dumps({"name": before, "file": after}) + b"\n")

    def _place(self, name: str, data: bytes) -> tuple[str, str]:
        """Write a file under its name, or under another where that cannot be; gives the name, and why it is another."""
        why = ""
        stem, suffix = posixpath.splitext(name)
        for number in range(2, 1_000_000):
            path = self.folder / IMAGES_FOLDER / name
            try:
                if path.is_file() and path.read_bytes() == data:
                    return name, why
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(data)
                    self.counts["pictures"] += 1
                    return name, why
            except (FileExistsError, NotADirectoryError):
                stem = name.replace("/", "_")  # a part of the name is a file: no folder can have that name
                stem, suffix = posixpath.splitext(stem)
            except OSError as error:
                if error.errno not in _REFUSALS:
                    raise
                name, why = f"{hashing.sha256(data)[:32]}{suffix[:_ENDING]}", "names that this file system refuses"
                stem, suffix = posixpath.splitext(name)
                continue
            name, why = f"{stem}~{number}{suffix}", "names that another picture has"
        raise ItemError("duplicate_id", f"a million pictures are called {name}")

    def _add_boxes(self, media: Media, name: str, data: bytes) -> None:
        line = dumps(_record(media, name, data)) + b"\n"
        key = bytes.fromhex(hashing.sha256(data))[:16]
        seen = self._written.get(key)
        if seen is not None:
            self.counts["boxes_differ"] += seen != hash(media.detections)
            return
        if len(self._written) % BOXES_PER_FILE == 0:
            self.close()
            number = len(self._written) // BOXES_PER_FILE
            path = self.folder / BOXES_FOLDER / shard_names.shard_name("boxes", number, ".jsonl")
            path.parent.mkdir(exist_ok=True)
            self._boxes = path.open("wb")
        self._written[key] = hash(media.detections)
        assert self._boxes is not None
        self._boxes.write(line)

    def close(self) -> None:
        """Close what is being written; the next box begins a new shard."""
        if self._boxes is not None:
            self._boxes.close()
            self._boxes = None

    def finish(self) -> None:
        """Close everything."""
        self.close()
        if self._renamed is not None:
            self._renamed.close()


def safe_name(name: str) -> str:
    """A name that stays within its folder and that every file system takes; ordinary relative names stay as they are.

    >>> safe_name("a/b.jpg"), safe_name("../../etc/passwd"), safe_name("s3://bucket/x.png"), safe_name("C:\\\\x.jpg")
    ('a/b.jpg', 'etc/passwd', 'bucket/x.png', 'C__x.jpg')
    >>> safe_name("con.jpg"), safe_name("a. /b.jpg."), len(safe_name("\u00fc" * 300 + ".jpg").encode())
    ('_con.jpg', 'a__/b.jpg_', 200)
    """
    parts = _UNSAFE.sub("_", _SCHEME.sub("", name)).split("/")
    kept = [_portable(part) for part in parts if part.strip(". ")]
    return "/".join(kept) or "unnamed"


def _portable(part: str) -> str:
    """A part of a path as Windows takes it, too, and no longer than file systems that count bytes allow."""
    bare = part.rstrip(". ")
    part = bare + "_" * (len(part) - len(bare))
    part = f"_{part}" if _RESERVED.fullmatch(part.partition(".")[0]) else part
    return part.encode()[-_LONGEST:].decode("utf-8", "ignore")


def _record(media: Media, name: str, data: bytes) -> BoxRecord:
    found = media.detections or ()
    sha256 = hashing.sha256(data)
    if len(found) == 1 and media.frame_times is None:
        width, height = images.probe(data)
        only: Detections = found[0]
        return BoxRecord(
            image=name,
            sha256=sha256,
            width=width,
            height=height,
            boxes=only.boxes,
            scores=only.scores,
            labels=only.labels,
            tags=only.tags,
        )
    times = media.frame_times or (0.0,) * len(found)
    frames = tuple(
        FrameDetections(index, time, one.boxes, one.scores, one.labels)
        for index, (time, one) in enumerate(zip(times, found, strict=True))
    )
    return BoxRecord(video=name, sha256=sha256, width=0, height=0, frames=frames)
