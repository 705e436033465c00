"""From pictures to box records: each distinct picture once, in input order, whatever the workers and the batch size."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing

import msgspec

from mgtool.boxes.statistics import BoxStatistics
from mgtool.detection.batch_size import BatchSize
from mgtool.detection.finder import Finder, Found
from mgtool.detection.known_entries import Drawn, KnownEntries, among_known
from mgtool.detection.ledger import Ledger
from mgtool.detection.options import DetectOptions
from mgtool.detection.output import DetectionEntry, DetectionOutput
from mgtool.detection.picture_loader import Content, Named, Opened, open_pictures
from mgtool.errors import ItemError, ResumeError
from mgtool.media.limits import MAX_PIXELS
from mgtool.records import Advance, BoxRecord, Detections, Failure, FrameDetections, SampleId
from mgtool.runs import progress

WINDOW_PER_BATCH = 8
WINDOW_PIXELS = MAX_PIXELS
"""Of the pictures that are looked at together, unless one alone has more."""


def fill(
    items: Iterator[Named],
    finder: Finder,
    output: DetectionOutput,
    *,
    batch: BatchSize,
    workers: int,
    frames: int = DetectOptions.frames,
    max_pixels: int = DetectOptions.max_pixels,
    advance: Advance = lambda n: None,
    known: KnownEntries = KnownEntries(),  # noqa: B008 - empty
) -> BoxStatistics:
    """Detect what is left of the input and write it; arguments as of `detect`, errors as the finder's.

    What is `known` is taken over.

    Raises:
        ResumeError: the input has other items than the output.
        OutputError: the output cannot be written.
    """
    ledger, seen = Ledger(), set[bytes]()
    _resume(items, output, ledger, seen)
    progress.known(advance, output.statistics.items)
    look = functools.partial(
        detect, finder=finder, ledger=ledger, batch=batch, workers=workers, frames=frames, max_pixels=max_pixels
    )
    try:
        with closing(among_known(items, output.statistics.items, known, look)) as entries:
            for entry, content in entries:
                kept = entry.unless_in(seen) if known else entry
                _write(kept, content, output, finder)
                progress.failed(advance, kept.failure)
                advance(1)
        output.finish()
    finally:
        output.close()
    return output.statistics


def _write(entry: DetectionEntry, content: Content | Drawn, output: DetectionOutput, finder: Finder) -> None:
    """Write an entry and its drawing, which an earlier run may have made."""
    if isinstance(content, Content):
        output.draw(entry, content, finder.draw)
    elif entry.box is not None:
        output.copy_drawn(*content)
    output.add(entry)


def _resume(items: Iterator[Named], output: DetectionOutput, ledger: Ledger, seen: set[bytes]) -> None:
    """Go past the items that the output has entries of; `seen` are told the hashes of what has boxes."""
    for entry in output.resume():
        item = next(items, None)
        found = item[0].id if isinstance(item, tuple) else item and item.id
        if found != entry.id:
            now = "has ended" if item is None else f"has {found}"
            raise ResumeError(
                f"{output.folder} holds {entry.id} where the input {now}: choose another `out` or add `overwrite`"
            )
        entry.unless_in(seen)
        if isinstance(item, tuple):
            ledger.settle(item[1], entry)


def detect(
    items: Iterable[Named],
    finder: Finder,
    *,
    ledger: Ledger,
    batch: BatchSize,
    workers: int,
    frames: int = DetectOptions.frames,
    max_pixels: int = DetectOptions.max_pixels,
) -> Generator[tuple[DetectionEntry, Content]]:
    """One entry for each picture and video of the input, in order, with what its file held.

    Args:
        items: pictures and videos by name.
        finder, batch: finds the objects, in so many pictures at once.
        ledger: what is done; grows.
        workers: decoding processes; 0 for none.
        frames: of a video.
        max_pixels: of a picture or video; larger ones are failures.
    """
    wanted = {"workers": workers, "frames": frames, "max_pixels": max_pixels}
    with closing(open_pictures(items, is_new=ledger.is_new, batch=lambda: batch.now, **wanted)) as opened:
        for window, found in _in_flight(_windows(opened, batch, ledger), finder, batch):
            for one in window:
                yield _entry(one, found.get(id(one)), ledger), one.content
                one.content.close()


def _in_flight(
    windows: Iterable[list[tuple[Opened, bool]]], finder: Finder, batch: BatchSize
) -> Iterator[tuple[list[Opened], dict[int, Found]]]:
    """Each window with what was found in its new pictures, by object identity; some windows ahead are begun."""
    begun: deque[tuple[list[Opened], list[Opened], Callable[[], list[Found]]]] = deque()
    for window in windows:
        new = [one for one, fresh in window if fresh]
        begun.append(([one for one, _ in window], new, finder.submit(new, batch)))
        if len(begun) > finder.ahead:
            yield _finished(*begun.popleft())
    while begun:
        yield _finished(*begun.popleft())


def _finished(
    window: list[Opened], new: list[Opened], found: Callable[[], list[Found]]
) -> tuple[list[Opened], dict[int, Found]]:
    return window, dict(zip(map(id, new), found(), strict=True))


def _windows(opened: Iterable[Opened], batch: BatchSize, ledger: Ledger) -> Iterator[list[tuple[Opened, bool]]]:
    """Runs of items with a batch of new pictures, as far as videos and large pictures allow; new ones are marked."""
    window: list[tuple[Opened, bool]] = []
    pictures = pixels = 0
    for one in opened:
        content = one.content
        if window and pixels + content.pixels > WINDOW_PIXELS:
            yield window
            window, pictures, pixels = [], 0, 0
        new = bool(content.pictures) and ledger.is_new_content(content.sha256)
        pictures += len(content.pictures) if new else 0
        pixels += content.pixels
        window.append((one, new))
        if pictures >= batch.now or len(window) >= batch.now * WINDOW_PER_BATCH:
            yield window
            window, pictures, pixels = [], 0, 0
    if window:
        yield window


def _entry(one: Opened, found: Found | None, ledger: Ledger) -> DetectionEntry:
    if isinstance(one.item, Failure):
        return DetectionEntry(id=one.item.id, failure=one.item)
    (sample, media), content = one.item, one.content
    if not content.sha256 and content.error is None:
        sha256, failure = ledger.outcome(media)
        failure = failure and msgspec.structs.replace(failure, id=sample.id)
        return DetectionEntry(sample.id, sha256, failure=failure, name="" if failure else media.name)
    error = found if isinstance(found, ItemError) else content.error
    box = _record(media.name, content, found) if isinstance(found, tuple) else None
    if error is None and box is None:
        error = ledger.error(content.sha256)
    again = media.name if error is None and box is None else ""
    entry = DetectionEntry(sample.id, content.sha256, box, _failure(sample.id, media.name, error), again)
    ledger.settle(media, entry)
    return entry


def _failure(id: SampleId, name: str, error: ItemError | None) -> Failure | None:
    if error is None:
        return None
    failure = Failure.of(id, "detect", error)
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
