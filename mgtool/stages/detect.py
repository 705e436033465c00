"""Pictures -> box records: each distinct picture once, in input order, whatever the workers and the batch size."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

import msgspec

from mgtool import boxformats
from mgtool.boxstatistics import Statistics
from mgtool.detectors.drawing import Draw
from mgtool.detectors.finding import BatchSize, Finder, Found
from mgtool.detectors.loading import Content, Named, Opened, open_pictures
from mgtool.errors import ItemError
from mgtool.records import BoxRecord, Detections, Failure, FrameDetections, Media, SampleId, parse
from mgtool.shards import FAILURES_FILE, Journal, list_shards, shard_name, sweep, write_lines
from mgtool.videos import FRAMES

STAGE = "detect"
PREFIX, SUFFIX = "boxes", ".jsonl"
JOURNAL = ".detect.journal.jsonl"
VISUALIZED = "visualized"
SHARD_SIZE = 1000
WINDOW_PER_BATCH = 8


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


class Ledger:
    """What was looked at: names and hashes, in some 300 bytes a picture, so that millions fit into memory."""

    def __init__(self) -> None:
        self._names: dict[bytes, bytes] = {}
        self._failed_names: dict[bytes, Failure] = {}
        self._hashes: set[bytes] = set()
        self._failed_hashes: dict[bytes, ItemError] = {}

    def is_new(self, media: Media) -> bool:
        """Whether a file is named for the first time; bytes that came with the input always are."""
        if media.data is not None:
            return True
        key = _key(media.uri)
        if key in self._names:
            return False
        self._names[key] = b""
        return True

    def is_new_content(self, sha256: str) -> bool:
        """Whether these bytes come for the first time."""
        before = len(self._hashes)
        self._hashes.add(bytes.fromhex(sha256))
        return len(self._hashes) > before

    def error(self, sha256: str) -> ItemError | None:
        """Why these bytes could not be used."""
        return self._failed_hashes.get(bytes.fromhex(sha256))

    def outcome(self, media: Media) -> tuple[str, Failure | None]:
        """Hash and failure of a file that was named before."""
        key = _key(media.uri)
        return self._names[key].hex(), self._failed_names.get(key)

    def settle(self, media: Media, entry: Entry) -> None:
        """Remember what became of a picture or video."""
        digest = bytes.fromhex(entry.sha256)
        if entry.sha256:
            self._hashes.add(digest)
        if entry.sha256 and entry.failure is not None:
            detail = entry.failure.detail.removeprefix(f"{media.name}: ")
            self._failed_hashes.setdefault(digest, ItemError(entry.failure.reason, detail))
        if media.data is None and not self._names.get(key := _key(media.uri)):
            self._names[key] = digest
            if entry.failure is not None:
                self._failed_names[key] = entry.failure


def _key(uri: str) -> bytes:
    return hashlib.blake2b(uri.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def detect(
    items: Iterable[Named],
    finder: Finder,
    *,
    ledger: Ledger,
    batch: BatchSize,
    workers: int,
    frames: int = FRAMES,
) -> Generator[tuple[Entry, Content]]:
    """One entry for each picture and video of the input, in order, with what its file held.

    Args:
        items: pictures and videos by name.
        finder: finds the objects.
        ledger: what was looked at; grows.
        batch: pictures that the detector gets at once.
        workers: decoding processes; 0 for none.
        frames: of a video.
    """
    opening = open_pictures(items, is_new=ledger.is_new, workers=workers, frames=frames, batch=lambda: batch.now)
    with closing(opening) as opened:
        for window in _windows(opened, batch, ledger):
            new = [one for one, fresh in window if fresh]
            found = dict(zip(map(id, new), finder.look(new, batch), strict=True))
            for one, _ in window:
                yield _entry(one, found.get(id(one)), ledger), one.content


def _windows(opened: Iterable[Opened], batch: BatchSize, ledger: Ledger) -> Iterator[list[tuple[Opened, bool]]]:
    """Runs of items with a batch of new pictures, as far as videos allow; new ones are marked."""
    window: list[tuple[Opened, bool]] = []
    pictures = 0
    for one in opened:
        content = one.content
        new = bool(content.pictures) and ledger.is_new_content(content.sha256)
        pictures += len(content.pictures) if new else 0
        window.append((one, new))
        if pictures >= batch.now or len(window) >= batch.now * WINDOW_PER_BATCH:
            yield window
            window, pictures = [], 0
    if window:
        yield window


def _entry(one: Opened, found: Found | None, ledger: Ledger) -> Entry:
    if isinstance(one.item, Failure):
        return Entry(id=one.item.id, failure=one.item)
    (sample, media), content = one.item, one.content
    if not content.sha256 and content.error is None:
        sha256, failure = ledger.outcome(media)
        return Entry(sample.id, sha256, failure=failure and msgspec.structs.replace(failure, id=sample.id))
    error = found if isinstance(found, ItemError) else content.error
    box = _record(media.name, content, found) if isinstance(found, tuple) else None
    if error is None and box is None:
        error = ledger.error(content.sha256)
    entry = Entry(sample.id, content.sha256, box, _failure(sample.id, media.name, error))
    ledger.settle(media, entry)
    return entry


def _failure(id: SampleId, name: str, error: ItemError | None) -> Failure | None:
    if error is None:
        return None
    failure = Failure.of(id, STAGE, error)
    return failure if id == name else msgspec.structs.replace(failure, detail=f"{name}: {error.detail}")


def _record(name: str, content: Content, found: tuple[Detections, ...]) -> BoxRecord:
    width, height = content.pictures[0].size
    if content.frames is None:
        (one,) = found
        return BoxRecord(
            image=name, sha256=content.sha256, width=width, height=height,
            boxes=one.boxes, scores=one.scores, labels=one.labels, tags=one.tags,
        )  # fmt: skip
    by_index = dict(zip(content.distinct, found, strict=True))
    frames = tuple(
        FrameDetections(index, time, by_index[index].boxes, by_index[index].scores, by_index[index].labels)
        for index, time in content.frames
    )
    seen = dict.fromkeys(tag for one in found for tag in one.tags or ())
    tags = tuple(seen) if any(one.tags is not None for one in found) else None
    return BoxRecord(video=name, sha256=content.sha256, width=width, height=height, frames=frames, tags=tags)


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

    @property
    def begun(self) -> bool:
        """Whether there is an entry of an earlier run that did not finish."""
        return self._journal.path.is_file() and self._journal.path.stat().st_size > 0

    def clear(self) -> None:
        """Remove what an earlier run wrote."""
        shutil.rmtree(self.folder / VISUALIZED, ignore_errors=True)
        names = (JOURNAL, FAILURES_FILE, "run.json", "boxes.json", "images.json", "boxes.parquet")
        for path in [*list_shards(self.folder, PREFIX, SUFFIX), *(self.folder / name for name in names)]:
            path.unlink(missing_ok=True)

    def resume(self, items: Iterator[Named], ledger: Ledger) -> None:
        """Take up an earlier run's entries, and move `items` past them."""
        sweep(self.folder)
        for entry in self._journal.read(Entry):
            item = next(items, None)
            if isinstance(item, tuple):
                ledger.settle(item[1], entry)
            self._count(entry)

    def add(self, entry: Entry, content: Content, draw: Draw) -> None:
        """Write one entry; with its first boxes, the drawn pictures."""
        if entry.box is not None and self.statistics.records < self._visualize:
            self._draw(entry.box, content, draw)
        self._journal.append(entry)
        self._count(entry)

    def finish(self) -> None:
        """Write the last shard (or the one file of another form) and the failures; nothing hidden stays."""
        if self._format == "jsonl":
            if self._shard or not self.statistics.records:
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
        count(self.statistics, entry)
        if entry.box is not None and self._format == "jsonl":
            self._shard.append(entry.box)
            if len(self._shard) == self._shard_size:
                self._write_shard()

    def _write_shard(self) -> None:
        index = max(0, self.statistics.records - 1) // self._shard_size
        path = self.folder / shard_name(PREFIX, index, SUFFIX)
        if not path.exists():
            write_lines(path, self._shard)
        self._shard = []

    def _draw(self, box: BoxRecord, content: Content, draw: Draw) -> None:
        folder = self.folder / VISUALIZED
        folder.mkdir(parents=True, exist_ok=True)
        start = f"{self.statistics.records:06d}-{Path(box.image or box.video).stem.replace('/', '_')[:80]}"
        if box.frames is None:
            draw(content.pictures[0], box.detections).save(folder / f"{start}.png")
            return
        found = {frame.index: Detections(frame.boxes, frame.scores, frame.labels) for frame in box.frames}
        for index, picture in zip(content.distinct, content.pictures, strict=True):
            draw(picture, found[index]).save(folder / f"{start}-{index}.png")

    def _entries(self) -> Iterator[Entry]:
        return self._journal.read(Entry)

    def _records(self) -> Iterator[BoxRecord]:
        return (entry.box for entry in self._entries() if entry.box is not None)

    def _pairs(self) -> Iterator[tuple[SampleId, BoxRecord]]:
        """Each sample's id with its picture's record; the sample's first picture speaks for it."""
        places: dict[str, int] = {}
        done: set[SampleId] = set()
        path = self.folder / JOURNAL
        if not path.exists():
            return
        with path.open("rb") as file, path.open("rb") as again:
            place = 0
            for line in file:
                entry = parse(line, Entry, where=str(path))
                if entry.box is not None:
                    places[entry.sha256] = place
                place += len(line)
                if entry.failure is None and entry.id not in done:
                    done.add(entry.id)
                    yield entry.id, entry.box or _box_at(again, places[entry.sha256])


def _box_at(journal: IO[bytes], place: int) -> BoxRecord:
    journal.seek(place)
    box = parse(journal.readline(), Entry, where=f"{JOURNAL}, byte {place}").box
    assert box is not None
    return box


def count(statistics: Statistics, entry: Entry) -> None:
    """Count one entry."""
    if entry.failure is not None:
        statistics.failures[entry.failure.reason] += 1
    elif entry.box is None:
        statistics.duplicates += 1
    else:
        statistics.add(entry.box)


def run(
    items: Iterator[Named],
    finder: Finder,
    output: Output,
    *,
    batch: BatchSize,
    workers: int,
    frames: int = FRAMES,
    advance: Callable[[int], None] = lambda n: None,
) -> Statistics:
    """Detect what is left of the input and write it; errors as the finder's, and `OutputError`."""
    ledger = Ledger()
    output.resume(items, ledger)
    advance(output.statistics.items)
    try:
        found = detect(items, finder, ledger=ledger, batch=batch, workers=workers, frames=frames)
        with closing(found) as entries:
            for entry, content in entries:
                output.add(entry, content, finder.draw)
                advance(1)
        output.finish()
    finally:
        output.close()
    return output.statistics
