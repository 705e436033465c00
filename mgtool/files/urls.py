"""Files by fsspec URL."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any, cast

import fsspec

from mgtool.errors import InputError
from mgtool.files import remote
from mgtool.files.retries import retry_after, waiting
from mgtool.records import Reach

ATTEMPTS = 4
FIRST_WAIT_S, LONGEST_RISE_S = 0.2, 3.0
_TOO_MANY_REQUESTS = 429


_ANONYMOUS: dict[str, dict[str, Any]] = {"s3": {"anon": True}, "gs": {"token": "anon"}, "hf": {"token": False}}
"""By protocol, what leaves the user's credentials out."""


def locate(url: str, reach: Reach | None = None) -> tuple[Any, str]:
    """The file system of a path or URL, and its path there.

    Args:
        url: of the user, or of data and allowed there.
        reach: where one of data may lead; None for the user's.

    Raises:
        InputError: a protocol that nothing knows, or whose package is not installed.
    """
    try:
        found: tuple[Any, str] = fsspec.url_to_fs(url, **_options(url, reach))
    except (ImportError, ValueError) as error:
        raise InputError(f"{url}: {error}") from error
    return found


def _options(url: str, reach: Reach | None) -> dict[str, Any]:
    protocol = url.partition("://")[0]
    if protocol in ("http", "https") and "::" not in url:
        from mgtool.files.http_client import Client

        return {"get_client": Client(reach or remote.reach_of([url], ()), of_user=reach is None)}
    if reach is not None and not remote.is_named(url, reach):
        return _ANONYMOUS.get(protocol, {})
    return {}


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


def read(url: str, reach: Reach | None = None) -> bytes:
    """A file's bytes; arguments as of `locate`, errors as of `open_file`."""
    filesystem, path = locate(url, reach)
    return cast(bytes, _insist(filesystem.cat_file, path))


def size(url: str, reach: Reach | None = None) -> int | None:
    """A file's number of bytes where that is known; arguments as of `locate`, errors as of `open_file`."""
    filesystem, path = locate(url, reach)
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
    except Exception as error:
        if refused := _refusal(error):
            raise refused from error
        if isinstance(error, OSError):
            raise
        raise OSError(f"{type(error).__name__}: {error}") from error


def _refusal(error: BaseException | None) -> remote.RefusedError | None:
    """What stopped a request, out of what the client made of it."""
    while error is not None and not isinstance(error, remote.RefusedError):
        error = error.__cause__
    return error


def _may_pass(error: BaseException) -> bool:
    """Whether it is of a connection or of a server that is busy, not an answer that stays."""
    if _refusal(error) is not None or isinstance(
        error, FileNotFoundError | IsADirectoryError | PermissionError | ValueError
    ):
        return False
    status = getattr(error, "status", None)
    return isinstance(error, Exception) and (status is None or status >= 500 or status == _TOO_MANY_REQUESTS)
