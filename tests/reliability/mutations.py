"""Broken files out of whole ones: bytes, JSON values, members of archives, each with its checksums mended or not.

By hand: hypothesis makes well-formed values and shrinks them, which costs milliseconds a call, and knows no pictures;
atheris wants the parsers, most of them compiled, built anew to see where they branch.
"""

from __future__ import annotations

import io
import json
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

WORDS = (
    b"[" * 3000,
    b'{"a":' * 600,
    b"null",
    b"NaN",
    b"-1",
    b"0",
    b"1e999",
    b"9" * 5000,
    b"18446744073709551616",
    b'"',
    b"\\",
    b"\\ud800",
    b"\xff",
    b"\xed\xa0\x80",
    b"\0",
    b"\r\n",
    b"\r",
    b"\t",
    b",",
    b"\xef\xbb\xbf",
    b"../" * 8,
    b"/etc/passwd",
    b"https://127.0.0.1/x.jpg",
    b"zip://x::file:///etc/passwd",
    b"\x1b[2J",
    b"=1+1",
    b"{}",
    b"[]",
    b"a" * 70_000,
    b"\n" * 50,
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    2**31,
    2**63,
    2**64,
    -(2**63) - 1,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "0",
    "../x",
    "/etc/passwd",
    "https://a.org/x.jpg",
    "\ud800",
    "\0",
    "\x1b[2J",
    "=1+1",
    "<image>",
    "a" * 70_000,
    [],
    {},
    [[]],
    [None],
    {"": None},
    [1, 2],
    [[0, 0, 1, 1]],
    {"from": "human", "value": 3},
    ["a", ["b"]],
)
_SIZES = (1, 2, 4, 8)


def of_bytes(data: bytes, rng: random.Random) -> bytes:
    """A few changes at random places."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        rng.choice(_CHANGES)(changed, rng)
    return bytes(changed)


def _flip(data: bytearray, rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _number(data: bytearray, rng: random.Random) -> None:
    size = rng.choice(_SIZES)
    if len(data) > size:
        at = rng.randrange(len(data) - size)
        value = rng.choice(
            (0, 1, 0x7F, 0x80, 0xFF, (1 << (8 * size)) - 1, 1 << (8 * size - 1), rng.getrandbits(8 * size))
        )
        data[at : at + size] = (value & ((1 << (8 * size)) - 1)).to_bytes(size, rng.choice(("big", "little")))


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _remove(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.choice((1, 4, 64, 1024))]


def _repeat(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    piece = data[at : at + rng.choice((1, 4, 64, 1024))]
    data[at:at] = piece * rng.choice((1, 2, 50))


def _word(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    word = rng.choice(WORDS)
    data[at : at + rng.choice((0, 0, 1, len(word)))] = word


def _noise(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    data[at : at + rng.choice((0, 16))] = rng.randbytes(rng.choice((1, 16, 256)))


_CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip,
    _flip,
    _number,
    _number,
    _cut,
    _remove,
    _repeat,
    _word,
    _word,
    _noise,
)


def of_json(data: bytes, rng: random.Random) -> bytes:
    """A valid text with some values that nobody expects in their places; JSON lines line by line."""
    try:
        value = json.loads(data)
        return _dumped(_odd(value, rng))
    except RecursionError:
        return of_bytes(data, rng)
    except ValueError:
        lines = data.splitlines()
        place = rng.randrange(len(lines))
        try:
            lines[place] = _dumped(_odd(json.loads(lines[place]), rng))
        except (ValueError, RecursionError):
            return of_bytes(data, rng)
        return b"\n".join(lines)


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def _odd(value: Any, rng: random.Random) -> Any:
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = _put(value, rng)
    return value


def _put(value: Any, rng: random.Random) -> Any:
    """Another value at a random place of a tree."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        kind = rng.random()
        if kind < 0.1:
            return {name: one for name, one in value.items() if name != key}
        if kind < 0.2:
            return {**value, str(rng.choice(VALUES))[:300]: value[key]}
        return {**value, key: _put(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        place = rng.randrange(len(value))
        kind = rng.random()
        if kind < 0.15:
            return value[:place] + value[place + 1 :]
        if kind < 0.25:
            return value + [value[place]] * rng.choice((1, 3, 50))
        return [*value[:place], _put(value[place], rng), *value[place + 1 :]]
    if rng.random() < 0.05:
        for _ in range(rng.choice((90, 120, 900))):
            value = [value]
        return value
    return rng.choice(VALUES)


def of_table(data: bytes, rng: random.Random) -> bytes:
    """A table with odd cells, columns and quotes."""
    rows = [line.split(b"\t" if b"\t" in data else b",") for line in data.split(b"\n")]
    row = rng.choice(rows)
    place = rng.randrange(len(row))
    row[place] = rng.choice((b"", b'"', b'""', b"0", b"-1", b"nan", b"['a'", b"7.0", *WORDS[2:]))
    if rng.random() < 0.2:
        row.insert(place, row[place])
    return b"\n".join((b"\t" if b"\t" in data else b",").join(cells) for cells in rows)


def of_png(data: bytes, rng: random.Random) -> bytes:
    """A PNG whose changed chunks have their checksums again."""
    at, parts = 8, [data[:8]]
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        if rng.random() < 0.4:
            body = body[:4] + of_bytes(body[4:], rng)
        parts.append(struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
    return b"".join(parts)


def of_tar(data: bytes, rng: random.Random) -> bytes:
    """A tar with a changed header that has its checksum again."""
    changed = bytearray(data)
    starts = [at for at in range(0, len(data) - 511, 512) if data[at + 257 : at + 262] == b"ustar"]
    if not starts:
        return of_bytes(data, rng)
    at = rng.choice(starts)
    field, size = rng.choice(((0, 100), (100, 8), (124, 12), (124, 12), (156, 1), (157, 100), (345, 155)))
    value = rng.choice(
        (
            b"\0" * size,
            b"7" * size,
            b"-1",
            b"\x80" + b"\xff" * (size - 1),
            b"\xff" * size,
            rng.randbytes(size),
            rng.choice((b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"L", b"K", b"x", b"g", b"S", b"D")),
            b"../../x.jpg",
            b"/x.json",
            b"\x1b[2J.jpg",
            b"a/" * 40,
            b"\xff\xfe.jpg",
            b".",
            b"x",
            b"x.",
            b"99999999999",
        )
    )
    changed[at + field : at + field + size] = value[:size].ljust(size, b"\0")
    changed[at + 148 : at + 156] = b" " * 8
    changed[at + 148 : at + 156] = b"%06o\0 " % sum(changed[at : at + 512])
    return bytes(changed)


def of_zip(data: bytes, rng: random.Random) -> bytes:
    """An archive one of whose members is changed, before it was packed."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info.filename: (archive.read(info), info.compress_type) for info in archive.infolist()}
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, zlib.error, EOFError):
        return of_bytes(data, rng)
    name = rng.choice(list(members))
    changed = (of_json if name.endswith(".json") else of_bytes)(members[name][0], rng)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for one, (content, packed) in members.items():
            if one == name and rng.random() < 0.1:
                continue
            archive.writestr(zipfile.ZipInfo(one), changed if one == name else content, compress_type=packed)
    return file.getvalue()


def tar_of(members: dict[str, bytes], *, format: int = tarfile.PAX_FORMAT, mode: str = "w") -> bytes:
    """A tar."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=format) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def of_toml(data: bytes, rng: random.Random) -> bytes:
    """A file of options, one or two of which have other values or names."""
    changed = data.splitlines()
    for _ in range(rng.choice((1, 1, 2))):
        place = rng.randrange(len(changed))
        name, is_option, _ = changed[place].partition(b" = ")
        value = rng.choice(_TOML_VALUES)
        if is_option:
            changed[place] = (rng.choice(WORDS[:20]) if rng.random() < 0.1 else name) + b" = " + value
        else:
            changed.insert(place, rng.choice((name, b"[[detect]]", b"[detect.keep]", b"x.y.z = 1", b"x = " + value)))
    return b"\n".join(changed)


_TOML_VALUES = (
    b"1",
    b"-1",
    b"1e400",
    b"nan",
    b"9" * 5000,
    b"true",
    b'""',
    b'"x"',
    b'"\\ud800"',
    b'"\\u0000"',
    b'"\\u001b[2J"',
    b"'/dev/zero'",
    b'"https://a.org/{{x}}"',
    b"[]",
    b"[[[]]]",
    b'["cat", 1]',
    b"{a = 1}",
    b"{a = {b = {c = []}}}",
    b"[" * 2000 + b"]" * 2000,
    b"2026-11-28T00:00:00Z",
    b"2026-11-28",
    b"0x" + b"f" * 2000,
    b'"""' + b"a" * 70_000 + b'"""',
)


def of_parquet(data: bytes, rng: random.Random) -> bytes:
    """A table with other values, types and columns, written anew."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(io.BytesIO(data))
        for _ in range(rng.choice((1, 1, 2))):
            table = rng.choice((_values, _values, _values, _types, _columns))(table, rng)
        file = io.BytesIO()
        parquet.write_table(table, file)
        return file.getvalue()
    except (pa.ArrowException, ValueError, TypeError, OverflowError, UnicodeError):
        return of_bytes(data, rng)


def _values(table: Any, rng: random.Random) -> Any:
    """Other values in a column, of its type where they can be."""
    import pyarrow as pa

    place = rng.randrange(table.num_columns)
    values, kind = table.column(place).to_pylist(), table.schema.field(place).type
    if not values:
        return pa.concat_tables([table, table])
    at = rng.randrange(len(values))
    if pa.types.is_integer(kind):
        values[at] = rng.choice((-1, 0, -(2**31), 2**31 - 1, -(2**63), 2**63 - 1, 10**12, rng.randrange(4096), None))
    elif pa.types.is_string(kind):
        values[at] = rng.choice((None, "", "../x.tar", "/etc/passwd", "shard-1.tar", "\0", "x" * 70_000, "\x1b[2J"))
    else:
        values[at] = rng.choice((None, values[at - 1], values[at]))
        if isinstance(values[at], list):
            values[at] = _put(values[at], rng)
    return table.set_column(place, table.schema.field(place).name, pa.chunked_array([pa.array(values, kind)]))


def _types(table: Any, rng: random.Random) -> Any:
    """A column of another type."""
    import pyarrow as pa

    place = rng.randrange(table.num_columns)
    kind = rng.choice((pa.string(), pa.float64(), pa.int8(), pa.uint64(), pa.binary(), pa.list_(pa.int64())))
    try:
        column = table.column(place).cast(kind)
    except (pa.ArrowException, ValueError):
        column = pa.chunked_array([pa.nulls(len(table), kind)])
    return table.set_column(place, table.schema.field(place).name, column)


def _columns(table: Any, rng: random.Random) -> Any:
    """Other columns, rows or notes of the table."""
    place = rng.randrange(table.num_columns)
    notes = {name: of_json(value, rng) for name, value in (table.schema.metadata or {}).items()}
    return rng.choice((
        lambda: table.remove_column(place),
        lambda: table.append_column(table.schema.field(place).name, table.column(place)),
        lambda: table.rename_columns(table.schema.names[::-1]),
        lambda: table.slice(0, 0),
        lambda: table.take(rng.choices(range(len(table)), k=20)) if len(table) else table,
        lambda: table.replace_schema_metadata(notes or None),
    ))()  # fmt: skip
