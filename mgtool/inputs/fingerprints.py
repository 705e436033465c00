"""What identifies an input: cheap for folders of millions, and the same wherever a copy lies."""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from mgtool.files import urls
from mgtool.files.folder_tree import of_readable_depth
from mgtool.records import Failure
from mgtool.tars import paths

HASHED_WHOLE = 1 << 28
"""Files up to this many bytes are hashed whole, larger ones by their size and both ends."""

_END = 1 << 20


def fingerprint(
    given: str, listed: Callable[[Path], Iterable[Path | Failure]] | None = None, *, whole: bool = False
) -> str:
    """An input's name with a hash: of files' content, of a folder's names and sizes; pipes by name alone.

    Of a URL the ETag, or size and time of change, stand for the content; by name alone where its server tells neither.

    Args:
        given: path, URL, pattern or ``-``.
        listed: gives the files of a folder that count, for instance `sources.files`; all of them where it is None.
        whole: the content of a folder's files counts, too: for folders of few files.

    Raises:
        InputError: a URL whose server cannot be asked.
    """
    path, digest = Path(given), hashlib.sha256()
    if given == "-":
        return given
    if "://" in given:
        return _of_url(given)
    if path.is_dir():
        for file in (listed or _all_files)(path):
            if isinstance(file, Path):
                size = file.stat().st_size if file.exists() else -1
                digest.update(f"{file.relative_to(path).as_posix()}\0{size}\n".encode("utf-8", "surrogateescape"))
                if whole and file.is_file():
                    _update(digest, file)
        return f"{path.name} sha256:{digest.hexdigest()[:16]}"
    files = [path] if path.is_file() else [tar for tar in map(Path, paths.expand(given) or ()) if tar.is_file()]
    for file in files:
        _update(digest, file)
    return f"{path.name} sha256:{digest.hexdigest()[:16]}" if files else given


def changed(
    inputs: Iterable[str], before: Iterable[str], listed: Callable[[Path], Iterable[Path | Failure]]
) -> Iterator[str]:
    """The folders among inputs whose files are others, or of other sizes, than they were by their fingerprints."""
    for given, known in zip(inputs, before, strict=True):
        if "://" not in given and Path(given).is_dir() and _hash_of(fingerprint(given, listed)) != _hash_of(known):
            yield given


def _hash_of(identity: str) -> str:
    """Of a fingerprint, whose name a record may hold with escapes."""
    return identity.rpartition(":")[2]


def _of_url(given: str) -> str:
    try:
        versions = [urls.version(one) for one in paths.expand(given) or [given]]
    except (OSError, ValueError) as error:
        raise urls.unread(given, error) from error
    if not all(versions):
        return given
    name = posixpath.basename(given.partition("?")[0].rstrip("/"))
    return f"{name} sha256:{hashlib.sha256(chr(0).join(versions).encode()).hexdigest()[:16]}"


def _all_files(folder: Path) -> Iterable[Path]:
    with of_readable_depth(folder):
        for parent, names, files in os.walk(folder):
            names.sort()
            yield from (Path(parent) / name for name in sorted(files))


def _update(digest: hashlib._Hash, path: Path) -> None:
    size = path.stat().st_size
    digest.update(f"{size}\n".encode())
    with path.open("rb") as file:
        if size > HASHED_WHOLE:
            digest.update(file.read(_END))
            file.seek(-_END, os.SEEK_END)
        while block := file.read(_END):
            digest.update(block)


class HashedStdin:
    """Stdin, hashed while it is read: a pipe has no name that would tell whether it is the one of an earlier run.

    Attributes:
        file: what ``-`` reads; None where no input is stdin.
    """

    def __init__(self, inputs: Sequence[str]) -> None:
        self._raw = _Hashing(sys.stdin.buffer) if "-" in inputs else None
        self.file: IO[bytes] | None = None if self._raw is None else io.BufferedReader(self._raw, 1 << 16)

    def noted(self) -> dict[str, str]:
        """The entry of ``run.json``, once stdin was read to its end; none where no input is stdin."""
        if self._raw is None:
            return {}
        while self._raw.read(1 << 20):
            pass
        return {"stdin": f"sha256:{self._raw.digest.hexdigest()[:16]}"}


class _Hashing(io.RawIOBase):
    def __init__(self, file: Any) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = int(self._file.readinto1(buffer))
        self.digest.update(memoryview(buffer)[:count])
        return count
