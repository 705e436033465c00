"""The bytes of pictures and videos, wherever they lie."""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from mgtool.errors import ItemError
from mgtool.files import urls
from mgtool.records import Media, name_text

Find: TypeAlias = Callable[[str], Media]
"""A name in a record -> the picture or video."""


@dataclass(frozen=True)
class Place:
    """Where names of pictures are looked up.

    Attributes:
        images: the folder (or URL) that relative names start from; None for the input's own folder.
    """

    images: str | None = None

    def media(self, name: str, *, beside: str = "") -> Media:
        """A picture or video by the name that a record gives it."""
        if "://" in name or posixpath.isabs(name):
            return Media(name=name_text(name), uri=name)
        root = self.images if self.images is not None else beside
        return Media(name=name_text(posixpath.normpath(name)), uri=posixpath.join(root, name) if root else name)


def read_bytes(media: Media) -> bytes:
    """The bytes of a picture or video.

    Raises:
        ItemError: ``missing`` or ``unreadable``.
        InputError: a URL of a protocol that nothing here knows.
    """
    if media.data is not None:
        return media.data
    try:
        if "://" not in media.uri:
            with io.FileIO(media.uri) as file:
                return file.readall()
        return urls.read(media.uri)
    except FileNotFoundError as error:
        raise ItemError("missing", f"no file {name_text(media.uri)}") from error
    except IsADirectoryError as error:
        raise ItemError("missing", f"{name_text(media.uri)} is a folder") from error
    except (OSError, ValueError) as error:
        raise ItemError("unreadable", f"{name_text(media.uri)}: {name_text(str(error))}") from error


def announce(media: Media) -> None:
    """Let the system begin to read a local picture or video that `read_bytes` will soon be asked for."""
    if media.data is not None or "://" in media.uri or not hasattr(os, "posix_fadvise"):
        return
    with contextlib.suppress(OSError, ValueError):  # what is wrong with it, `read_bytes` says
        handle = os.open(media.uri, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(handle)


def size(media: Media) -> int:
    """Number of bytes of a picture or video; 0 where it cannot be found out."""
    if media.data is not None:
        return len(media.data)
    try:
        if "://" not in media.uri:
            return Path(media.uri).stat().st_size
        return urls.size(media.uri) or 0
    except (OSError, ValueError):
        return 0
