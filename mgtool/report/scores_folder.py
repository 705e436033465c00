"""The page of an evaluation, and beside it what is too much for one file: items and thumbnails in chunks, pictures.

The page loads a chunk by a script element, which works from a file system, too; a chunk is data in a call of the page's
own function. Each is made and written by itself, so that memory does not grow with the items.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from mgtool.evaluation.output import PAGE_FILE
from mgtool.files.atomic import atomic_folder, write_bytes
from mgtool.files.no_links import refuse_links
from mgtool.media import magic
from mgtool.media.names import MEDIA_SUFFIXES
from mgtool.records import Score
from mgtool.report import scores_page
from mgtool.report.html import safe_json
from mgtool.report.scores_page import PICTURES_PER_BLOCK, ScoresPage
from mgtool.report.thumbnails import SIDE, ReadBytes

T = TypeVar("T")
FOLDER = "report"
PICTURES = "pictures"
MOST_IN_ONE_FILE = 2000
ITEMS_PER_CHUNK = 2000


def write(out: Path, page: ScoresPage, *, full_pictures: bool = False) -> None:
    """Write report.html, and the folder `report` where there are many items or the pictures are wanted in full.

    Args:
        out: the evaluation's folder.
        page: what the report shows.
        full_pictures: copy the pictures beside the page, instead of a link into their folder.

    Raises:
        OutputError: when `out` cannot be written.
    """
    beside, is_large = out / FOLDER, len(page.scores) > MOST_IN_ONE_FILE
    refuse_links(beside)
    is_bare = page.read is scores_page.no_picture and not page.boxes
    names = [] if is_bare else list(dict.fromkeys(score.image for score in page.scores if score.image))
    if is_large or full_pictures:
        with atomic_folder(beside) as folder:
            if is_large:
                _write_chunks(folder, page, names)
            if full_pictures:
                _copy(folder / PICTURES, names, page.read)
    elif beside.is_dir():
        shutil.rmtree(beside)  # of a larger evaluation, which this one replaces
    files = f"{FOLDER}/{PICTURES}" if full_pictures else page.files
    html = scores_page.frame(page, files, FOLDER, _count(page.scores)) if is_large else scores_page.render(page, files)
    write_bytes(out / PAGE_FILE, html)


def _count(scores: Sequence[Any]) -> int:
    return -(-len(scores) // ITEMS_PER_CHUNK)


def _write_chunks(folder: Path, page: ScoresPage, names: Sequence[str]) -> None:
    places, flips = {name: place for place, name in enumerate(names)}, scores_page.flips(page)
    entries = (scores_page.entry(page, score, places, flips) for score in page.scores)
    for number in range(_count(page.scores)):
        _save(folder, f"items-{number}", list(itertools.islice(entries, ITEMS_PER_CHUNK)))
    first = _first_places(page.scores) if names else {}
    for number, block in enumerate(_parts(names, PICTURES_PER_BLOCK)):
        own = {name: page.scores[first[name]] for name in block}
        _save(folder, f"pictures-{number}", list(scores_page.pictures(page, block, own, SIDE)))


def _first_places(scores: Sequence[Score]) -> dict[str, int]:
    """Where the first item of each picture stands."""
    first: dict[str, int] = {}
    for place, score in enumerate(scores):
        first.setdefault(score.image, place)
    return first


def _parts(sequence: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(sequence), size):
        yield sequence[start : start + size]


def _save(folder: Path, name: str, value: Any) -> None:
    """A chunk: a call with its name and, as a text, its JSON, in which nothing can be code."""
    call = f"mgtoolChunk({safe_json(name)},{safe_json(safe_json(value))})\n"
    (folder / f"{name}.js").write_bytes(call.encode("utf-8", "backslashreplace"))


def _copy(folder: Path, names: Iterable[str], read: ReadBytes) -> None:
    """The pictures under their own names.

    Those that lie elsewhere than below a folder or cannot be read are not there, nor what a browser would run.
    """
    for name in names:
        path = PurePosixPath(name)
        is_elsewhere = path.is_absolute() or ".." in path.parts or ":" in name
        data = None if is_elsewhere or path.suffix.lower() not in {*MEDIA_SUFFIXES, ""} else read(name)
        # a packed picture may be called by its question's number, and browsers look at what has no ending
        if data is not None and (path.suffix or magic.is_picture(data[: magic.HEAD_BYTES])):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
