"""What users have, as samples: folders, pictures, lists, records, tables, COCO JSON, box files, tars, stdin.

Every reader streams. A line or member that cannot be used comes out as a `Failure` in its place; an input that
cannot be read as a whole raises `InputError`. What an input is taken for is said in `seen.KINDS`.
"""

from __future__ import annotations

import functools
import io
import os
import posixpath
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from mgtool.errors import InputError, ItemError
from mgtool.files import urls
from mgtool.files.lines import bounded
from mgtool.files.regular import MOST_BYTES, NO_FILE, open_input, read_sent, refuse_endless
from mgtool.inputs import folders, json_files, rows, tables
from mgtool.inputs.folders import BESIDE_TARS as BESIDE_TARS
from mgtool.inputs.folders import files as files
from mgtool.inputs.line_index import Start
from mgtool.inputs.seen import OF_PATHS, OF_RECORDS, OF_ROWS, Seen
from mgtool.inputs.text_lines import OpenFile, TextLines
from mgtool.media import images, magic
from mgtool.media.limits import MAX_PICTURE_BYTES
from mgtool.media.names import MEDIA_SUFFIXES, is_video_name
from mgtool.media.reading import Find, Place
from mgtool.records import Failure, Item, LeftOut, Media, Sample, media_of, name_text
from mgtool.tars import members, paths, samples

_MOST_PATH_BYTES = 1 << 20
_UNKNOWN = "neither pictures, JSON, a table, tar nor a list of paths"


def read_samples(
    inputs: Sequence[str],
    *,
    images: str | None = None,
    allow_absolute: bool = False,
    allow_remote: Sequence[str] | None = None,
    stdin: IO[bytes] | None = None,
    left_out: LeftOut | None = None,
    wants_boxes: bool = True,
    seen: Seen | None = None,
    start: Start | None = None,
) -> Iterator[Item]:
    """Everything in `inputs`, in order, one sample at a time.

    Args:
        inputs: paths, fsspec URLs, brace patterns of tars, or ``-`` for stdin.
        images: folder or URL that relative picture names start from.
        allow_absolute, allow_remote: absolute paths and URLs that names inside data may be, as in `DetectOptions`.
        stdin: what ``-`` reads; the process's own where it is None.
        left_out: told of what the inputs hold that is not used.
        wants_boxes: whether it is one of these where the inputs hold boxes that nothing here takes; False where boxes
            come from elsewhere.
        seen: told of that in its place, and of what each input is taken for.
        start: a place of an index of these inputs; what comes before is not read.

    Raises:
        InputError: an input that is not there or is of no known kind.
    """
    if images is not None and "://" not in images and not Path(images).is_dir():
        raise InputError(f"`images` {images}: no such folder")
    place = Place.of(images, inputs, allow_absolute=allow_absolute, allow_remote=allow_remote)
    told = Seen(left_out, wants_boxes=wants_boxes) if seen is None else seen
    if start is not None:
        yield from _read_from(start, Path(inputs[start.input]), place, told)
    for given in inputs[0 if start is None else start.input + 1 :]:
        if given == "-":
            yield from _read_stream(stdin or sys.stdin.buffer, place, told)
        else:
            yield from _read_one(given, place, told)


def check(inputs: Iterable[str]) -> None:
    """Raise an `InputError` where a file or folder that is named is not there; URLs are not asked."""
    for given in inputs:
        if given != "-" and "://" not in given and paths.expand(given) is None and not Path(given).exists():
            raise InputError(f"{given}: no such file or folder")


def _read_from(start: Start, path: Path, place: Place, seen: Seen) -> Iterator[Item]:
    """The rest of a file of records, rows or paths."""
    beside, where = path.parent.as_posix(), str(path)
    find, stands = functools.partial(place.media, beside=beside), {"offset": start.offset, "first": start.line}
    if start.kind in OF_ROWS:
        yield from rows.read_text_table(lambda: open_input(path), find, seen, where=where, start=start)
        return
    with open_input(path) as file:
        file.seek(start.offset)
        if start.kind == OF_PATHS:
            yield from _read_paths(file, place, seen, where=where, beside=beside, is_own=True, **stands)
        else:
            read = json_files.read_list if start.kind == OF_RECORDS else json_files.read_lines
            yield from read(file, find, seen, where=where, **stands)


def _read_one(given: str, place: Place, seen: Seen) -> Iterator[Item]:
    expanded = paths.expand(given)
    if expanded is not None:
        seen.take(given, "tar")
        return samples.read_samples(expanded, seen.left_out)
    if "://" in given:
        return _read_url(given, place, seen)
    path = Path(given)
    if path.is_dir():
        return _read_folder(path, place, seen)
    if not path.exists():
        raise InputError(f"{given}: no such file or folder")
    return _read_file(path, place, seen)


def _read_file(path: Path, place: Place, seen: Seen) -> Iterator[Item]:
    suffix = path.suffix.lower()
    if suffix in MEDIA_SUFFIXES:
        seen.take(str(path), _PICTURE)
        return iter([_bare(_named(path, path.parent, place))])
    find = functools.partial(place.media, beside=path.parent.as_posix())
    if suffix in (".tsv", ".csv"):
        refuse_endless(path)
        return rows.read_text_table(lambda: open_input(path), find, seen, where=str(path))
    return _read_opened(path, place, seen, find)


def _read_opened(path: Path, place: Place, seen: Seen, find: Find) -> Iterator[Item]:
    try:
        file = open_input(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    with file:
        if path.is_file() and path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty")
        head = file.peek(magic.HEAD_BYTES)
        if magic.is_picture(head):
            seen.take(str(path), _PICTURE)
            yield _bare(_named(path, path.parent, place))
        elif tables.is_parquet(head) or tables.is_arrow(head):
            yield from rows.read_table(file, find, seen, where=str(path))
        else:
            yield from _read_buffer(file, place, seen, where=str(path), beside=path.parent.as_posix())


def _read_url(url: str, place: Place, seen: Seen) -> Iterator[Item]:
    suffix, beside = posixpath.splitext(url.partition("?")[0])[1].lower(), posixpath.dirname(url)
    if suffix in MEDIA_SUFFIXES:
        seen.take(url, _PICTURE)
        return iter([_bare(Media(name=posixpath.basename(url), uri=url))])
    find = functools.partial(place.media, beside=beside)
    try:
        if urls.is_folder(url):
            return _listed(url, place, seen)
        if suffix in (".parquet", ".arrow"):
            return _read_table_url(url, find, seen)
        data = urls.read(url)
    except (OSError, ValueError) as error:
        raise urls.unread(url, error) from error
    if magic.is_picture(data):
        seen.take(url, _PICTURE)
        return iter([_bare(Media(name=posixpath.basename(url), uri=url))])
    if suffix in (".tsv", ".csv"):
        return rows.read_text_table(lambda: io.BytesIO(data), find, seen, where=url)
    return _read_buffer(io.BytesIO(data), place, seen, where=url, beside=beside, is_own=False)


def _listed(url: str, place: Place, seen: Seen) -> Iterator[Item]:
    """The files of a folder elsewhere: its tars, the tables of a data set, or its pictures."""
    filesystem, root = urls.locate(url)
    names = sorted(name for name in filesystem.find(root) if not folders.is_hidden(posixpath.relpath(name, root)))
    shards = [filesystem.unstrip_protocol(name) for name in names if name.endswith(".tar")]
    listed = [] if shards else folders.tables_among(names)
    seen.take(url, folders.TARS if shards else folders.kind_of(listed))
    is_used = {*listed}
    for name in names if shards or listed else ():
        if not (name.endswith(".tar") if shards else name in is_used or folders.is_of_data_set(name)):
            seen.left_out.add(BESIDE_TARS if shards else folders.kind_of_file(name), name)
    yield from samples.read_samples(shards, seen.left_out)
    for name in listed:
        own = filesystem.unstrip_protocol(name)
        yield from _read_table_url(own, functools.partial(place.media, beside=posixpath.dirname(own)), seen)
    for name in () if shards or listed else names:
        if posixpath.splitext(name)[1].lower() in MEDIA_SUFFIXES:
            yield _bare(Media(name=posixpath.relpath(name, root), uri=filesystem.unstrip_protocol(name)))
        else:
            seen.left_out.add(folders.kind_of_file(name), name)


def _read_table_url(url: str, find: Find, seen: Seen) -> Iterator[Item]:
    try:
        with urls.open_file(url) as file:
            yield from rows.read_table(file, find, seen, where=url)
    except OSError as error:
        raise InputError(f"{url}: cannot be read: {error}") from error


def _read_folder(folder: Path, place: Place, seen: Seen) -> Iterator[Item]:
    contents = folders.contents(folder, seen.left_out)
    seen.take(str(folder), contents.kind)
    named: set[int] | None = None
    found = False
    for one in contents.paths:
        found = True
        if isinstance(one, Failure):
            yield one
        elif contents.kind in (folders.SAVED, folders.OF_PARQUET):
            with open_input(one) as file:
                yield from rows.read_table(
                    file, functools.partial(place.media, beside=str(folder)), seen, where=str(one)
                )
        elif contents.kind == folders.TARS:
            yield from _read_tar(one, seen)
        elif folders.is_metadata(one):
            named = set() if named is None else named
            yield from _read_metadata(one, folder, place, seen, named)
        elif named is None or hash(one.as_posix()) not in named:
            yield _bare(_named(one, folder, place))
    if not found:
        raise InputError(f"{folder}: no picture, video, tar or table in this folder")


def _read_tar(path: Path, seen: Seen) -> Iterator[Item]:
    if not path.is_file():
        yield Failure(id=name_text(str(path)), stage="read", reason="unreadable", detail=f"{path}: {NO_FILE}")
        return
    yield from samples.read_samples([path.as_posix()], seen.left_out)


def _read_metadata(path: Path, root: Path, place: Place, seen: Seen, named: set[int]) -> Iterator[Item]:
    """The pictures of an image folder that its metadata describe; `named` is told of them."""
    here = path.parent.as_posix()
    own = Place(here, place.allow_absolute, place.reach)

    def find(name: str) -> Media:
        media = own.media(name)
        named.add(hash(media.uri))
        local = "://" not in name and not posixpath.isabs(name)
        return _named(Path(media.uri), root, place) if local else media

    seen.take(str(path), _METADATA)
    if path.suffix == ".csv":
        with TextLines(open_input(path)) as lines:
            yield from rows.samples(tables.read_texts(lines, where=str(path)), find, seen, where=str(path))
        return
    with open_input(path) as file:
        if path.suffix == ".parquet":
            yield from rows.samples(
                tables.read(file, "row", seen.left_out, where=str(path)), find, seen, where=str(path)
            )
        else:
            yield from json_files.read_lines(file, find, seen, where=str(path))


def _named(path: Path, root: Path, place: Place) -> Media:
    """A file with the name that records give it: relative to the folder of pictures where it lies there."""
    base = Path(place.images) if place.images is not None and "://" not in place.images else root
    relative = path.relative_to(base) if path.is_relative_to(base) else path.relative_to(root)
    return Media(name=name_text(relative.as_posix()), uri=path.as_posix())


def _bare(media: Media) -> Sample:
    if is_video_name(media.name):
        return Sample(id=media.name, video=media)
    return Sample(id=media.name, images=(media,))


_PICTURE, _METADATA = "picture or video", "image folder with metadata"


def _read_stream(stream: IO[bytes], place: Place, seen: Seen) -> Iterator[Item]:
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)  # type: ignore[type-var]
    head = buffered.peek(512)
    if not head:
        raise InputError("-: stdin is empty")
    if members.looks_like_tar(head) or members.is_packed(head):
        seen.take("-", "tar")
        return samples.read_stream(buffered, "-", seen.left_out)
    first_line = head.partition(b"\n")[0]
    if b"\t" in first_line and b"index" in first_line.split(b"\t")[0]:
        data = read_sent(buffered, MOST_BYTES)
        return rows.read_text_table(lambda: io.BytesIO(data), place.media, seen, where="-")
    if tables.is_parquet(head) or tables.is_arrow(head):
        return rows.read_table(io.BytesIO(read_sent(buffered, MOST_BYTES)), place.media, seen, where="-")
    if b"\0" in head:
        seen.take("-", _PICTURE)
        return iter([_sent_picture(read_sent(buffered, MAX_PICTURE_BYTES))])
    return _read_buffer(buffered, place, seen, where="-", beside="")


def _sent_picture(data: bytes) -> Sample:
    try:
        images.probe(data)
    except ItemError as error:
        if error.reason == "not_an_image":
            raise InputError(f"-: {_UNKNOWN}") from error
    return Sample(id="-", images=(Media(name="-", data=data),))


def _read_buffer(
    file: IO[bytes], place: Place, seen: Seen, *, where: str, beside: str, is_own: bool = True
) -> Iterator[Item]:
    """A file of JSON, JSON lines, a table or paths, told apart by what it holds; `is_own` as of `_read_paths`."""
    head = _peek(file)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    find = functools.partial(place.media, beside=beside)
    if members.looks_like_tar(head):
        seen.take(where, "tar")
        return samples.read_stream(file, where, seen.left_out)
    if tables.is_parquet(head) or tables.is_arrow(head):
        return rows.read_table(io.BytesIO(file.read()), find, seen, where=where)
    if start == b"[":
        seen.take(where, OF_RECORDS)
        return json_files.read_list(file, find, seen, where=where)
    if start == b"{" and (json_files.COCO_START.match(head) or not json_files.is_json_line(head)):
        return json_files.read_object(file, find, seen, where=where)
    if start == b"{" or any(json_files.is_json_line(line) for line in json_files.lines_of_objects(head)):
        return json_files.read_lines(file, find, seen, where=where)
    if b"\0" in head:
        packed = magic.archive(head)
        raise InputError(f"{where}: {f'packed as {packed}: unpack it, and give what it holds' if packed else _UNKNOWN}")
    if tables.is_text_table(head.decode("utf-8", "replace")):
        return rows.read_text_table(_again(file, where), find, seen, where=where)
    seen.take(where, OF_PATHS)
    return _read_paths(file, place, seen, where=where, beside=beside, is_own=is_own)


def _again(file: IO[bytes], where: str) -> OpenFile:
    """Opens anew what is open: a file, or the bytes that come."""
    if where != "-" and isinstance(file, io.BufferedReader) and file.seekable():
        return lambda: open_input(Path(where))
    return functools.partial(io.BytesIO, file.read())


def _peek(file: IO[bytes]) -> bytes:
    if isinstance(file, io.BufferedReader) and not file.seekable():
        return file.peek(1 << 16)
    head = file.read(1 << 16)
    file.seek(0)
    return head


def _read_paths(
    file: IO[bytes],
    place: Place,
    seen: Seen,
    *,
    where: str,
    beside: str,
    is_own: bool,
    offset: int = 0,
    first: int = 1,
) -> Iterator[Item]:
    """A list of paths; where `is_own`, as of a local file and stdin, they are the user's own word."""
    for number, (line, size) in enumerate(bounded(file, _MOST_PATH_BYTES), first):
        name = line.decode("utf-8", "surrogateescape").removeprefix("\ufeff").strip()
        if name:
            seen.begins(where, offset, number)
            yield _listed_one(name, place, beside=beside, is_own=is_own)
        offset += size


def _listed_one(name: str, place: Place, *, beside: str, is_own: bool) -> Item:
    try:
        if not is_own:
            return _bare(place.media(name, beside=beside))
        known = os.path.exists(name)  # noqa: PTH110 - `Path.exists` raises where a name is too long
        return _bare(place.listed(name, beside="" if known else beside))
    except ItemError as error:
        return Failure.of(name_text(name), "read", error)


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
