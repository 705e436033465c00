"""Pictures behind URLs, kept for a while: one request each, however many samples show them."""

from __future__ import annotations

import functools
import io
from collections import OrderedDict

from mgtool.errors import ItemError
from mgtool.media import reading
from mgtool.records import Media, Reach

RECENT_BYTES = 1 << 28
"""Of files that are kept."""
_ENTRY_BYTES = 1 << 10
"""What a failure counts, and what a file counts beside its own bytes."""

_SIZES = 1 << 16
MOST_OPENED = 64
"""Files that are open ahead."""

_Key = tuple[str, Reach | None]


class RecentFiles:
    """Reads files as `reading.read_bytes`, those behind URLs once as long as they are kept; failures are kept, too.

    What lies on this machine, the system keeps.
    """

    def __init__(self, most: int = RECENT_BYTES) -> None:
        self._most, self._filled = most, 0
        self._kept: OrderedDict[_Key, bytes | ItemError] = OrderedDict()
        self._opened: OrderedDict[str, io.FileIO] = OrderedDict()
        self._size = functools.lru_cache(_SIZES)(reading.size)

    def read(self, media: Media) -> bytes:
        """A file's bytes; errors as of `reading.read_bytes`."""
        if media.data is not None or "://" not in media.uri:
            return reading.read_bytes(media, self._opened.pop(media.uri, None))
        key = (media.uri, media.reach)
        if key in self._kept:
            self._kept.move_to_end(key)
            found = self._kept[key]
        else:
            found = _outcome(media)
            self._keep(key, found)
        if isinstance(found, ItemError):
            raise ItemError(found.reason, found.detail)
        return found

    def announce(self, media: Media) -> None:
        """Let the system begin to read a local file that `read` will soon be asked for."""
        if media.uri in self._opened or (opened := reading.announce(media)) is None:
            return
        self._opened[media.uri] = opened
        if len(self._opened) > MOST_OPENED:
            self._opened.popitem(last=False)[1].close()

    def close(self) -> None:
        """Close what was announced and not read."""
        while self._opened:
            self._opened.popitem()[1].close()

    def size(self, media: Media) -> int:
        """As `reading.size`; that of a file behind a URL is asked for once."""
        if media.data is not None or "://" not in media.uri:
            return reading.size(media)
        return self._size(Media(name="", uri=media.uri, reach=media.reach))

    def _keep(self, key: _Key, found: bytes | ItemError) -> None:
        self._kept[key] = found
        self._filled += _bytes(found)
        while self._filled > self._most and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._filled -= _bytes(oldest)


def _outcome(media: Media) -> bytes | ItemError:
    try:
        return reading.read_bytes(media)
    except ItemError as error:
        return error


def _bytes(found: bytes | ItemError) -> int:
    return _ENTRY_BYTES + (len(found) if isinstance(found, bytes) else 0)
