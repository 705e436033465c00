"""Files and folders that are whole or absent: written aside, put on disk, renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from mgtool.errors import OutputError
from mgtool.files.holders import start_of
from mgtool.files.no_links import open_own, refuse_links
from mgtool.records import dumps

_ASIDE = ".writing"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one line that a file or folder cannot be written, where the block finds that.

    Raises:
        OutputError: when the disk is full, broken, or may only be read.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears under its name only when it is complete and on disk.

    Raises:
        OutputError: when the disk is full or the folder cannot be written.
    """
    aside = _aside(path)
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.unlink(missing_ok=True)  # of a killed process with this one's number; never written through a link
            with os.fdopen(open_own(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that appears under its name only when it is complete; one that exists is replaced.

    Raises:
        OutputError: when it cannot be written.
    """
    aside = _aside(path)
    try:
        with writing(path):
            aside.mkdir(parents=True)
            yield aside
            for file in aside.rglob("*"):
                _sync(file)
            if path.exists():
                shutil.rmtree(path)
            aside.replace(path)
            sync_folder(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A folder in `folder` for files that are needed for a while; `sweep` removes it where its maker was killed.

    Raises:
        OutputError: when it cannot be made.
    """
    scratch, made = _aside(folder / "scratch"), not folder.exists()
    with writing(folder):
        scratch.mkdir(parents=True, exist_ok=True)
        refuse_links(scratch)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()  # where nothing came of it, nothing is left


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file atomically."""
    with atomic_file(path) as file:
        file.write(data)


def write_lines(path: Path, records: Iterable[Any]) -> int:
    """Write records as JSON lines, atomically; gives their number."""
    count = 0
    with atomic_file(path) as file:
        for record in records:
            file.write(dumps(record) + b"\n")
            count += 1
    return count


def move_files(aside: Path, folder: Path, *, last: str) -> None:
    """Bring the files of a folder, once they are on disk, into another one; the folder goes.

    Args:
        aside: holds files alone.
        folder: of the same file system.
        last: the file that comes last, and without which the others do not count.

    Raises:
        OutputError: when they cannot be moved.
    """
    with writing(folder):
        for path in sorted(aside.iterdir(), key=lambda path: path.name == last):
            _sync(path)
            path.replace(folder / path.name)
        aside.rmdir()
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on disk, so that a rename survives a power cut."""
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}{_ASIDE}-{socket.gethostname()}-{os.getpid()}")


def sweep(folder: Path) -> None:
    """Remove what killed writers of this machine left aside; files of writers that still run stay."""
    of_a_writer = re.compile(rf"\..*{re.escape(f'{_ASIDE}-{socket.gethostname()}-')}([0-9]{{1,10}})", re.DOTALL)
    for name in os.listdir(folder) if folder.is_dir() else ():  # noqa: PTH208 - names
        named = of_a_writer.fullmatch(name)
        if named is None or start_of(int(named[1])) is not None:
            continue
        if (folder / name).is_dir() and not (folder / name).is_symlink():
            shutil.rmtree(folder / name, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                (folder / name).unlink()


def remove(path: Path) -> None:
    """Remove a file that may not be there.

    Raises:
        OutputError: it cannot be removed, as a folder of its name.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        why = os.strerror(errno.EISDIR) if path.is_dir() else error.strerror
        raise OutputError(f"{path}: cannot be replaced: {why}; choose another `out`") from error
