"""Temporary files: all of a process in one folder that says whose it is; what dead processes left is removed."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mgtool.errors import OutputError
from mgtool.files.holders import Holder, host, this_process

_NAME = re.compile(r"mgtool-(?P<host>.+)-(?P<pid>[0-9]{1,10})-(?P<start>[0-9a-f]+)", re.ASCII)
_HELD = ".held"
_SOCKETS_MOST = 107 - len("/pymp-12345678/listener-12345678")
"""Bytes of a folder's path below which multiprocessing can bind its sockets."""
_SHORT = "/tmp"  # noqa: S108 - only for sockets, in a folder of mode 0700
_COMPILED = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
"""Variables that say where what torch compiles is kept."""
_made: dict[str, int] = {}
"""This process's folders, by where they lie, with the handles that hold them."""


@contextlib.contextmanager
def temporary_folder(what: str) -> Iterator[Path]:
    """A folder for as long as the block lasts, in the folder of this process; `what` it is for is in its name.

    Raises:
        OutputError: where none can be made.
    """
    try:
        folder = tempfile.TemporaryDirectory(
            prefix=f"{what}-", dir=_own_folder(users_place()), ignore_cleanup_errors=True
        )
    except OSError as error:
        raise _unwritable(error) from error
    with folder as name:
        yield Path(name)


def unnamed_file() -> io.FileIO:
    """A file without a name in the folder of this process, unbuffered, for reading and writing.

    It is gone when it is closed, and with the process, however that ends.

    Raises:
        OutputError: where none can be made.
    """
    try:
        return tempfile.TemporaryFile(buffering=0, dir=_own_folder(users_place()))
    except OSError as error:
        raise _unwritable(error) from error


def write_all(file: io.FileIO, data: bytes | bytearray) -> None:
    """Put bytes behind what a file of `unnamed_file` holds.

    Raises:
        OutputError: where there is no room.
    """
    view = memoryview(data)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise _unwritable(error) from error


def _unwritable(error: OSError) -> OutputError:
    """What is said where temporary files cannot be written."""
    detail = error.strerror or error
    return OutputError(f"temporary files cannot be written: {detail}; `tmp` or TMPDIR names another folder")


@contextlib.contextmanager
def all_in_one_folder(place: str | None = None) -> Iterator[None]:
    """Let everything that this process and those it starts make in TMPDIR lie in this process's folder.

    What killed processes of this machine left there is removed first. What torch compiles lies there, too, unless the
    user says where.

    Args:
        place: where the folder lies; TMPDIR where it is None, and there nothing changes if no folder can be made.

    Raises:
        OutputError: no folder can be made in `place`.
    """
    before = tempfile.tempdir
    try:
        own = _begun(users_place() if place is None else os.path.abspath(place))  # noqa: PTH100 - of links, the names
    except OSError as error:
        if place is not None:
            raise OutputError(f"`tmp` {place}: cannot be written: {error.strerror or error}") from error
        yield
        return
    tempfile.tempdir = own
    compiled = {name: str(Path(own, name.lower())) for name in _COMPILED if name not in os.environ}
    try:
        with _variables({"TMPDIR": own, **compiled}):
            yield
    finally:
        tempfile.tempdir = before


def _begun(place: str) -> str:
    sweep(place)
    own = _own_folder(place)
    _point_multiprocessing(own)
    return own


@contextlib.contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    """The environment with some variables, for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def short_folder(most: int) -> Path:
    """This process's folder, or, where its path has more bytes than `most`, one in ``/tmp``."""
    own = _own_folder(users_place())
    return Path(own if len(os.fsencode(own)) <= most else _own_folder(_SHORT))


def sweep(place: str) -> None:
    """Remove the folders of processes of this machine that are gone, and nothing else."""
    for path in _listed(place):
        named = _NAME.fullmatch(path.name)
        if named and named["host"] == host() and not Holder(host(), int(named["pid"]), named["start"]).runs:
            with contextlib.suppress(OSError):
                _remove_unheld(path)


def _listed(place: str) -> list[Path]:
    try:
        return sorted(Path(place).glob("mgtool-*"))
    except OSError:
        return []


def _remove_unheld(path: Path) -> None:
    """The number of a process tells nothing where several machines in one share a name; a lock does."""
    if path.is_symlink() or path.stat().st_uid != os.getuid():
        return
    with contextlib.suppress(FileNotFoundError):  # killed before it was held
        handle = os.open(path / _HELD, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(handle)
    shutil.rmtree(path, ignore_errors=True)


def users_place() -> str:
    """Where this process's folder lies, even while TMPDIR names this folder itself."""
    place = tempfile.gettempdir()
    return str(Path(place).parent) if place in map(_path, _made) else place


def _path(place: str) -> str:
    maker = this_process()
    return str(Path(place, f"mgtool-{maker.host}-{maker.pid}-{maker.start}"))


def _own_folder(place: str) -> str:
    """This process's folder in a place; made when it is first asked for, and removed when the process ends."""
    own = _path(place)
    if place not in _made or not Path(own).is_dir():
        from multiprocessing import util

        # After multiprocessing's own end, which still uses it; before it is there, so that no interrupt leaves it.
        util.Finalize(None, shutil.rmtree, args=(own,), kwargs={"ignore_errors": True}, exitpriority=-1000)
        Path(own).mkdir(mode=0o700, exist_ok=True)
        handle = os.open(Path(own, _HELD), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        _made[place] = handle
    return own


def _point_multiprocessing(own: str) -> None:
    """Give multiprocessing a folder for its sockets whose path is short enough."""
    if len(os.fsencode(own)) <= _SOCKETS_MOST:
        return
    from multiprocessing import process

    config = process.current_process()._config  # type: ignore[attr-defined]
    if "tempdir" not in config:
        config["tempdir"] = _own_folder(_SHORT)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_made.clear)  # they are its parent's
