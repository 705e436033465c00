"""Pictures -> box records: each distinct picture once, in input order, whatever the workers and the batch size."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from PIL import Image

from mgtool import boxformats
from mgtool.detectors.base import Detector, Tagger
from mgtool.detectors.drawing import draw
from mgtool.detectors.filters import Filters
from mgtool.detectors.known_boxes import KnownBoxes
from mgtool.detectors.loading import Named, Opened, open_pictures
from mgtool.errors import ItemError, MgtoolError
from mgtool.records import BoxRecord, Detections, Failure, SampleId
from mgtool.shards import FAILURES_FILE, Journal, list_shards, shard_name, sweep, write_lines

STAGE = "detect"
PREFIX, SUFFIX = "boxes", ".jsonl"
JOURNAL = ".detect.journal.jsonl"
VISUALIZED = "visualized"
SHARD_SIZE = 1000
WINDOW_PER_BATCH = 8
BINS = (("0", 0), ("1-10", 10), ("11-20", 20), ("21-30", 30), ("31-50", 50))
TOP_LABELS = 20


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one picture of the input: a line of the journal.

    Attributes:
        id: the sample's.
        sha256: of the picture; empty where its bytes could not be read.
        box: for the first picture with these bytes.
        failure: in place of boxes.
    """

    id: SampleId
    sha256: str = ""
    box: BoxRecord | None = None
    failure: Failure | None = None


@dataclass(frozen=True)
class Finder:
    """A detector, a tagger that gives it its words, or either alone; boxes that are known go before both.

    Attributes:
        filters: which boxes are kept, wherever they come from.
    """

    detector: Detector | None
    tagger: Tagger | None = None
    filters: Filters = field(default_factory=Filters)
    known: KnownBoxes | None = None

    @property
    def identity(self) -> str:
        """What decides the boxes."""
        parts = (self.known, self.tagger, self.detector, self.filters)
        return " | ".join(part.identity for part in parts if part is not None and part.identity)

    def recall(self, one: Opened) -> Detections | ItemError | None:
        """Objects of a picture whose boxes are known; None for one that must be looked at."""
        if self.known is None or isinstance(one.item, Failure):
            return None
        sample, media = one.item
        found = self.known.find(one.sha256, media.name, sample.id)
        return self.filters(found) if isinstance(found, Detections) else found

    def find(self, pictures: Sequence[Image.Image]) -> list[Detections | ItemError]:
        """Objects of each picture; when the batch fails, each picture alone, so that a bad one costs only itself."""
        try:
            return list(self._find(pictures))
        except MgtoolError as error:
            if not isinstance(error, ItemError):
                raise
            return [error] if len(pictures) == 1 else self._find_each(pictures)
        except Exception as error:  # noqa: BLE001 - whatever a model raises on a picture becomes that picture's failure
            return [_model_error(error)] if len(pictures) == 1 else self._find_each(pictures)

    def _find_each(self, pictures: Sequence[Image.Image]) -> list[Detections | ItemError]:
        return [self.find([picture])[0] for picture in pictures]

    def _find(self, pictures: Sequence[Image.Image]) -> list[Detections]:
        tags = None if self.tagger is None else self.tagger.tag(pictures)
        found = [Detections()] * len(pictures) if self.detector is None else self.detector.detect(pictures, tags)
        found = [self.filters(one) for one in found]
        if tags is None:
            return found
        return [msgspec.structs.replace(one, tags=tuple(words)) for one, words in zip(found, tags, strict=True)]


def _model_error(error: Exception) -> ItemError:
    memory = isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__
    text = (str(error) or "no message").splitlines()[0][:200]
    return ItemError("out_of_memory" if memory else "model_error", f"{type(error).__name__}: {text}")


@dataclass
class Statistics:
    """What a run found, for its summary."""

    pictures: int = 0
    duplicates: int = 0
    boxes: int = 0
    histogram: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def add(self, entry: Entry) -> None:
        """Count one picture."""
        if entry.failure is not None:
            self.failures[entry.failure.reason] += 1
        elif entry.box is None:
            self.duplicates += 1
        else:
            labels = entry.box.labels or ()
            self.pictures += 1
            self.boxes += len(labels)
            self.labels.update(labels)
            self.histogram[next((name for name, most in BINS if len(labels) <= most), ">50")] += 1

    @property
    def items(self) -> int:
        """Pictures of the input, failed and repeated ones included."""
        return self.pictures + self.duplicates + self.failures.total()

    def summary(self) -> dict[str, Any]:
        """Plain values, bins in order, the commonest labels first."""
        common = sorted(self.labels.items(), key=lambda pair: (-pair[1], pair[0]))[:TOP_LABELS]
        return {
            "pictures": self.pictures,
            "duplicates": self.duplicates,
            "boxes": self.boxes,
            "boxes_a_picture": {name: self.histogram[name] for name in (*dict(BINS), ">50")},
            "labels": dict(common),
            "failures": dict(sorted(self.failures.items())),
        }


def detect(
    items: Iterable[Named],
    finder: Finder,
    *,
    seen: dict[str, ItemError | None],
    known: dict[str, Entry],
    batch_size: int,
    workers: int,
) -> Generator[tuple[Entry, Image.Image | None]]:
    """One entry for each picture of the input, in order, with the decoded picture where the entry has boxes.

    Args:
        items: pictures by name.
        finder: finds the objects.
        seen: pictures that were looked at, by hash, with why that failed; grows.
        known: what became of each URI; grows.
        batch_size: pictures that the detector gets at once.
        workers: decoding processes; 0 for none.
    """
    with closing(open_pictures(items, known=set(known), workers=workers)) as opened:
        for window in _windows(opened, batch_size, set(seen)):
            found = _found(finder, [one for one, new in window if new])
            for one, _ in window:
                yield _entry(one, found.get(id(one)), seen, known), one.picture


def _found(finder: Finder, new: list[Opened]) -> dict[int, Detections | ItemError]:
    """What is in each new picture, by the `id` of its `Opened`."""
    recalled = {id(one): finder.recall(one) for one in new}
    found = {key: value for key, value in recalled.items() if value is not None}
    rest = [one for one in new if id(one) not in found]
    results = finder.find([one.picture for one in rest if one.picture is not None]) if rest else []
    return found | dict(zip(map(id, rest), results, strict=True))


def _windows(opened: Iterable[Opened], batch_size: int, seen: set[str]) -> Iterator[list[tuple[Opened, bool]]]:
    """Runs of pictures that hold at most `batch_size` new ones, which are marked."""
    window: list[tuple[Opened, bool]] = []
    fresh = 0
    for one in opened:
        new = one.picture is not None and one.sha256 not in seen
        seen.add(one.sha256)
        fresh += new
        window.append((one, new))
        if fresh == batch_size or len(window) >= batch_size * WINDOW_PER_BATCH:
            yield window
            window, fresh = [], 0
    if window:
        yield window


def _entry(
    one: Opened, found: Detections | ItemError | None, seen: dict[str, ItemError | None], known: dict[str, Entry]
) -> Entry:
    if isinstance(one.item, Failure):
        return Entry(id=one.item.id, failure=one.item)
    sample, media = one.item
    error = found if isinstance(found, ItemError) else one.error
    if media.data is None and media.uri in known:
        before = known[media.uri]
        failure = before.failure and msgspec.structs.replace(before.failure, id=sample.id)
        return Entry(id=sample.id, sha256=before.sha256, failure=failure)
    box = None
    if isinstance(found, Detections) and one.picture is not None:
        box = _record(media.name, one.sha256, one.picture, found)
    if error is None and box is None:
        error = seen.get(one.sha256)
    if one.sha256:
        seen.setdefault(one.sha256, error)
    entry = Entry(sample.id, one.sha256, box, _failure(sample.id, media.name, error))
    if media.data is None:
        known[media.uri] = msgspec.structs.replace(entry, box=None)
    return entry


def _failure(id: SampleId, name: str, error: ItemError | None) -> Failure | None:
    if error is None:
        return None
    failure = Failure.of(id, STAGE, error)
    return failure if id == name else msgspec.structs.replace(failure, detail=f"{name}: {error.detail}")


def _record(name: str, sha256: str, picture: Image.Image, found: Detections) -> BoxRecord:
    return BoxRecord(
        image=name,
        sha256=sha256,
        width=picture.width,
        height=picture.height,
        boxes=found.boxes,
        scores=found.scores,
        labels=found.labels,
        tags=found.tags,
    )


class Output:
    """An output folder that grows by entries in input order and goes on where it stopped.

    Args:
        folder: to write.
        format: one of `mgtool.boxformats.FORMATS`.
        shard_size: records of a shard.
        visualize: number of pictures to draw.
    """

    def __init__(self, folder: Path, *, format: str, shard_size: int = SHARD_SIZE, visualize: int = 0) -> None:
        self.folder, self.statistics = folder, Statistics()
        self._format, self._shard_size, self._visualize = format, shard_size, visualize
        self._journal = Journal(folder / JOURNAL)
        self._shard: list[BoxRecord] = []

    def clear(self) -> None:
        """Remove what an earlier run wrote."""
        shutil.rmtree(self.folder / VISUALIZED, ignore_errors=True)
        names = (JOURNAL, FAILURES_FILE, "run.json", "boxes.json", "images.json", "boxes.parquet")
        for path in [*list_shards(self.folder, PREFIX, SUFFIX), *(self.folder / name for name in names)]:
            path.unlink(missing_ok=True)

    def resume(self, items: Iterator[Named], seen: dict[str, ItemError | None], known: dict[str, Entry]) -> None:
        """Take up an earlier run's entries, and move `items` past them."""
        sweep(self.folder)
        for entry in self._journal.read(Entry):
            item = next(items, None)
            failed = entry.failure
            if entry.sha256:
                seen.setdefault(entry.sha256, None if failed is None else ItemError(failed.reason, failed.detail))
            if isinstance(item, tuple) and item[1].data is None:
                known.setdefault(item[1].uri, msgspec.structs.replace(entry, box=None))
            self._count(entry)

    def add(self, entry: Entry, picture: Image.Image | None) -> None:
        """Write one entry; with its first boxes, the drawn picture."""
        if entry.box is not None and picture is not None and self.statistics.pictures < self._visualize:
            self._draw(entry.box, picture)
        self._journal.append(entry)
        self._count(entry)

    def finish(self) -> None:
        """Write the last shard (or the one file of another form) and the failures; nothing hidden stays."""
        if self._format == "jsonl":
            if self._shard or not self.statistics.pictures:
                self._write_shard()
        else:
            boxformats.write(self._format, self.folder, self._records, self._pairs())
        write_lines(self.folder / FAILURES_FILE, (e.failure for e in self._entries() if e.failure is not None))

    def close(self, *, done: bool = False) -> None:
        """Close the journal; when the run is done, delete it."""
        if done:
            self._journal.remove()
        else:
            self._journal.close()

    def _count(self, entry: Entry) -> None:
        self.statistics.add(entry)
        if entry.box is not None and self._format == "jsonl":
            self._shard.append(entry.box)
            if len(self._shard) == self._shard_size:
                self._write_shard()

    def _write_shard(self) -> None:
        index = max(0, self.statistics.pictures - 1) // self._shard_size
        path = self.folder / shard_name(PREFIX, index, SUFFIX)
        if not path.exists():
            write_lines(path, self._shard)
        self._shard = []

    def _draw(self, box: BoxRecord, picture: Image.Image) -> None:
        folder = self.folder / VISUALIZED
        folder.mkdir(parents=True, exist_ok=True)
        name = Path(box.image).stem.replace("/", "_")[:80]
        draw(picture, box.detections).save(folder / f"{self.statistics.pictures:06d}-{name}.png")

    def _entries(self) -> Iterator[Entry]:
        return self._journal.read(Entry)

    def _records(self) -> Iterator[BoxRecord]:
        return (entry.box for entry in self._entries() if entry.box is not None)

    def _pairs(self) -> Iterator[tuple[SampleId, BoxRecord]]:
        """Each sample's id with its picture's record; the sample's first picture speaks for it."""
        records: dict[str, BoxRecord] = {}
        done: set[SampleId] = set()
        for entry in self._entries():
            if entry.box is not None:
                records[entry.sha256] = entry.box
            if entry.failure is None and entry.id not in done:
                done.add(entry.id)
                yield entry.id, records[entry.sha256]


def run(
    items: Iterator[Named],
    finder: Finder,
    output: Output,
    *,
    batch_size: int,
    workers: int,
    advance: Callable[[int], None] = lambda n: None,
) -> Statistics:
    """Detect what is left of the input and write it; errors as the finder's, and `OutputError`."""
    seen: dict[str, ItemError | None] = {}
    known: dict[str, Entry] = {}
    output.resume(items, seen, known)
    advance(output.statistics.items)
    try:
        found = detect(items, finder, seen=seen, known=known, batch_size=batch_size, workers=workers)
        with closing(found) as entries:
            for entry, picture in entries:
                output.add(entry, picture)
                advance(1)
        output.finish()
    finally:
        output.close()
    return output.statistics
