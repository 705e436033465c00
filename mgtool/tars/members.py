"""A tar's members, read once from front to back; nothing is extracted, linked or followed.

By hand, as `tarfile` and webdataset take a tar cut between members for whole, unpack a sparse member to any size, and
need four times as long for small members.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, NamedTuple

from mgtool.errors import ItemError
from mgtool.records import name_text

MAX_MEMBER_BYTES = 1 << 32
"""Largest member that is read; a small compressed file can unpack to any size."""

_MOST_EXTENDED = 1 << 22
"""Bytes of a header that extends another: names, attributes and the like."""
_MOST_TIMES, _UNPACKED_BYTES = 250, 1 << 28
"""How many times its packed bytes a tar may unpack to, once it is larger than this; zeros pack a thousand times."""

_BLOCK = 512
_MAGIC = slice(257, 262)
_CHUNK = 1 << 24
_ADLER_BASE = 65521
_REGULAR = (b"0", b"\0")
_DECOMPRESSORS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
_DECOMPRESSION_ERRORS = (OSError, zlib.error, lzma.LZMAError, ValueError)
_OTHER_COMPRESSION = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"LZIP": "lzip",
    b"\x1f\x9d": "compress",
    b"PK\x03\x04": "zip",
}
"""Beginnings of files that no tar begins with."""

SPARSE = "sparse file"
_KINDS = {
    **dict.fromkeys((b"0", b"\0", b"7"), "file"),
    b"1": "hard link",
    b"2": "symbolic link",
    **dict.fromkeys((b"3", b"4"), "device"),
    b"5": "folder",
    b"6": "pipe",
    b"S": SPARSE,
    b"V": "volume label",
    b"M": "part of another volume",
    **dict.fromkeys((b"D", b"N"), "folder's list"),
}
"""Other types are files, as POSIX says."""
_WITH_DATA = (b"D", b"N", b"M")
_CONTINUED, _CONTINUED_LATER = 482, 504
"""Bytes of GNU's sparse headers that say whether another block of the map follows."""

_PAX_RECORD = re.compile(rb"(\d{1,19}) ([^=\n]+)=")


class Member(NamedTuple):
    """One member.

    Attributes:
        name: as it stands in the tar, bytes that are no UTF-8 as escapes; never to be used as a path.
        kind: ``file``, or what it is instead: ``folder``, ``symbolic link``, ``hard link``, ``device``, ``pipe``, ...
        offset: of its first header block in the (unpacked) tar.
        end: offset behind its padded data.
        data: of a file.
    """

    name: str
    kind: str
    offset: int
    end: int
    data: bytes


class _Header(NamedTuple):
    name: str
    type: bytes
    size: int
    is_continued: bool = False


def looks_like_tar(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a tar (not compressed), also one of the form before POSIX."""
    if head[_MAGIC] == b"ustar":
        return True
    block = head[:_BLOCK]
    if len(block) < _BLOCK or not block[0]:
        return False
    try:
        return bool(_parse(block).name)
    except ItemError:
        return False


def is_packed(head: bytes) -> bool:
    """Whether a file that begins with these bytes is compressed in one of the ways that `read_members` understands."""
    return head.startswith(tuple(_DECOMPRESSORS))


def read_members(
    file: IO[bytes],
    *,
    offset: int = 0,
    skip: Callable[[str], bool] | None = None,
    behind: Callable[[int], None] | None = None,
) -> Iterator[Member]:
    """The members in order; gzip, bzip2 and xz are understood.

    Args:
        file: the tar's bytes; only `read` is called.
        offset: where `file` stands in the tar, for the members' offsets.
        skip: names whose bytes are not wanted; their data is empty. Needs a file that seeks.
        behind: told how many bytes of another tar stand behind the end, as of tars joined by `cat`.

    Raises:
        ItemError: ``empty``, ``truncated`` (the tar's end is missing), or ``unreadable``.
    """
    reader = _BlockReader(file, offset)
    if not reader.peek():
        raise ItemError("empty", "0 bytes")
    begin, longer = offset, dict[str, Any]()
    while (header := reader.header()) is not None:
        if header.type in (b"x", b"g", b"L", b"K"):
            if header.size > _MOST_EXTENDED:
                raise ItemError("unreadable", f"an extended header of {header.size:,} bytes")
            extra = reader.data(header.size)
            if header.type != b"g":
                longer |= _extended(header.type, extra)
            continue
        kind = SPARSE if longer.get("sparse") else _KINDS.get(header.type, "file")
        has_data = kind in ("file", SPARSE) or header.type in _WITH_DATA
        name, size = longer.get("path", header.name), int(longer.get("size", header.size)) if has_data else 0
        if header.type == b"S":
            reader.pass_sparse_maps(header.is_continued)
        data = b"" if skip is not None and reader.skipped(name, size, skip) else reader.data(size)
        data = data if kind == "file" else b""
        yield Member(name_text(name), kind, begin, reader.offset, data)
        begin, longer = reader.offset, {}
    left = reader.drain()
    if left and behind is not None:
        behind(left)


class _BlockReader:
    """Exact reads of a stream, unpacked where it is compressed."""

    def __init__(self, file: IO[bytes], offset: int) -> None:
        self._ahead = _read_fully(file, _BLOCK)
        self._file: Any = file
        self.offset = offset
        for magic, name in _OTHER_COMPRESSION.items():
            if self._ahead.startswith(magic):
                raise ItemError("unsupported", f"compressed with {name}; gzip, bzip2 and xz are read: unpack it first")
        for magic, unpack in _DECOMPRESSORS.items():
            if self._ahead.startswith(magic):
                self._file = _Unpacked(unpack, _Rejoined(self._ahead, file))
                self._ahead = b""

    def peek(self) -> bytes:
        """The first block."""
        self._ahead = self._ahead or self._read(_BLOCK)
        return self._ahead

    def header(self) -> _Header | None:
        """The next header; None at the end of the tar."""
        block = self._ahead or self._read(_BLOCK)
        self._ahead = b""
        if len(block) < _BLOCK:
            raise ItemError("truncated" if not block or self.offset else "unreadable", "unexpected end of data")
        self.offset += _BLOCK
        return _parse(block) if any(block[:_BLOCK]) else None

    def data(self, size: int) -> bytes:
        """A member's bytes; its padding is read over."""
        _refuse_odd(size)
        data = self._read(size)
        padding = -size % _BLOCK
        if len(data) < size or len(self._read(padding)) < padding:
            raise ItemError("truncated", "unexpected end of data")
        self.offset += size + padding
        return data

    def skipped(self, name: str, size: int, skip: Callable[[str], bool]) -> bool:
        """Whether a member's bytes were passed over; the last byte is read, so that a cut tar is noticed."""
        _refuse_odd(size)
        padded = size + -size % _BLOCK
        if not size or not skip(name):
            return False
        self._file.seek(padded - 1, 1)
        if len(self._read(1)) < 1:
            raise ItemError("truncated", "unexpected end of data")
        self.offset += padded
        return True

    def pass_sparse_maps(self, is_continued: bool) -> None:
        """Go past the blocks between a sparse file's header and its data."""
        while is_continued:
            is_continued = bool(self.data(_BLOCK)[_CONTINUED_LATER])

    def drain(self) -> int:
        """Read on to the end: whoever writes into a pipe wants it, and checksums stand there.

        Gives the number of bytes from where another tar begins; 0 where none does.
        """
        count, is_empty = 0, True
        while data := self._read(_CHUNK):
            if is_empty and (rest := data.lstrip(b"\0")):
                begin = (len(data) - len(rest)) // _BLOCK * _BLOCK
                is_empty, count = False, len(data) - begin if looks_like_tar(data[begin : begin + _BLOCK]) else 0
            elif count:
                count += len(data)
        return count

    def _read(self, size: int) -> bytes:
        try:
            return _read_fully(self._file, size)
        except EOFError as error:
            raise ItemError("truncated", str(error)) from error
        except _DECOMPRESSION_ERRORS as error:
            raise ItemError("unreadable", str(error)) from error


class _Rejoined:
    """A stream with the bytes in front that were read from it before; `count` is of all that were read."""

    def __init__(self, head: bytes, file: IO[bytes]) -> None:
        self._head, self._file, self.count = head, file, 0

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            data = self._file.read(size)
        else:
            data, self._head = (self._head, b"") if size < 0 else (self._head[:size], self._head[size:])
            data = data + self._file.read() if size < 0 else data
        self.count += len(data)
        return data


class _Unpacked:
    """A packed stream, as far as it unpacks to what files hold."""

    def __init__(self, unpack: Callable[[Any], Any], packed: _Rejoined) -> None:
        self._file, self._packed, self._count = unpack(packed), packed, 0

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(size)
        self._count += len(data)
        if self._count > max(_UNPACKED_BYTES, _MOST_TIMES * self._packed.count):
            raise OSError(f"{self._packed.count:,} packed bytes that unpack to {self._count:,}, and perhaps more")
        return data


def _read_fully(file: Any, size: int) -> bytes:
    """As many bytes as there are up to `size`, in steps, so that a false size reserves no memory."""
    data: bytes = file.read(min(_CHUNK, size))
    if len(data) == size or not data:
        return data
    whole, missing = io.BytesIO(), size - len(data)  # which grows in place, and gives what it has without a copy
    whole.write(data)
    while missing and (part := file.read(min(missing, _CHUNK))):
        whole.write(part)
        missing -= len(part)
    return whole.getvalue()


def _parse(block: bytes) -> _Header:
    try:
        stored = block[148:156]
        total = int(stored.rstrip(b" \0"), 8) + sum(stored) - 8 * 32
        if zlib.adler32(block) & 0xFFFF != (total + 1) % _ADLER_BASE:  # the sum of all bytes, much faster than `sum`
            raise ItemError("unreadable", "a header with a wrong checksum")
        kind = block[156:157]
        if kind in _REGULAR and block[_MAGIC] == b"ustar" and not block[345] and block[124] < 0x80:
            name = block[:100].split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
            return _Header(name, kind, int(block[124:136].rstrip(b" \0"), 8))
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        raise ItemError("unreadable", f"not a tar, or a broken one: {error}") from error
    return _Header(info.name, info.type, info.size, bool(block[_CONTINUED]))


def _extended(kind: bytes, data: bytes) -> Mapping[str, Any]:
    """What an extended header says about the next member: its `path` and `size`."""
    if kind in (b"L", b"K"):
        return {"path": data.rstrip(b"\0").decode("utf-8", "surrogateescape")} if kind == b"L" else {}
    found: dict[str, Any] = {}
    at, sparse_name = 0, ""
    while match := _PAX_RECORD.match(data, at):
        key, value = match[2], data[match.end() : at + int(match[1]) - 1]
        if key == b"path":
            found["path"] = value.decode("utf-8", "surrogateescape")
        elif key == b"size" and value.isdigit():
            found["size"] = int(value)
        elif key.startswith(b"GNU.sparse."):
            found["sparse"] = True
            if key == b"GNU.sparse.name":
                sparse_name = value.decode("utf-8", "surrogateescape")
        at += max(int(match[1]), 1)
    return found | ({"path": sparse_name} if sparse_name else {})


def _refuse_odd(size: int) -> None:
    if not 0 <= size <= MAX_MEMBER_BYTES:
        raise ItemError("unreadable", f"a member of {size:,} bytes")
