"""Files by fsspec URL."""

from __future__ import annotations

import contextlib
import errno
import functools
import posixpath
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

from mgtool.errors import InputError
from mgtool.files import remote
from mgtool.files.regular import MOST_BYTES
from mgtool.files.retries import retry_after, waiting
from mgtool.records import Reach

ATTEMPTS = 4
FIRST_WAIT_S, LONGEST_RISE_S = 0.2, 3.0
PATIENCE_S, MOST_PATIENCE_S = 25.0, 120.0
"""How long a server that is away is waited for at once, and in all."""
DATA_PATIENCE_S = 30.0
"""After which a host that only data names is not asked once more."""
_TOO_MANY_REQUESTS, _AWAY = 429, (502, 503, 504)
_NETWORK_ERRORS = (
    *("ESTALE", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENETRESET", "ENOTCONN"),
    *("EREMOTEIO", "ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "ESHUTDOWN"),
)
_NETWORK = {getattr(errno, name) for name in _NETWORK_ERRORS if hasattr(errno, name)}
"""What a file system that is a server's says while that is away."""


_VERSIONS = ("ETag", "etag", "blob_id", "Content-MD5", "md5Hash")
_TIMES = ("Last-Modified", "LastModified", "last_modified", "updated", "mtime", "created")

_ANONYMOUS: dict[str, dict[str, Any]] = {"s3": {"anon": True}, "gs": {"token": "anon"}, "hf": {"token": False}}
"""By protocol, what leaves the user's credentials out."""


def locate(url: str, reach: Reach | None = None, most: int = MOST_BYTES) -> tuple[Any, str]:
    """The file system of a path or URL, and its path there.

    Args:
        url: of the user, or of data and allowed there.
        reach: where one of data may lead; None for the user's.
        most: bytes of an answer over HTTP.

    Raises:
        InputError: a protocol that nothing knows, or whose package is not installed.
    """
    import fsspec  # its asyncio takes longer to load than all else here

    try:
        found: tuple[Any, str] = fsspec.url_to_fs(url, **_options(url, reach, most))
    except (ImportError, ValueError) as error:
        raise InputError(f"{url}: {error}") from error
    return found


def _options(url: str, reach: Reach | None, most: int) -> dict[str, Any]:
    protocol = url.partition("://")[0]
    if protocol in ("http", "https") and "::" not in url:
        from mgtool.files.http_client import Client

        return {"get_client": Client(reach or remote.reach_of([url], ()), of_user=reach is None, most=most)}
    if reach is not None and not remote.is_named(url, reach):
        return _ANONYMOUS.get(protocol, {})
    return {}


def is_folder(url: str) -> bool:
    """Whether files are listed there; errors as `open_file`."""
    filesystem, path = locate(url)
    return bool(_insist(_server(url), filesystem.isdir, path))


def open_file(url: str) -> IO[bytes]:
    """A file for reading, part by part.

    Raises:
        InputError: as `locate`.
        OSError: what its server or file system says.
    """
    filesystem, path = locate(url)
    file = _insist(_server(url), filesystem.open, path, "rb")
    if (cache := getattr(file, "cache", None)) is not None and hasattr(cache, "fetcher"):
        cache.fetcher = functools.partial(_insist, _server(url), cache.fetcher)  # each part as patiently as the first
    return cast("IO[bytes]", file)


def read(url: str, reach: Reach | None = None, most: int = MOST_BYTES) -> bytes:
    """A file's bytes; arguments as of `locate`, errors as of `open_file`."""
    filesystem, path = locate(url, reach, most)
    return cast(bytes, _insist(_server(url, reach), filesystem.cat_file, path))


def read_range(url: str, begin: int, end: int) -> bytes:
    """Some of a file's bytes, in one request; errors as of `open_file`."""
    filesystem, path = locate(url)
    data = cast(bytes, _insist(_server(url), filesystem.cat_file, path, start=begin, end=end))
    return data if len(data) <= end - begin else data[begin:end]  # of a server that knows no ranges


def size(url: str, reach: Reach | None = None) -> int | None:
    """A file's number of bytes where that is known; arguments as of `locate`, errors as of `open_file`."""
    filesystem, path = locate(url, reach)
    return cast("int | None", _insist(_server(url, reach), filesystem.size, path))


def refuse_barred(url: str) -> None:
    """Raise an `OSError` where this process may not look at a file or folder of a store; it need not be there."""
    filesystem, path = locate(url)
    with contextlib.suppress(FileNotFoundError):
        _insist(_server(url), filesystem.info, path)


def version(url: str) -> str:
    """What tells a file's content from another under its name, without reading it; of a folder that of its listing.

    Returns:
        Its ETag, or its size and time of change as far as they are told; empty where the server has no such file.

    Raises:
        InputError: as `locate`.
        OSError: it cannot be asked.
    """
    filesystem, path = locate(url)
    try:
        about = _insist(_server(url), filesystem.info, path)
    except FileNotFoundError:
        return ""
    is_file = bool(posixpath.splitext(path.partition("?")[0])[1])
    if about.get("type") != "directory" and (found := _version(about, is_file=is_file)):
        return found
    if is_file or not is_folder(url):  # which may be to read a file whole
        return ""
    listed = _insist(_server(url), filesystem.find, path, detail=True)
    return "\n".join(f"{name}\0{_version(listed[name])}" for name in sorted(listed))


def _version(about: Mapping[str, Any], *, is_file: bool = True) -> str:
    for name in _VERSIONS:
        if about.get(name):
            return str(about[name])
    times = [str(about[name]) for name in _TIMES if about.get(name)]
    size = about.get("size")
    return " ".join([str(size), *times[:1]]) if size is not None and (times or is_file) else ""


def fetch(url: str, to: Path) -> None:
    """Copy a file or folder; errors as `open_file`."""
    filesystem, path = locate(url)
    _insist(_server(url), filesystem.get, path, str(to), recursive=is_folder(url))


class UnreachableError(OSError):
    """A server that did not answer, or was too busy to: another time it may."""


def is_of_network(error: BaseException) -> bool:
    """Whether an error of a file is one of the way to it.

    >>> is_of_network(OSError(errno.ESTALE, "stale")), is_of_network(OSError(errno.EACCES, "no"))
    (True, False)
    """
    return isinstance(error, UnreachableError) or (isinstance(error, OSError) and error.errno in _NETWORK)


def unread(url: str, error: Exception) -> InputError:
    """What to raise where an input could not be read as a whole: whether its server was away is said."""
    return InputError(f"{url}: cannot be {'reached' if is_of_network(error) else 'read'}: {error}")


class _Patience:
    """How long one call goes on: some attempts, and more where the server is away altogether.

    Args:
        server: its host; empty for one of data's, of which many may be gone for ever.
    """

    _spent: Counter[str] = Counter()  # noqa: RUF012 - by server, of this process

    def __init__(self, server: str) -> None:
        self._server, self._began = server, time.monotonic()

    def is_over(self, state: Any) -> bool:
        """Whether this attempt was the last; asked after each."""
        waited = time.monotonic() - self._began
        if not self._server and waited > DATA_PATIENCE_S:
            return True
        if state.attempt_number < ATTEMPTS:
            return False
        is_away = _is_away(state.outcome.exception())
        if self._server and is_away and waited < PATIENCE_S and self._spent[self._server] + waited < MOST_PATIENCE_S:
            return False
        self._spent[self._server] += int(waited)
        return True


def _insist(server: str, call: Any, *args: Any, **options: Any) -> Any:
    """Call again where an error may pass; what is no `OSError` becomes one. `server` as of `_Patience`."""
    import tenacity

    rising = tenacity.wait_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_RISE_S)
    retrying = tenacity.Retrying(
        stop=_Patience(server).is_over,
        wait=waiting(rising, lambda error: retry_after(getattr(error, "headers", None))),
        retry=tenacity.retry_if_exception(_may_pass),
        reraise=True,
    )
    try:
        return retrying(call, *args, **options)
    except Exception as error:
        if refused := _refusal(error):
            raise refused from error
        if _may_pass(error):
            raise UnreachableError(f"{type(error).__name__}: {error}") from error
        if isinstance(error, OSError):
            raise
        raise OSError(f"{type(error).__name__}: {error}") from error


def _server(url: str, reach: Reach | None = None) -> str:
    """The host or bucket of a URL that the user has named; else empty."""
    return "/".join(url.split("/")[:3]) if reach is None or remote.is_named(url, reach) else ""


def _is_away(error: BaseException) -> bool:
    """Whether a server itself is out of order, and not what was asked of it."""
    error = _underlying(error)
    status = _status(error)
    return (status in _AWAY) if status is not None else isinstance(error, OSError)


def _refusal(error: BaseException | None) -> remote.RefusedError | None:
    """What stopped a request, out of what the client made of it."""
    while error is not None and not isinstance(error, remote.RefusedError):
        error = error.__cause__
    return error


def _may_pass(error: BaseException) -> bool:
    """Whether it is of a connection or of a server that is busy, not an answer that stays."""
    error = _underlying(error)
    if (
        _refusal(error) is not None
        or _is_of_tls(error)
        or isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError | ValueError)
    ):
        return False
    status = _status(error)
    return isinstance(error, Exception) and (status is None or status >= 500 or status == _TOO_MANY_REQUESTS)


def _underlying(error: BaseException) -> BaseException:
    """What a client has made a missing file of, though its server said something else, or nothing."""
    cause = error.__cause__
    is_told = _status(cause) is not None or (isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError))
    return cause if isinstance(error, FileNotFoundError) and cause is not None and is_told else error


def _status(error: BaseException | None) -> int | None:
    """The status with which a server answered, where the client of one or of another kind keeps it."""
    status: int | None = getattr(error, "status", None)
    return getattr(getattr(error, "response", None), "status_code", None) if status is None else status


def _is_of_tls(error: BaseException) -> bool:
    """Whether a server speaks no TLS, or shows a certificate that is not trusted: it will tomorrow."""
    import ssl

    said = (error, getattr(error, "os_error", None), getattr(error, "certificate_error", None))
    return any(isinstance(one, ssl.SSLError) for one in said)
