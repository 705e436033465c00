"""An append-only file of JSON lines that survives being killed at any byte."""

from __future__ import annotations

import errno
import io
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from mgtool.errors import RecordError, ResumeError
from mgtool.files.atomic import remove, sync_folder, write_bytes, writing
from mgtool.files.no_links import cut, open_own
from mgtool.records import dumps, parse

T = TypeVar("T")
_WAY_OUT = "choose another `out` or add `overwrite`"


class Journal:
    """An append-only file of JSON lines that survives being killed at any byte.

    A torn last line is cut off when the journal is opened again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: io.FileIO | None = None

    def read(self, type: type[T]) -> Iterator[T]:
        """The records that are whole, in order; cuts off a torn tail.

        Raises:
            ResumeError: there are other records, or no file.
        """
        if not self.path.exists():
            return
        whole = 0
        with self._opened() as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                yield self._parsed(line, type, number)
                whole += len(line)
        if whole < self.path.stat().st_size:
            with writing(self.path):
                cut(self.path, whole)

    def _opened(self) -> IO[bytes]:
        try:
            return os.fdopen(open_own(self.path, os.O_RDONLY), "rb")
        except OSError as error:
            way_out = "" if error.errno == errno.ELOOP else f": {_WAY_OUT}"
            raise ResumeError(f"{self.path}: cannot be read: {error.strerror}{way_out}") from error

    def _parsed(self, line: bytes, type: type[T], number: int) -> T:
        try:
            return parse(line, type, where=f"{self.path}:{number}")
        except (RecordError, RecursionError) as error:
            what = "nested too deeply" if isinstance(error, RecursionError) else str(error).partition(": ")[2]
            raise ResumeError(f"{self.path}:{number}: of another kind: {what}: {_WAY_OUT}") from error

    def append(self, record: Any) -> None:
        """Write one record and hand it to the operating system.

        Raises:
            OutputError: when the disk is full or the folder cannot be written.
        """
        with writing(self.path):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                handle = open_own(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                self._file = io.FileIO(handle, "a")  # of what a full disk refuses, nothing waits here
            left = memoryview(dumps(record) + b"\n")
            while left:
                left = left[self._file.write(left) :]

    def keep(self, count: int) -> None:
        """Cut off what comes after the first `count` records; errors as of `append`."""
        if self.path.exists():
            with self._opened() as file:
                whole = sum(len(line) for line in itertools.islice(file, count))
            with writing(self.path):
                cut(self.path, whole)

    def close(self) -> None:
        """Put everything on disk and close; errors as of `append`."""
        file, self._file = self._file, None
        if file is not None:
            with writing(self.path), file:
                os.fsync(file.fileno())

    def publish(self, path: Path) -> None:
        """Close, and give the complete file its final name; errors as of `append`."""
        if self._file is None and not self.path.exists():
            write_bytes(path, b"")
            return
        self.close()
        with writing(path):
            self.path.replace(path)
            sync_folder(path.parent)

    def remove(self) -> None:
        """Close and delete; errors as of `append`."""
        self.close()
        remove(self.path)
