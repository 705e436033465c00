"""The pictures of a benchmark, for the page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mgtool.errors import ItemError
from mgtool.inputs import sources
from mgtool.media import reading
from mgtool.records import Media, Sample

MOST_TABLE_BYTES = 1 << 30


class PictureReader:
    """Gives a picture's bytes by its name; None for what is not there.

    Args:
        place: where names are looked up; nowhere without its `images`.
        ground_truth: a benchmark's files; tables among them hold pictures, and are kept where they are not too large.
    """

    def __init__(self, place: reading.Place, ground_truth: Iterable[Path] = ()) -> None:
        self._place = None if place.images is None else place
        tables = [path for path in ground_truth if path.suffix == ".tsv" and path.stat().st_size < MOST_TABLE_BYTES]
        self._within = _in_tables(tables)

    @property
    def is_empty(self) -> bool:
        """Whether there is no picture at all."""
        return self._place is None and not self._within

    def __call__(self, name: str) -> bytes | None:
        """A picture's file."""
        try:
            if name in self._within:
                return reading.read_bytes(self._within[name])
            return None if self._place is None else reading.read_bytes(self._place.media(name))
        except ItemError:
            return None


def _in_tables(tables: Iterable[Path]) -> dict[str, Media]:
    """The first picture of each row, by the row's id and by its own name."""
    paths = [str(path) for path in tables]
    return {
        name: sample.images[0]
        for sample in (sources.read_samples(paths) if paths else ())
        if isinstance(sample, Sample) and sample.images
        for name in (str(sample.id), sample.images[0].name)
    }
