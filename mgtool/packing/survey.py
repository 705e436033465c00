"""The first pass over an input: what its samples have in common, and what identifies each."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable

import msgspec

from mgtool import records
from mgtool.errors import ItemError
from mgtool.files import hashing
from mgtool.files.space import size_on_disk
from mgtool.media import images, reading
from mgtool.media.names import VIDEO_EXTENSIONS
from mgtool.media.recent import RecentFiles
from mgtool.packing.layout import EXTENSIONS, OTHERWISE, Layout
from mgtool.records import Failure, Media, Sample, dumps, media_of

HASH_BYTES = 16
"""Bytes of a SHA-256 that are kept where hashes are compared."""

_OVERHEAD = 4096
"""Bytes of headers, JSON and boxes that a sample has beside its pictures and texts, roughly."""


class Survey:
    """What the items have in common, one added after the other."""

    def __init__(self, *, boxes: bool) -> None:
        self.samples = self.failures = self._most = 0
        self._format = self._video = ""
        self._boxes = boxes
        self.content = hashlib.sha256()
        self.bytes = 0

    def add(self, item: records.Item) -> bytes:
        """Take an item in; gives what identifies it."""
        own = hashlib.sha256()
        if isinstance(item, Failure):
            self.failures += 1
            own.update(dumps(item))
        else:
            self.samples += 1
            self._find_common(item)
            self.bytes += size_on_disk(media.uri for media in media_of(item) if media.data is None)
            for one in media_of(item):
                bare = msgspec.structs.replace(one, data=None, uri="")
                own.update(dumps(bare) + (hashing.sha256(one.data).encode() if one.data is not None else b""))
            own.update(dumps((item.id, len(item.images), item.turns, item.metadata)))
        self.content.update(own.digest())
        return own.digest()[:HASH_BYTES]

    def _find_common(self, item: Sample) -> None:
        self._most = max(self._most, len(item.images))
        self._format = self._format or _format_of(item.images)
        if item.video is not None:
            ending = posixpath.splitext(item.video.name)[1][1:].lower()
            self._video = self._video or (ending if ending in VIDEO_EXTENSIONS else "mp4")
        self._boxes = self._boxes or any(media.detections is not None for media in media_of(item))

    def layout(self) -> Layout:
        """What all samples have in common."""
        return Layout(pictures=self._most, format=self._format or OTHERWISE, video=self._video, boxes=self._boxes)


def pack_hashes(hashes: Iterable[str]) -> bytes:
    """Hexadecimal hashes, cut to `HASH_BYTES` each, in one."""
    return b"".join(bytes.fromhex(one[: 2 * HASH_BYTES]) for one in hashes)


def pieces(whole: bytes | None) -> list[bytes]:
    """The hashes that `pack_hashes` joined."""
    return [whole[at : at + HASH_BYTES] for at in range(0, len(whole), HASH_BYTES)] if whole else []


def bytes_of(item: records.Item, files: RecentFiles) -> int:
    """About what a sample takes in a tar; `files` tells the sizes of its pictures."""
    if isinstance(item, Failure):
        return 0
    texts = sum(len(turn.value) for turn in item.turns)
    return texts + _OVERHEAD + sum(files.size(media) for media in media_of(item))


def _format_of(pictures: tuple[Media, ...]) -> str:
    """The format that the first readable picture gives to the whole data set; empty where none can be read."""
    for media in pictures:
        try:
            stored = images.probe(reading.read_bytes(media), with_format=True)[2]
        except ItemError:
            continue
        return stored if stored in EXTENSIONS else OTHERWISE
    return ""
