"""Opening files that have an end: neither devices nor, unless the user names one, pipes that nobody may write to."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import IO

from mgtool.errors import InputError

MOST_BYTES = 1 << 32
"""Of a file that is read whole."""

_PART_BYTES = 1 << 20
NO_FILE = "no regular file"
_DIRECTLY = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOCTTY", 0)


def open_regular(path: str | os.PathLike[str]) -> io.FileIO:
    """A regular file for reading; nothing else is waited for.

    Raises:
        OSError: it is not there, cannot be read, or is a folder, pipe, socket or device.
    """
    _insist(os.stat(path).st_mode, path)  # noqa: PTH116 - opening a device may do things; names may be any text
    handle = os.open(path, os.O_RDONLY | _DIRECTLY)
    try:
        _insist(os.fstat(handle).st_mode, path)
        return io.FileIO(handle)
    except BaseException:
        os.close(handle)
        raise


def read_regular(path: str | os.PathLike[str], most: int = MOST_BYTES) -> bytes:
    """A regular file's bytes; errors as of `open_regular`, and one for more than `most` bytes."""
    with open_regular(path) as file:
        return read_opened(file, path, most)


def read_opened(file: io.FileIO, path: str | os.PathLike[str], most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file that is open at its beginning; errors as of `read_regular`."""
    size = os.fstat(file.fileno()).st_size
    if size > most:
        raise OSError(errno.EFBIG, f"{size:,} bytes are more than the {most:,} that are read", os.fspath(path))
    return file.readall() or b""  # None of a file that lets one wait, as some of the system are


def read_sent(stream: IO[bytes], most: int) -> bytes:
    """What is sent on stdin, whole.

    Raises:
        InputError: it is more than that.
    """
    whole = io.BytesIO()
    while whole.tell() <= most and (part := stream.read(_PART_BYTES)):
        whole.write(part)
    if whole.tell() > most:
        raise InputError(f"-: more than the {most:,} bytes that are read of what is sent; give a file")
    return whole.getvalue()


def open_input(path: Path) -> io.BufferedReader:
    """A file or pipe that the user names.

    Raises:
        OSError: it is not there, cannot be read, or is a folder, socket or device.
    """
    if stat.S_ISFIFO(path.stat().st_mode):
        return path.open("rb")
    return io.BufferedReader(open_regular(path))


def refuse_endless(path: Path, *, pipes: bool = False) -> None:
    """Refuse a file that is there and is no regular one.

    Args:
        path: a folder, too.
        pipes: whether a pipe will do.

    Raises:
        InputError: a pipe, socket or device.
    """
    if path.exists() and not (path.is_file() or path.is_dir() or (pipes and path.is_fifo())):
        raise InputError(f"{path}: {NO_FILE}")


def _insist(mode: int, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, NO_FILE, os.fspath(path))
