"""Files of an object store, whole or absent: S3, Google Cloud Storage and Azure, by obstore."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mgtool.errors import OutputError, UsageError, without_secrets
from mgtool.files.no_links import open_own

SCHEMES = ("s3", "gs", "az")
_URL = re.compile(rf"(?:{'|'.join(SCHEMES)})://[^/\s]+(?:/.*)?", re.DOTALL)
_INSTALL = "writing there needs obstore: pip install 'mgtool[store]'"
PATIENCE_S, FIRST_PATIENCE_S = 90.0, 10.0
"""How long a store that is away is waited for, and one that has not answered yet."""
_STATUS, _PASSING, _EXPIRED = (
    re.compile(r"status code: (\d+)"),
    ("408", "429", "500", "502", "503", "504"),
    "NoSuchUpload",
)
_NO_BUCKET = "NoSuchBucket"
_PART_BYTES = 16 << 20
T = TypeVar("T")


def is_store(target: str | Path) -> bool:
    """Whether an output lies in a store.

    >>> is_store("s3://bucket/boxes"), is_store("https://example.org/boxes"), is_store("boxes")
    (True, False, False)
    """
    return _URL.fullmatch(str(target)) is not None


@dataclass(frozen=True)
class StoredFile:
    """What a store says of a file.

    Attributes:
        size: bytes.
        tag: another one where the content is another.
        modified: seconds since 1970, by the store's clock.
    """

    size: int
    tag: str
    modified: float


class Store:
    """The files below a URL; credentials and endpoint are those of the environment, as the clouds' own tools know them.

    Args:
        url: a bucket and a path.

    Raises:
        UsageError: obstore is not installed, or the URL is none.
    """

    def __init__(self, url: str) -> None:
        try:
            from obstore.store import from_url
        except ImportError as error:
            raise UsageError("out", f"{url}: {_INSTALL}") from error
        self.url, self._has_answered = url.rstrip("/"), False
        options: dict[str, Any] = {"client_options": {"allow_http": _is_plain()}}
        if self.url.startswith("s3:") and (provider := _profile()) is not None:
            options["credential_provider"] = provider
        try:
            self._store: Any = from_url(self.url, **options)
        except Exception as error:  # of several kinds that have no common one
            raise UsageError("out", f"{url}: {_reason(error, self.url)}") from error

    def files(self) -> dict[str, StoredFile]:
        """All files, by their names below the URL: one listing."""
        import obstore

        def listed() -> dict[str, StoredFile]:
            entries = (one for page in obstore.list(self._store, chunk_size=1000) for one in page)
            return {str(one["path"]): _file(one) for one in entries}

        return self._insist("", listed)

    def about(self, name: str) -> StoredFile | None:
        """A file; None without one."""
        import obstore

        return self._insist(name, lambda: _unless_absent(lambda: _file(obstore.head(self._store, name))))

    def read(self, name: str) -> tuple[bytes, str] | None:
        """A small file's content and tag; None without one."""
        import obstore

        def whole() -> tuple[bytes, str]:
            found = obstore.get(self._store, name)
            return bytes(found.bytes()), str(found.meta["e_tag"])

        return self._insist(name, lambda: _unless_absent(whole))

    def fetch(self, name: str, path: Path) -> bool:
        """Copy a file here, in parts; whether it is there."""
        import obstore

        def copied() -> bool:
            found = obstore.get(self._store, name)
            with os.fdopen(open_own(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
                for part in found.stream():
                    file.write(part)
            return True

        return bool(self._insist(name, lambda: _unless_absent(copied)))

    def put(self, name: str, content: bytes | Path) -> str:
        """Write a file, in several parts side by side where it is large; gives its tag."""
        import obstore

        return str(self._insist(name, lambda: obstore.put(self._store, name, content, chunk_size=_PART_BYTES))["e_tag"])

    def put_if(self, name: str, content: bytes, tag: str | None) -> str | None:
        """Write a small file where it has this tag, or is absent (None): gives its new tag, or None."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create" if tag is None else {"e_tag": tag}

        def put() -> str | None:
            try:
                return str(obstore.put(self._store, name, content, mode=mode, use_multipart=False)["e_tag"])
            except (AlreadyExistsError, FileNotFoundError, PreconditionError) as error:
                if _NO_BUCKET in str(error):
                    raise
                there = self.read(name)  # an answer that was lost on its way: asked again, our own file was there
                return there[1] if there is not None and there[0] == content else None

        return self._insist(name, put)

    def remove(self, names: list[str]) -> None:
        """Remove files that may not be there."""
        import obstore

        if names:
            self._insist(names[0], lambda: _unless_absent(lambda: obstore.delete(self._store, names)))

    def _insist(self, name: str, call: Callable[[], T]) -> T:
        """Call again where an error may pass, beyond what the client does itself; one that stays becomes one line."""
        import tenacity

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(PATIENCE_S if self._has_answered else FIRST_PATIENCE_S),
            wait=tenacity.wait_exponential(multiplier=0.2, max=3.0),
            retry=tenacity.retry_if_exception(_may_pass),
            reraise=True,
        )
        try:
            found = retrying(call)
            self._has_answered = True
            return found
        except OutputError:
            raise
        except Exception as error:  # of several kinds that have no common one
            where = f"{self.url}/{name}" if name else self.url
            raise OutputError(f"{where}: {_reason(error, self.url)}; the same command goes on from here") from error


def _may_pass(error: BaseException) -> bool:
    """Whether it is of the way to the store, as an answer that broke off, or an upload in parts that expired."""
    from obstore.exceptions import GenericError

    said = _STATUS.search(str(error))
    return isinstance(error, GenericError) and (said is None or said[1] in _PASSING or _EXPIRED in str(error))


def _unless_absent(call: Callable[[], T]) -> T | None:
    try:
        return call()
    except FileNotFoundError as error:
        if _NO_BUCKET in str(error):
            raise
        return None


_ENDPOINTS = (
    *("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    *("AZURE_STORAGE_ENDPOINT", "AZURITE_BLOB_STORAGE_URL"),
)


def _is_plain() -> bool:
    """Whether the environment names a server without TLS."""
    return next(filter(None, map(os.environ.get, _ENDPOINTS)), "").startswith("http://")


def _profile() -> Any:
    """Credentials as boto3 finds them in ``~/.aws``, where the environment has none."""
    if "AWS_ACCESS_KEY_ID" in os.environ:
        return None
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return None
    session = boto3.Session()
    return None if session.get_credentials() is None else Boto3CredentialProvider(session)


def bare(tag: str) -> str:
    """A tag without the quotes that some answers of a store have and others have not."""
    return tag.strip('"')


def _file(about: Any) -> StoredFile:
    return StoredFile(int(about["size"]), bare(str(about["e_tag"])), about["last_modified"].timestamp())


_NODE_SERVICE = "://169.254."
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION; those of ~/.aws are found once boto3 is installed",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_CODE = re.compile(r"<Code>([^<]+)</Code>.*?(?:<Message>([^<]+)</Message>)?", re.DOTALL)


def _reason(error: Exception, url: str) -> str:
    """The server's own words where it has some, in one line."""
    text = str(error).partition("\n\nDebug source")[0]
    if _NODE_SERVICE in text:
        scheme = url.partition(":")[0]
        return f"no credentials are known: set {_CREDENTIALS[scheme]}"
    said = _CODE.search(text)
    if said is not None:
        return without_secrets(": ".join(filter(None, said.groups())))
    return without_secrets(" ".join(text.split())[:300])
