"""Files by fsspec URL."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, cast

import fsspec

from mgtool.errors import InputError
from mgtool.files.retries import retry_after, waiting

ATTEMPTS = 4
FIRST_WAIT_S, LONGEST_RISE_S = 0.2, 3.0
_TOO_MANY_REQUESTS = 429


def locate(url: str) -> tuple[Any, str]:
    """The file system of a path or URL, and its path there.

    Raises:
        InputError: a protocol that nothing knows, or whose package is not installed.
    """
    try:
        found: tuple[Any, str] = fsspec.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InputError(f"{url}: {error}") from error
    return found


def is_folder(url: str) -> bool:
    """Whether files are listed there; errors as `open_file`."""
    filesystem, path = locate(url)
    return bool(_insist(filesystem.isdir, path))


def open_file(url: str) -> IO[bytes]:
    """A file for reading, part by part.

    Raises:
        InputError: as `locate`.
        OSError: what its server or file system says.
    """
    filesystem, path = locate(url)
    return cast("IO[bytes]", _insist(filesystem.open, path, "rb"))


def read(url: str) -> bytes:
    """A file's bytes; errors as `open_file`."""
    filesystem, path = locate(url)
    return cast(bytes, _insist(filesystem.cat_file, path))


def size(url: str) -> int | None:
    """A file's number of bytes where that is known; errors as `open_file`."""
    filesystem, path = locate(url)
    return cast("int | None", _insist(filesystem.size, path))


def fetch(url: str, to: Path) -> None:
    """Copy a file or folder; errors as `open_file`."""
    filesystem, path = locate(url)
    _insist(filesystem.get, path, str(to), recursive=is_folder(url))


def _insist(call: Any, *args: Any, **options: Any) -> Any:
    """Call again where an error may pass; what is no `OSError` becomes one."""
    import tenacity

    rising = tenacity.wait_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_RISE_S)
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=waiting(rising, lambda error: retry_after(getattr(error, "headers", None))),
        retry=tenacity.retry_if_exception(_may_pass),
        reraise=True,
    )
    try:
        return retrying(call, *args, **options)
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def _may_pass(error: BaseException) -> bool:
    """Whether it is of a connection or of a server that is busy, not an answer that stays."""
    if isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError | ValueError):
        return False
    status = getattr(error, "status", None)
    return isinstance(error, Exception) and (status is None or status >= 500 or status == _TOO_MANY_REQUESTS)
