"""The folder that a detection fills: shards or one file of another form, failures, drawn pictures."""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

import msgspec
from PIL import Image

from mgtool.boxes import formats
from mgtool.boxes.drawing import Draw
from mgtool.boxes.statistics import BoxStatistics
from mgtool.detection.options import DetectOptions
from mgtool.detection.picture_loader import Content
from mgtool.errors import UNREACHABLE
from mgtool.files.atomic import atomic_file, remove, sweep, write_bytes, write_lines
from mgtool.files.journal import Journal
from mgtool.files.no_links import refuse_links
from mgtool.files.shard_names import list_shards, shard_name
from mgtool.records import BoxRecord, Failure, SampleId, dumps, parse
from mgtool.runs.run_file import DRAWN_FOLDER, FAILURES_FILE, RUN_FILE

PREFIX, SUFFIX = "boxes", ".jsonl"
JOURNAL = ".detect.journal.jsonl"


class DetectionEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one picture of the input: a line of the journal.

    Attributes:
        id: the sample's.
        sha256: of the picture; empty where its bytes could not be read.
        box: for the first picture with these bytes.
        failure: in place of boxes.
        name: of a picture or video whose bytes came before under another name or the same.
    """

    id: SampleId
    sha256: str = ""
    box: BoxRecord | None = None
    failure: Failure | None = None
    name: str = ""

    def unless_in(self, seen: set[bytes]) -> DetectionEntry:
        """Without the boxes where an entry before has these bytes, too; `seen` are hashes of those, and grows."""
        if self.box is None:
            return self
        digest = bytes.fromhex(self.sha256)
        if digest in seen:
            return DetectionEntry(self.id, self.sha256, name=self.box.image or self.box.video)
        seen.add(digest)
        return self


class DetectionOutput:
    """An output folder that grows by entries in input order and goes on where it stopped.

    Args:
        folder: to write.
        format: one of `mgtool.boxes.formats.FORMATS`.
        shard_size: records of a shard.
        visualize: number of pictures to draw.
    """

    def __init__(
        self, folder: Path, *, format: str, shard_size: int = DetectOptions.shard_size, visualize: int = 0
    ) -> None:
        self.folder, self.statistics = folder, BoxStatistics()
        self._format, self._shard_size, self._visualize = format, shard_size, visualize
        self._journal = Journal(folder / JOURNAL)
        self._shard: list[BoxRecord] = []
        self._without_place: list[Failure] = []
        """Samples that a form by sample ids cannot hold."""

    @property
    def begun(self) -> bool:
        """Whether there is an entry of an earlier run that did not finish."""
        return self._journal.path.is_file() and self._journal.path.stat().st_size > 0

    def is_whole(self, records: int) -> bool:
        """Whether the files of a run that found so many distinct pictures and videos are all there."""
        shards = range(max(1, -(-records // self._shard_size)))
        whole = (*formats.FILES.get(self._format, ()), *formats.FOLDERS.get(self._format, ()))
        names = whole or tuple(shard_name(PREFIX, index, SUFFIX) for index in shards)
        return all((self.folder / name).exists() for name in (*names, FAILURES_FILE))

    def clear(self) -> None:
        """Remove what an earlier run wrote."""
        shutil.rmtree(self.folder / DRAWN_FOLDER, ignore_errors=True)
        for name in itertools.chain(*formats.FOLDERS.values()):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        names = (JOURNAL, FAILURES_FILE, RUN_FILE, *itertools.chain(*formats.FILES.values()))
        for path in [*list_shards(self.folder, PREFIX, SUFFIX), *(self.folder / name for name in names)]:
            remove(path)

    def resume(self) -> Iterator[DetectionEntry]:
        """Take up the entries of an earlier run."""
        for name in (DRAWN_FOLDER, *itertools.chain(*formats.FOLDERS.values())):
            refuse_links(self.folder / name)
        sweep(self.folder)
        sweep(self.folder / DRAWN_FOLDER)
        for entry in self._journal.read(DetectionEntry):
            yield entry
            self._count(entry)

    def draw(self, entry: DetectionEntry, content: Content, draw: Draw) -> None:
        """Before an entry is written: draw its boxes if it is one of the first with any."""
        if entry.box is not None and self.statistics.records < self._visualize:
            self._draw(entry.box, content, draw)

    def copy_drawn(self, folder: Path, place: int) -> None:
        """Before an entry is written: take over what another folder drew of it, as its record number `place`."""
        if self.statistics.records < self._visualize:
            for path in (folder / DRAWN_FOLDER).glob(f"{place:06d}-*"):
                name = path.name.replace(f"{place:06d}", f"{self.statistics.records:06d}", 1)
                write_bytes(self.folder / DRAWN_FOLDER / name, path.read_bytes())

    def entries(self) -> Iterator[DetectionEntry]:
        """What became of each item, in order, as long as that is kept."""
        return self._journal.read(DetectionEntry)

    def replace(self, entries: Iterable[DetectionEntry]) -> None:
        """Have other entries in place of those that are kept."""
        write_lines(self._journal.path, entries)

    def add(self, entry: DetectionEntry) -> None:
        """Write one entry."""
        self._journal.append(entry)
        self._count(entry)

    def finish(self) -> None:
        """Write the last shard (or the one file of another form) and the failures; nothing hidden stays."""
        if self._format == "jsonl":
            if self._shard or not self.statistics.records:
                self._write_shard()
        else:
            records = self._records_by_name if formats.FORMATS[self._format].by_name else self._records
            formats.write(self._format, self.folder, records, self._pairs())
        failed = (entry.failure for entry in self.entries() if entry.failure is not None)
        write_lines(self.folder / FAILURES_FILE, itertools.chain(failed, self._without_place))

    def close(self, *, done: bool = False) -> None:
        """Close the journal; when the run is done, delete it unless what could not be reached is to be asked again."""
        if done and not self.statistics.failures[UNREACHABLE]:
            self._journal.remove()
        else:
            self._journal.close()

    def _count(self, entry: DetectionEntry) -> None:
        count(self.statistics, entry)
        if entry.box is not None and self._format == "jsonl":
            self._shard.append(entry.box)
            if len(self._shard) == self._shard_size:
                self._write_shard()

    def _write_shard(self) -> None:
        index = max(0, self.statistics.records - 1) // self._shard_size
        path = self.folder / shard_name(PREFIX, index, SUFFIX)
        lines = b"".join(dumps(one) + b"\n" for one in self._shard)
        if not path.exists() or path.read_bytes() != lines:  # others than those, of before pictures were asked again
            write_bytes(path, lines)
        self._shard = []

    def _draw(self, box: BoxRecord, content: Content, draw: Draw) -> None:
        start = f"{self.statistics.records:06d}-{Path(box.image or box.video).stem.replace('/', '_')[:80]}"
        if box.frames is None:
            self._save(f"{start}.png", draw(content.pictures[0], box.detections))
            return
        found = {frame.index: frame.detections for frame in box.frames}
        for index, picture in zip(content.distinct, content.pictures, strict=True):
            self._save(f"{start}-{index}.png", draw(picture, found[index]))

    def _save(self, name: str, drawn: Image.Image) -> None:
        with atomic_file(self.folder / DRAWN_FOLDER / name) as file:
            drawn.save(file, "PNG")

    def _records(self) -> Iterator[BoxRecord]:
        return (entry.box for entry in self.entries() if entry.box is not None)

    def _records_by_name(self) -> Iterator[BoxRecord]:
        """A record for each name of a picture: identical ones have the boxes of the first."""
        seen = set[str]()
        for entry, box in self._with_boxes():
            name = entry.name if entry.box is None else entry.box.image
            if entry.failure is None and name and name not in seen:
                seen.add(name)
                yield msgspec.structs.replace(box(), image=name)

    def _pairs(self) -> Iterator[tuple[SampleId, BoxRecord]]:
        """Each sample's id with its picture's record; another picture of that id is a failure."""
        done: dict[SampleId, str] = {}
        for entry, box in self._with_boxes():
            if entry.failure is not None:
                continue
            is_first = entry.id not in done
            if done.setdefault(entry.id, entry.sha256) != entry.sha256:
                self._without_place.append(_of_another(entry.id))
                self.statistics.failures["duplicate_id"] += 1
            elif is_first:
                yield entry.id, box()

    def _with_boxes(self) -> Iterator[tuple[DetectionEntry, Callable[[], BoxRecord]]]:
        """Each entry with what gives its picture's record, which stands where the picture came first."""
        places, path = dict[str, int](), self.folder / JOURNAL
        if not path.exists():
            return
        with path.open("rb") as file, path.open("rb") as again:
            place = 0
            for line in file:
                entry = parse(line, DetectionEntry, where=str(path))
                if entry.box is not None:
                    places[entry.sha256] = place
                place += len(line)
                yield entry, functools.partial(_box_of, entry, again, places)


def _of_another(id: SampleId) -> Failure:
    detail = "another picture has this id, and this form keeps one for each; `format` jsonl keeps them by their bytes"
    return Failure(id=id, stage="detect", reason="duplicate_id", detail=detail)


def _box_of(entry: DetectionEntry, journal: IO[bytes], places: Mapping[str, int]) -> BoxRecord:
    return entry.box or _box_at(journal, places[entry.sha256])


def _box_at(journal: IO[bytes], place: int) -> BoxRecord:
    journal.seek(place)
    box = parse(journal.readline(), DetectionEntry, where=f"{JOURNAL}, byte {place}").box
    assert box is not None
    return box


def count(statistics: BoxStatistics, entry: DetectionEntry) -> None:
    """Count one entry."""
    if entry.failure is not None:
        statistics.failures[entry.failure.reason] += 1
    elif entry.box is None:
        statistics.duplicates += 1
    else:
        statistics.add(entry.box)
