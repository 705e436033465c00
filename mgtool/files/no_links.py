"""Files and folders of an output: where a link stands in their place, nothing that it names is written or cut.

The output itself, which the user names, may be one.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from mgtool.errors import OutputError
from mgtool.files.folder_tree import of_readable_depth

_LINK = "a link, which is not followed: remove it, or choose another `out`"
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


def open_own(path: Path, flags: int) -> int:
    """A handle of a file.

    Args:
        path: of the file, which is made where `flags` say so.
        flags: of `os.open`.

    Raises:
        OSError: among others, that it is a link.
    """
    try:
        return os.open(path, flags | _FLAGS, 0o666)
    except OSError as error:
        if path.is_symlink():
            raise OSError(errno.ELOOP, _LINK, os.fspath(path)) from error
        raise


def cut(path: Path, length: int) -> None:
    """Cut a file off; errors as of `open_own`."""
    handle = open_own(path, os.O_WRONLY)
    try:
        os.ftruncate(handle, length)
    finally:
        os.close(handle)


def refuse_links(folder: Path) -> None:
    """Refuse a file or folder of an output that is a link, or one in which there is one; none will do.

    Raises:
        OutputError: naming the link.
    """
    if folder.is_symlink():
        raise OutputError(f"{folder}: {_LINK}")
    with of_readable_depth(folder):
        for place, folders, files in os.walk(folder):
            for name in (*folders, *files):
                if os.path.islink(os.path.join(place, name)):  # noqa: PTH114, PTH118 - of names that may be many
                    raise OutputError(f"{os.path.join(place, name)}: {_LINK}")  # noqa: PTH118
