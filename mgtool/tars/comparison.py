"""Tars as other programs read them, against what they hold."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

from mgtool.files.temporary import temporary_folder
from mgtool.records import Advance
from mgtool.runs import progress
from mgtool.runs import workers as processes
from mgtool.tars.members import is_packed
from mgtool.tars.other_readers import READERS, CannotStart, Reader, quietly
from mgtool.tars.paths import open_url
from mgtool.tars.samples import read_parts
from mgtool.tars.verify_options import SAMPLE_SAMPLES

_END = bytes(1024)
_HEAD_BYTES = 8
_CHUNK = 1 << 20
_ENDS_WITHIN = 60.0
"""Seconds that a program has to tidy up."""


def differences(
    urls: Sequence[str], readers: Mapping[str, Reader], advance: Advance = lambda n: None
) -> Iterator[tuple[str, str]]:
    """Each installed reader's name, with the first difference in what it makes of local tars; ``""`` for none.

    A reader that cannot start here is left out. `advance` is told whose turn it is, as some take long to start.
    """
    for name, reader in readers.items():
        if not reader.installed:
            continue
        progress.doing(advance, f"{name} reads")
        found = _apart(urls, name) if READERS.get(name) is reader else _difference(urls, reader)
        if found is not None:
            yield name, found


def _apart(urls: Sequence[str], name: str) -> str | None:
    """As `_difference`, in a process of its own: what a program loads, and keeps of what it reads, ends with it."""
    ours, theirs = processes.SPAWN.Pipe(duplex=False)
    process = processes.SPAWN.Process(target=_tell, args=(theirs, list(urls), name))
    process.start()
    theirs.close()
    try:
        found = cast(str | None, ours.recv())
        process.join(_ENDS_WITHIN)
        return found
    except EOFError:
        process.join()
        return f"its process ended with exit code {process.exitcode}"
    finally:
        process.terminate()
        process.join()
        ours.close()


def _tell(connection: Connection, urls: Sequence[str], name: str) -> None:
    processes.begin()
    connection.send(_difference(urls, READERS[name]))


def _difference(urls: Sequence[str], reader: Reader) -> str | None:
    """The first difference in what a reader makes of tars, or what it says; None where it cannot start here."""
    try:
        with quietly():
            return _compare(urls, reader.read(urls))
    except CannotStart:
        return None
    except Exception as error:  # noqa: BLE001 - foreign programs raise whatever they like: it is what is reported
        cause = getattr(error, "cause", None) or error  # Ray wraps the error of its workers in their traceback
        return (str(cause).strip() or type(cause).__name__).splitlines()[0][:300]


@contextlib.contextmanager
def sample_of(urls: Sequence[str]) -> Iterator[list[str]]:
    """Tars that stand for a set of local ones: the first, the middle and the last, cut after their first samples.

    What is cut lies in a temporary folder; short and compressed tars stand for themselves.
    """
    chosen = [urls[number] for number in sorted({0, len(urls) // 2, len(urls) - 1})] if urls else []
    with temporary_folder("sample") as folder:
        yield [_cut(url, folder / str(number)) for number, url in enumerate(chosen)]


def _cut(url: str, folder: Path) -> str:
    """A tar of the first samples of another, byte for byte; that one itself where it has no more."""
    with open_url(url) as file:
        head = file.read(_HEAD_BYTES)
    if is_packed(head) or (end := _end_of_sample(url)) is None:
        return url
    folder.mkdir()
    path = folder / posixpath.basename(url)
    with open_url(url) as file, path.open("wb") as out:
        while end > 0 and (data := file.read(min(_CHUNK, end))):
            out.write(data)
            end -= len(data)
        out.write(_END)
    return str(path)


def _end_of_sample(url: str) -> int | None:
    """Where the last of the first samples ends; None where there are no more."""
    with open_url(url) as file:
        for number, raw in enumerate(read_parts(file), 1):
            if number == SAMPLE_SAMPLES:
                return raw.end
    return None


def _compare(urls: Sequence[str], rows: Iterator[tuple[str, dict[str, Any]]]) -> str:
    """The first difference between a reader's samples and the tars' own; empty for none."""
    for url in urls:
        with open_url(url) as file:
            for own in read_parts(file):
                key, parts = next(rows, ("", {}))
                if posixpath.basename(key) != posixpath.basename(own.key):
                    return f"reads {key or 'nothing'} where {own.key} stands"
                missing = sorted(set(own.parts) - set(parts))
                if missing:
                    return f"{own.key}: no part {missing[0]}"
                changed = [name for name, data in own.parts.items() if _bytes_of(parts[name]) not in (None, data)]
                if changed:
                    return f"{own.key}: other bytes in {changed[0]}"
    return f"reads {more[0]} behind the last sample" if (more := next(rows, None)) else ""


def _bytes_of(value: Any) -> bytes | None:
    """The bytes that a reader gives; None where it has decoded them."""
    value = value.get("bytes") if isinstance(value, dict) else value
    return value if isinstance(value, bytes) else None
