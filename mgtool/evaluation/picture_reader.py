"""The pictures of a benchmark, for the page: in a folder, or packed into its tables and tars."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath

from mgtool.errors import InputError, ItemError
from mgtool.inputs import sources, tables
from mgtool.media import reading
from mgtool.records import LeftOut, Media, Sample
from mgtool.scoring.ground_truth import IDS
from mgtool.tars import paths

_IDS = (*IDS, "idx", "sample_index")
_TABLES, _TEXT_TABLE = frozenset({".parquet", ".arrow"}), ".tsv"
SPARE = 0.5
"""Share of the free space for temporary files that pictures may not take."""


class PictureReader:
    """Gives a picture's bytes by its name; None for what is not there.

    Args:
        place: where names are looked up; nowhere without its `images`.
        ground_truth: a benchmark's files; tables and tars among them hold pictures.
        names: of the pictures that will be asked for; of those that are packed no others are taken out.
    """

    def __init__(self, place: reading.Place, ground_truth: Iterable[Path] = (), names: Iterable[str] = ()) -> None:
        self._place = None if place.images is None else place
        self._packed = PackedPictures(names)
        for path in ground_truth:
            self._packed.take(path)

    @property
    def is_empty(self) -> bool:
        """Whether there is no picture at all."""
        return self._place is None and not len(self._packed)

    @property
    def notes(self) -> list[str]:
        """What a reader of the page has to know."""
        count = self._packed.left_out
        return [f"{count:,} pictures are not shown: there is no room for them in `tmp`"] if count else []

    def __enter__(self) -> PictureReader:
        return self

    def __exit__(self, *raised: object) -> None:
        self._packed.close()

    def __call__(self, name: str) -> bytes | None:
        """A picture's file, until the block ends; may be called by several threads."""
        try:
            packed = self._packed.read(name)
            if packed is not None or self._place is None:
                return packed
            return reading.read_bytes(self._place.media(name))
        except ItemError:
            return None


class PackedPictures:
    """Pictures out of tables and tars, in one temporary file, so that memory has no more than their places.

    Args:
        names: of those that are wanted: a picture's own, with or without its ending, or its question's id.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = names
        self._places: dict[str, tuple[int, int] | Media] = {}
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - `close` ends it
        self._end = 0
        self._room = shutil.disk_usage(tempfile.gettempdir()).free * SPARE
        self.left_out = 0

    @cached_property
    def _wanted(self) -> frozenset[str]:
        return frozenset(self._names)

    def close(self) -> None:
        """Let the pictures go."""
        self._file.close()

    def __len__(self) -> int:
        """How many names are known."""
        return len(self._places)

    def take(self, path: Path) -> None:
        """Take the wanted pictures out of a file or a folder of such; what holds none is passed over."""
        for one in _packs(path):
            with contextlib.suppress(InputError):  # a table without pictures
                for names, media in _pictures(one):
                    self._add(names, media)

    def read(self, name: str) -> bytes | None:
        """A picture's file.

        Raises:
            ItemError: it lies elsewhere, and cannot be read there.
        """
        place = self._places.get(name)
        if isinstance(place, tuple):
            return os.pread(self._file.fileno(), place[1], place[0])
        return None if place is None else reading.read_bytes(place)

    def _add(self, names: Iterable[str], media: Media) -> None:
        if media.data is None and "://" not in media.uri and not Path(media.uri).is_file():
            return
        new = [name for name in names if name in self._wanted and name not in self._places]
        if not new:
            return
        if media.data is not None and self._end + len(media.data) > self._room:
            self.left_out += 1
            return
        place: tuple[int, int] | Media = media if media.data is None else self._written(media.data)
        self._places |= dict.fromkeys(new, place)

    def _written(self, data: bytes) -> tuple[int, int]:
        os.pwrite(self._file.fileno(), data, self._end)
        self._end += len(data)
        return self._end - len(data), len(data)


def _packs(path: Path) -> list[Path]:
    """The file, or those in a folder, that may hold pictures."""
    inside = [path] if not path.is_dir() else [*path.iterdir(), *path.glob("*/*.parquet")]
    kinds = {*_TABLES, _TEXT_TABLE}
    return sorted(one for one in inside if one.suffix.lower() in kinds or paths.expand(str(one)) is not None)


def _pictures(path: Path) -> Iterator[tuple[list[str], Media]]:
    """The pictures in a file, with the names by which an item may ask for them."""
    if path.suffix.lower() in _TABLES:
        yield from _of_table(path)
        return
    for sample in sources.read_samples([str(path)]):
        if isinstance(sample, Sample) and sample.images:
            media = sample.images[0]
            yield [str(sample.id), media.name], media


def _of_table(path: Path) -> Iterator[tuple[list[str], Media]]:
    with path.open("rb") as file:
        for row in tables.read(file, path.stem, LeftOut(), where=str(path)):
            ids = [str(row.fields[name]) for name in _IDS if row.fields.get(name) is not None]
            for media in row.carried.values():
                yield [media.name, PurePosixPath(media.name).stem, *ids], media
