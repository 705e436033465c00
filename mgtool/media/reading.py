"""The bytes of pictures and videos, wherever they lie."""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote

from mgtool.errors import UNREACHABLE, ItemError, Reason
from mgtool.files import remote, urls
from mgtool.files.regular import open_regular, read_opened, read_regular
from mgtool.media.limits import MAX_PICTURE_BYTES, MAX_VIDEO_BYTES
from mgtool.media.names import is_video_name
from mgtool.records import Media, Reach, name_text

Find: TypeAlias = Callable[[str], Media]
"""A name in a record -> the picture or video; an `ItemError` for one that is not opened."""

NOWHERE = Reach()
"""No URL."""

_ESCAPE = re.compile(r"\\u(dc[89a-f][0-9a-f])")
_SHOWN = 200
"""Characters of a name in a failure."""


@dataclass(frozen=True)
class Place:
    """Where names of pictures are looked up, and which of them are opened.

    Attributes:
        images: the folder (or URL) that relative names start from; None for the input's own folder.
        allow_absolute: whether a record may name absolute paths.
        reach: which URLs a record may name.
    """

    images: str | None = None
    allow_absolute: bool = False
    reach: Reach = NOWHERE

    @classmethod
    def of(
        cls,
        images: str | None,
        inputs: Iterable[str] = (),
        *,
        allow_absolute: bool = False,
        allow_remote: Sequence[str] | None = None,
    ) -> Place:
        """As the options say; URLs that the command line names, as inputs or `images`, name their hosts."""
        given = [*inputs] if images is None else [images, *inputs]
        return cls(images, allow_absolute, remote.reach_of(given, allow_remote))

    def media(self, name: str, *, beside: str = "") -> Media:
        """A picture or video by the name that a record gives it: the one place that decides what data may open.

        Args:
            name: out of data, whoever wrote that.
            beside: the folder or URL of the data.

        Raises:
            ItemError: ``unsupported``, a name that is not opened, with the option that would open it.
        """
        if "://" in name:
            if refused := remote.refusal(name, self.reach):
                raise _refused(name, refused)
            return Media(name=name_text(name), uri=name, reach=self.reach)
        if posixpath.isabs(name):
            if not self.allow_absolute:
                raise ItemError(
                    "unsupported", f"{name_text(name)[:_SHOWN]}: `allow_absolute` would open absolute paths"
                )
            return Media(name=name_text(name), uri=name)
        root = self.images if self.images is not None else beside
        return _below(root, name, self.reach)

    def listed(self, name: str, *, beside: str = "") -> Media:
        """As `media` by a name in a list of paths, which is the user's own word; URLs in it are not."""
        if "://" in name:
            return self.media(name)
        root = self.images if self.images is not None else beside
        if posixpath.isabs(name) or "://" not in root:
            short = name if posixpath.isabs(name) else posixpath.normpath(name)
            return Media(name=name_text(short), uri=posixpath.join(root, name) if root else name)
        return _below(root, name, self.reach)


def _below(root: str, name: str, reach: Reach) -> Media:
    """What lies in a folder or below a URL.

    Raises:
        ItemError: ``unsupported``, a name that leads out of it.
    """
    short, plain = posixpath.normpath(name), unquote(name).replace("\\", "/") if "://" in root else name
    if posixpath.normpath(plain).split("/")[0] == "..":
        raise _refused(name, "leads out of `images`")
    if "://" in root and "::" in name:
        raise _refused(name, "chained URLs inside data are never opened")
    # a link to a folder elsewhere has another folder above it than the name says
    inside = short if ".." in name.split("/") else name
    uri = posixpath.join(root, inside) if root else inside
    if "://" in uri and "://" not in root:
        raise _refused(name, "neither a path nor a URL")
    return Media(name=name_text(short), uri=uri, reach=reach if "://" in root else None)


def _refused(name: str, why: str) -> ItemError:
    return ItemError("unsupported", f"{name_text(name)[:_SHOWN]}: {why}")


def read_bytes(media: Media, opened: io.FileIO | None = None) -> bytes:
    """The bytes of a picture or video; `opened` is what `announce` gave, and is closed.

    Raises:
        ItemError: ``missing``, ``unreadable``, ``unreachable`` where another time may do, or ``unsupported`` for a
            redirect that is not followed.
        InputError: a URL of a protocol that nothing here knows.
    """
    if media.data is not None:
        return media.data
    most = MAX_VIDEO_BYTES if is_video_name(media.name) else MAX_PICTURE_BYTES
    try:
        if "://" not in media.uri:
            if opened is None:
                return read_regular(_stored_name(media.uri), most)
            with opened:
                return read_opened(opened, media.uri, most)
        return urls.read(media.uri, media.reach, most)
    except FileNotFoundError as error:
        raise ItemError("missing", f"no file {name_text(media.uri)}") from error
    except IsADirectoryError as error:
        raise ItemError("missing", f"{name_text(media.uri)} is a folder") from error
    except (OSError, ValueError) as error:
        if isinstance(error, remote.RefusedError):
            raise ItemError("unsupported", f"{name_text(media.uri)}: {name_text(str(error))}") from error
        reason: Reason = UNREACHABLE if urls.is_of_network(error) else "unreadable"
        raise ItemError(reason, f"{name_text(media.uri)}: {name_text(str(error))}") from error


def _stored_name(path: str) -> str:
    """What the file of a name in a record is called: bytes that are no UTF-8 stand in records as escapes."""
    if "\\udc" not in path or os.path.lexists(path):
        return path
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), path)


def announce(media: Media) -> io.FileIO | None:
    """Let the system begin to read a local picture or video that `read_bytes` will soon be given; gives its file."""
    if media.data is not None or "://" in media.uri or not hasattr(os, "posix_fadvise"):
        return None
    with contextlib.suppress(OSError, ValueError):  # what is wrong with it, `read_bytes` says
        file = open_regular(media.uri)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        return file
    return None


def size(media: Media) -> int:
    """Number of bytes of a picture or video; 0 where it cannot be found out."""
    if media.data is not None:
        return len(media.data)
    try:
        if "://" not in media.uri:
            return Path(media.uri).stat().st_size
        return urls.size(media.uri, media.reach) or 0
    except (OSError, ValueError):
        return 0
