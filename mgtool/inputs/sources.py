"""What users have, as samples: folders, pictures, lists, LLaVA files, TSVs, COCO JSON, box files, tars, stdin.

Every reader streams. A line or member that cannot be used comes out as a `Failure` in its place; an input that
cannot be read as a whole raises `InputError`.
"""

from __future__ import annotations

import errno
import functools
import io
import mmap
import os
import posixpath
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from mgtool.errors import InputError, ItemError
from mgtool.files import json_lists, urls
from mgtool.files.regular import NO_FILE, open_input, refuse_endless
from mgtool.inputs import json_records, layouts, tsv
from mgtool.media import images, magic
from mgtool.media.names import MEDIA_SUFFIXES, is_video_name
from mgtool.media.reading import Find, Place
from mgtool.records import TOO_DEEP, Failure, Item, LeftOut, Media, Sample, decode, dumps, media_of, name_text
from mgtool.runs.run_file import DRAWN_FOLDER, RUN_FILE
from mgtool.tars import members, paths, samples

BESIDE_TARS = "files beside tars"
"""Why a picture in a folder of tars is left out."""

_UNKNOWN = "neither pictures, JSON, TSV, tar nor a list of paths"

# COCO files are one line as a rule, and so look like JSON lines but for their first key.
_COCO_START = re.compile(rb'[\xef\xbb\xbf\s]*\{\s*"(?:info|images|annotations|categories|licenses)"\s*:\s*[\[{]')


def read_samples(
    inputs: Sequence[str],
    *,
    images: str | None = None,
    allow_absolute: bool = False,
    allow_remote: Sequence[str] | None = None,
    stdin: IO[bytes] | None = None,
    left_out: LeftOut | None = None,
) -> Iterator[Item]:
    """Everything in `inputs`, in order, one sample at a time.

    Args:
        inputs: paths, fsspec URLs, brace patterns of tars, or ``-`` for stdin.
        images: folder or URL that relative picture names start from.
        allow_absolute, allow_remote: absolute paths and URLs that names inside data may be, as in `DetectOptions`.
        stdin: what ``-`` reads; the process's own where it is None.
        left_out: told what the inputs hold that is not used.

    Raises:
        InputError: an input that is not there or is of no known kind.
    """
    if images is not None and "://" not in images and not Path(images).is_dir():
        raise InputError(f"`images` {images}: no such folder")
    place = Place.of(images, inputs, allow_absolute=allow_absolute, allow_remote=allow_remote)
    unused = LeftOut() if left_out is None else left_out
    for given in inputs:
        if given == "-":
            yield from _read_stream(stdin or sys.stdin.buffer, place, unused)
        else:
            yield from _read_one(given, place, unused)


def check(inputs: Iterable[str]) -> None:
    """Raise an `InputError` where a file or folder that is named is not there; URLs are not asked."""
    for given in inputs:
        if given != "-" and "://" not in given and paths.expand(given) is None and not Path(given).exists():
            raise InputError(f"{given}: no such file or folder")


def _read_one(given: str, place: Place, left_out: LeftOut) -> Iterator[Item]:
    expanded = paths.expand(given)
    if expanded is not None:
        return samples.read_samples(expanded, left_out)
    if "://" in given:
        return _read_url(given, place, left_out)
    path = Path(given)
    if path.is_dir():
        return _read_folder(path, place, left_out)
    if not path.exists():
        raise InputError(f"{given}: no such file or folder")
    return _read_file(path, place, left_out)


def _read_file(path: Path, place: Place, left_out: LeftOut) -> Iterator[Item]:
    suffix = path.suffix.lower()
    if suffix in MEDIA_SUFFIXES:
        return iter([_bare(_named(path, path.parent, place))])
    beside = path.parent.as_posix()
    if suffix == ".tsv":
        find = functools.partial(place.media, beside=beside)
        refuse_endless(path)
        return tsv.read_tsv(
            lambda: path.open(encoding="utf-8-sig", errors="surrogateescape", newline=""), find, where=str(path)
        )
    return _read_opened(path, place, left_out, beside=beside)


def _read_opened(path: Path, place: Place, left_out: LeftOut, *, beside: str) -> Iterator[Item]:
    try:
        file = open_input(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    with file:
        if path.is_file() and path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty")
        if magic.is_picture(file.peek(magic.HEAD_BYTES)):
            yield _bare(_named(path, path.parent, place))
            return
        yield from _read_buffer(file, place, left_out, where=str(path), beside=beside)


def _read_url(url: str, place: Place, left_out: LeftOut) -> Iterator[Item]:
    suffix = posixpath.splitext(url.partition("?")[0])[1].lower()
    if suffix in MEDIA_SUFFIXES:
        return iter([_bare(Media(name=posixpath.basename(url), uri=url))])
    try:
        if urls.is_folder(url):
            return _listed(*urls.locate(url), left_out)
        data = urls.read(url)
    except (OSError, ValueError) as error:
        raise InputError(f"{url}: cannot be read: {error}") from error
    if magic.is_picture(data):
        return iter([_bare(Media(name=posixpath.basename(url), uri=url))])
    beside = posixpath.dirname(url)
    if suffix == ".tsv":
        find = functools.partial(place.media, beside=beside)
        return tsv.read_tsv(lambda: _text_of(data), find, where=url)
    return _read_buffer(io.BytesIO(data), place, left_out, where=url, beside=beside, is_own=False)


def _listed(filesystem: Any, root: str, left_out: LeftOut) -> Iterator[Item]:
    names = sorted(filesystem.find(root))
    shards = [filesystem.unstrip_protocol(name) for name in names if name.endswith(".tar")]
    if shards:
        for name in names:
            if not name.endswith(".tar"):
                left_out.add(BESIDE_TARS, name)
        yield from samples.read_samples(shards, left_out)
        return
    for name in names:
        if posixpath.splitext(name)[1].lower() in MEDIA_SUFFIXES:
            yield _bare(Media(name=posixpath.relpath(name, root), uri=filesystem.unstrip_protocol(name)))
        else:
            left_out.add(_kind_of_file(name), name)


def _text_of(data: bytes) -> IO[str]:
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", errors="surrogateescape", newline="")


def _read_folder(folder: Path, place: Place, left_out: LeftOut) -> Iterator[Item]:
    found = False
    for one in files(folder, left_out):
        found = True
        if isinstance(one, Failure):
            yield one
        elif one.name.lower().endswith(paths.ENDINGS) and not one.is_file():
            yield Failure(id=name_text(str(one)), stage="read", reason="unreadable", detail=f"{one}: {NO_FILE}")
        elif one.name.lower().endswith(paths.ENDINGS):
            yield from samples.read_samples([one.as_posix()], left_out)
        else:
            yield _bare(_named(one, folder, place))
    if not found:
        raise InputError(f"{folder}: no picture, video or tar in this folder")


def files(folder: Path, left_out: LeftOut | None = None) -> Iterator[Path | Failure]:
    """What is read of a folder: its tars, or else the pictures and videos below it, in the order of their names.

    A picture of another ending is known by its first bytes. Where there is neither, tars below the folder are read.
    Hidden files are left out, and what `mgtool detect` has drawn; `left_out` is told of any other file that is.
    A folder that cannot be read is a `Failure`.

    Raises:
        InputError: `folder` itself cannot be read.
    """
    if not os.access(folder, os.R_OK | os.X_OK):
        raise InputError(f"{folder}: cannot be read: {os.strerror(errno.EACCES)}")
    unused = LeftOut() if left_out is None else left_out
    if shards := sorted(path for path in folder.glob("*.t*") if path.name.lower().endswith(paths.ENDINGS)):
        for one in [] if left_out is None else _walk(folder, (), LeftOut()):
            if isinstance(one, Path):
                unused.add(BESIDE_TARS, one.relative_to(folder).as_posix())
        return iter(shards)
    return _pictures_or_tars(folder, unused)


def _pictures_or_tars(folder: Path, left_out: LeftOut) -> Iterator[Path | Failure]:
    found = False
    for one in _walk(folder, (), left_out):
        found = True
        yield one
    if not found and (tars := paths.below(folder)):
        left_out.clear()
        yield from tars


def _kind_of_file(name: str) -> str:
    """The reason for which a file that is no picture, video or tar is left out."""
    ending = posixpath.splitext(name)[1].lower()
    return f"{ending} files" if ending else "files without an ending"


def _is_picture_file(path: Path) -> bool:
    """Whether a file of another ending is a picture by what it holds; only plain files are opened."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return magic.is_picture(file.read(magic.HEAD_BYTES))
    except OSError:
        return False


def _walk(folder: Path, above: tuple[Path, ...], left_out: LeftOut) -> Iterator[Path | Failure]:
    """Pictures and videos, one folder's names in memory at a time; `above` are the folders that lead here."""
    try:
        with os.scandir(folder) as scanned:
            entries = [(entry.name, entry.is_dir(), entry.is_symlink()) for entry in scanned]
    except OSError as error:
        name = name_text(folder.as_posix())
        yield Failure(id=name, stage="read", reason="unreadable", detail=f"the folder cannot be read: {error.strerror}")
        return
    has_run = any(name == RUN_FILE for name, _, _ in entries)
    for name, is_folder, is_link in sorted(entries):
        path = folder / name
        if name.startswith(".") or (has_run and name == DRAWN_FOLDER):
            continue
        if not is_folder:
            if path.suffix.lower() in MEDIA_SUFFIXES or _is_picture_file(path):
                yield path
            elif not has_run:
                left_out.add(_kind_of_file(name), path.as_posix())
        elif not (is_link and any(path.samefile(other) for other in (*above, folder))):
            yield from _walk(path, (*above, folder), left_out)


def _named(path: Path, root: Path, place: Place) -> Media:
    """A file with the name that records give it: relative to the folder of pictures where it lies there."""
    base = Path(place.images) if place.images is not None and "://" not in place.images else root
    relative = path.relative_to(base) if path.is_relative_to(base) else path.relative_to(root)
    return Media(name=name_text(relative.as_posix()), uri=path.as_posix())


def _bare(media: Media) -> Sample:
    if is_video_name(media.name):
        return Sample(id=media.name, video=media)
    return Sample(id=media.name, images=(media,))


def _read_stream(stream: IO[bytes], place: Place, left_out: LeftOut) -> Iterator[Item]:
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)  # type: ignore[type-var]
    head = buffered.peek(512)
    if not head:
        raise InputError("-: stdin is empty")
    if members.looks_like_tar(head) or members.is_packed(head):
        return samples.read_stream(buffered, "-", left_out)
    first_line = head.partition(b"\n")[0]
    if b"\t" in first_line and b"index" in first_line.split(b"\t")[0]:
        data = buffered.read()
        return tsv.read_tsv(lambda: _text_of(data), place.media, where="-")
    if b"\0" in head:
        return iter([_sent_picture(buffered.read())])
    return _read_buffer(buffered, place, left_out, where="-", beside="")


def _sent_picture(data: bytes) -> Sample:
    try:
        images.probe(data)
    except ItemError as error:
        if error.reason == "not_an_image":
            raise InputError(f"-: {_UNKNOWN}") from error
    return Sample(id="-", images=(Media(name="-", data=data),))


def _read_buffer(
    file: IO[bytes], place: Place, left_out: LeftOut, *, where: str, beside: str, is_own: bool = True
) -> Iterator[Item]:
    """A file of JSON, JSON lines or paths, told apart by what it holds; `is_own` as of `_read_paths`."""
    head = _peek(file)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    find = functools.partial(place.media, beside=beside)
    if members.looks_like_tar(head):
        return samples.read_stream(file, where, left_out)
    if start == b"[":
        return _read_json_list(file, find, where=where)
    if start == b"{" and (_COCO_START.match(head) or not _is_json_line(head)):
        return _read_json_object(file, find, where=where)
    if start == b"{" or any(_is_json_line(line) for line in _lines_of_objects(head)):
        return _read_json_lines(file, find, where=where)
    if b"\0" in head:
        raise InputError(f"{where}: {_UNKNOWN}")
    return _read_paths(file, place, beside=beside, is_own=is_own)


def _peek(file: IO[bytes]) -> bytes:
    if isinstance(file, io.BufferedReader) and not file.seekable():
        return file.peek(1 << 16)
    head = file.read(1 << 16)
    file.seek(0)
    return head


def _is_json_line(head: bytes) -> bool:
    line = head.lstrip(b"\xef\xbb\xbf \t\r\n").partition(b"\n")[0]
    try:
        decode(line, msgspec.Raw)
    except msgspec.DecodeError:
        return len(line) >= (1 << 16) - 4 or b'"' in line[:80]
    return True


def _lines_of_objects(head: bytes) -> list[bytes]:
    """Lines that begin as a JSON object does, where the first one, a heading or a broken record, does not."""
    return [line for line in head.splitlines()[1:] if line.startswith(b'{"')][:1]


def _read_paths(file: IO[bytes], place: Place, *, beside: str, is_own: bool) -> Iterator[Item]:
    """A list of paths; where `is_own`, as of a local file and stdin, they are the user's own word."""
    for line in file:
        name = line.decode("utf-8", "surrogateescape").removeprefix("\ufeff").strip()
        if not name:
            continue
        try:
            if not is_own:
                yield _bare(place.media(name, beside=beside))
                continue
            known = os.path.exists(name)  # noqa: PTH110 - `Path.exists` raises where a name is too long
            yield _bare(place.listed(name, beside="" if known else beside))
        except ItemError as error:
            yield Failure.of(name_text(name), "read", error)


def _read_json_lines(file: IO[bytes], find: Find, *, where: str) -> Iterator[Item]:
    for number, line in enumerate(file, 1):
        if number == 1 and (whole := json_records.coco_on_a_line(line)) is not None:
            yield from json_records.coco(whole, find, where=where)
        elif line.strip():
            yield json_records.sample(line, f"line {number}", find, where=f"{where}:{number}")


def _read_json_list(file: IO[bytes], find: Find, *, where: str) -> Iterator[Item]:
    for number, element in enumerate(json_lists.elements(file, where=where), 1):
        yield json_records.sample(element, f"record {number}", find, where=f"{where}: record {number}")


def _read_json_object(file: IO[bytes], find: Find, *, where: str) -> Iterator[Item]:
    """A COCO file, or another JSON object over several lines."""
    try:
        whole = _members(_mapped(file))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not valid JSON: {error}") from error
    if any(key in whole for key in layouts.TURN_KEYS):
        yield json_records.sample(dumps(whole), "record 1", find, where=where)
    else:
        yield from json_records.coco(whole, find, where=where)


def _members(data: bytes | mmap.mmap) -> dict[str, msgspec.Raw]:
    """Those of a JSON object; what is nested too deeply is left to its record."""
    try:
        return decode(data, dict[str, msgspec.Raw])
    except msgspec.DecodeError as error:
        if str(error) != TOO_DEEP:
            raise
        return decode(json_lists.pruned(bytes(data)), dict[str, msgspec.Raw])


def _mapped(file: IO[bytes]) -> bytes | mmap.mmap:
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        return file.read()


def count(items: Iterable[Item]) -> tuple[int, int]:
    """Numbers of samples and of failures, for dry runs."""
    total = failures = 0
    for item in items:
        total += 1
        failures += isinstance(item, Failure)
    return total - failures, failures


def pictures(items: Iterable[Item]) -> Iterator[tuple[Sample, Media] | Failure]:
    """Each picture and video that samples show, in order."""
    for item in items:
        if isinstance(item, Failure):
            yield item
        else:
            yield from ((item, media) for media in media_of(item))
