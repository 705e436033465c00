"""Which pictures of a run are done, so that of identical ones the first alone is detected."""

from __future__ import annotations

import hashlib

from mgtool.detection.output import DetectionEntry
from mgtool.errors import ItemError
from mgtool.records import Failure, Media


class Ledger:
    """Names and hashes of what is done, in some 300 bytes a picture, so that millions fit into memory."""

    def __init__(self) -> None:
        self._names: dict[bytes, bytes] = {}
        self._failed_names: dict[bytes, Failure] = {}
        self._hashes: set[bytes] = set()
        self._failed_hashes: dict[bytes, ItemError] = {}

    def is_new(self, media: Media) -> bool:
        """Whether a file is named for the first time; bytes that came with the input always are."""
        if media.data is not None:
            return True
        key = _key(media.uri)
        if key in self._names:
            return False
        self._names[key] = b""
        return True

    def is_new_content(self, sha256: str) -> bool:
        """Whether these bytes come for the first time."""
        before = len(self._hashes)
        self._hashes.add(bytes.fromhex(sha256))
        return len(self._hashes) > before

    def error(self, sha256: str) -> ItemError | None:
        """Why these bytes could not be used."""
        return self._failed_hashes.get(bytes.fromhex(sha256))

    def outcome(self, media: Media) -> tuple[str, Failure | None]:
        """Hash and failure of a file that was named before."""
        key = _key(media.uri)
        return self._names[key].hex(), self._failed_names.get(key)

    def settle(self, media: Media, entry: DetectionEntry) -> None:
        """Remember what became of a picture or video."""
        digest = bytes.fromhex(entry.sha256)
        if entry.sha256:
            self._hashes.add(digest)
        if entry.sha256 and entry.failure is not None:
            detail = entry.failure.detail.removeprefix(f"{media.name}: ")
            self._failed_hashes.setdefault(digest, ItemError(entry.failure.reason, detail))
        if media.data is None and not self._names.get(key := _key(media.uri)):
            self._names[key] = digest
            if entry.failure is not None:
                self._failed_names[key] = entry.failure


def _key(uri: str) -> bytes:
    return hashlib.blake2b(uri.encode("utf-8", "surrogateescape"), digest_size=16).digest()
