"""A tar that is written member by member, hashed on the way, and the same wherever and whenever it is made.

By hand, as `tarfile` and webdataset write the same bytes, but need six times as long for small members.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Mapping
from typing import IO

from mgtool.errors import ItemError
from mgtool.files.hashing import ThreadedHash

MAX_MEMBER_BYTES = 8**11 - 1
"""Largest member that USTAR can name."""

_BLOCK = tarfile.BLOCKSIZE
_NAME_BYTES, _SIZE_AT, _SUM_AT = 100, 124, 148
_SMALL = 1 << 16
"""Members under this many bytes are joined with what stands around them before they are hashed and written."""

_JOINED_BYTES = 1 << 18
"""About as many bytes are joined."""

_SENT_BYTES = 1 << 24
"""Bytes after which the system is told to begin writing."""

_PADDING = bytes(tarfile.RECORDSIZE)


def _template() -> bytes:
    """A header without name and size, its checksum counted as blanks; no time, owner or host."""
    info = tarfile.TarInfo("")
    info.mode = 0o644
    block = info.tobuf(tarfile.USTAR_FORMAT)
    return block[:_SUM_AT] + b" " * 8 + block[_SUM_AT + 8 :]


_TEMPLATE = _template()
_AFTER_NAME, _AFTER_SIZE, _AFTER_SUM = (
    _TEMPLATE[_NAME_BYTES:_SIZE_AT],
    _TEMPLATE[_SIZE_AT + 12 : _SUM_AT],
    _TEMPLATE[_SUM_AT + 8 :],
)
_FIXED_SUM = sum(_AFTER_NAME + _AFTER_SIZE + _AFTER_SUM) + 8 * ord(" ")


class TarWriter:
    """Writes a USTAR file to a stream; memory holds one sample, and small ones that wait to be written together.

    Args:
        file: the stream.
        is_hashed: whether anybody asks for the hashes.

    Attributes:
        bytes: added so far.
        sha256, md5: of the finished tar, hexadecimal.
    """

    def __init__(self, file: IO[bytes], *, is_hashed: bool = True) -> None:
        self._file, self._is_hashed = file, is_hashed
        self._ahead = _write_behind(file)
        self._sent = 0
        self._sha256, self._md5 = ThreadedHash("sha256"), ThreadedHash("md5")
        self._waiting: list[bytes] = []
        self._written = 0
        self.bytes = 0

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        return self._md5.hexdigest()

    def add(self, key: str, parts: Mapping[str, bytes]) -> None:
        """Write the members of a sample, ``KEY.PART``, in the order of their names; all of them or, failing, none.

        Raises:
            ItemError: as `header`.
        """
        members = [(header(f"{key}.{part}", len(parts[part])), parts[part]) for part in sorted(parts)]
        for start, data in members:
            self._join(start)
            if len(data) < _SMALL:
                self._join(data)
            else:
                self._write_waiting()
                self._write(data)
                self.bytes += len(data)
            self._join(_PADDING[: -len(data) % _BLOCK])
        if self.bytes - self._written >= _JOINED_BYTES:
            self._write_waiting()

    def finish(self) -> None:
        """Write the end of the tar."""
        size = self.bytes + 2 * _BLOCK
        self._join(_PADDING[: 2 * _BLOCK])
        self._join(_PADDING[: -size % tarfile.RECORDSIZE])
        self._write_waiting()

    def _join(self, data: bytes) -> None:
        self._waiting.append(data)
        self.bytes += len(data)

    def _write_waiting(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._write(data)

    def _write(self, data: bytes) -> None:
        if self._is_hashed:
            self._sha256.update(data)
            self._md5.update(data)
        self._file.write(data)
        if self._ahead is not None and self._written - self._sent >= _SENT_BYTES:
            self._ahead(self._sent, self._written - self._sent)
            self._sent = self._written
        self._written += len(data)


def _write_behind(file: IO[bytes]) -> Callable[[int, int], None] | None:
    """How the system is told to begin with putting a range of a file on disk, so that the end need not wait for all."""
    if not hasattr(os, "posix_fadvise"):
        return None
    try:
        handle = file.fileno()
        os.posix_fadvise(handle, 0, 1, os.POSIX_FADV_DONTNEED)
    except OSError:
        return None
    return lambda offset, length: os.posix_fadvise(handle, offset, length, os.POSIX_FADV_DONTNEED)


def header(name: str, size: int) -> bytes:
    """The 512 bytes before a member.

    Raises:
        ItemError: ``unsupported`` for a name or size that USTAR does not hold.
    """
    encoded = name.encode()
    if len(encoded) > _NAME_BYTES or size > MAX_MEMBER_BYTES:
        raise ItemError("unsupported", f"{name}: {size:,} bytes; a tar holds members of up to {MAX_MEMBER_BYTES:,}")
    octal = b"%011o\0" % size
    checksum = b"%06o\0 " % (sum(encoded) + sum(octal) + _FIXED_SUM)
    return encoded.ljust(_NAME_BYTES, b"\0") + _AFTER_NAME + octal + _AFTER_SIZE + checksum + _AFTER_SUM
