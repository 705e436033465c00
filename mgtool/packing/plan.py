"""Which sample becomes which member of which shard: decided on disk, before anything is written.

A `ShardPlan` keeps the input's samples in one SQLite file (`Spool`, which workers read) and what is known about them in
another, so that memory stays flat and shards can be made in any order, by any number of workers.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mgtool import records
from mgtool.boxes.index import BoxIndex
from mgtool.errors import InputError, ItemError, OutputError, Reason, ResumeError
from mgtool.files import hashing
from mgtool.media import reading
from mgtool.media.recent import RecentFiles
from mgtool.packing.layout import Base, CompleteShard, Examined, Layout, ShardJob
from mgtool.packing.options import PackOptions, Size
from mgtool.packing.spool import UNSAFE, Spool
from mgtool.packing.survey import HASH_BYTES, Survey, bytes_of, pack_hashes, pieces
from mgtool.records import Failure, Media, Sample, media_of
from mgtool.runs.ray_nodes import Needs, NodeWork

_TABLES = """
CREATE TABLE items (number INTEGER PRIMARY KEY, digest BLOB, bytes INTEGER, content BLOB, pictures BLOB,
                    split INTEGER DEFAULT 0, rank INTEGER DEFAULT 0);
CREATE TABLE refused (number INTEGER PRIMARY KEY, reason TEXT, detail TEXT);
CREATE TABLE known (digest BLOB PRIMARY KEY, content BLOB, split TEXT, shard INTEGER, since INTEGER, pictures BLOB)
                   WITHOUT ROWID;
CREATE TABLE links (picture BLOB PRIMARY KEY, parent BLOB) WITHOUT ROWID;
CREATE TABLE homes (picture BLOB, split TEXT, PRIMARY KEY (picture, split)) WITHOUT ROWID;
"""


_ITEMS_IN_ORDER = """
SELECT split, bytes, number, digest, content, reason, detail FROM items LEFT JOIN refused USING (number)
ORDER BY split, rank, number
"""

_AHEAD_BYTES = 1 << 28
"""Of pictures that the system is told to read before the first shard is begun."""


class _PlannedItem(NamedTuple):
    number: int
    digest: bytes
    content: bytes | None
    reason: Reason | None
    detail: str


class ShardPlan:
    """The order in which samples are packed; `pipeline.planned` makes one, step by step.

    Args:
        folder: an empty folder for its files.
        options: how samples are dealt to shards.
        boxes: where boxes are looked up, by number of the input; None where an input's own are taken.

    Attributes:
        spool: the items.
        samples, failures: numbers of input items.
        skipped: samples that were left out.
        bytes: of the local pictures and videos of all.
        layout: what the samples have in common.
        base: where this run begins.
        needs: what nodes of a cluster have to see; None for the folder here alone.
        work: what each of them does.
        input_sha256: of ids, names, conversations and carried bytes.
    """

    def __init__(self, folder: Path, options: PackOptions, boxes: tuple[BoxIndex | None, ...] = (None,)) -> None:
        self.options, self.boxes = options, boxes
        self._folder = folder
        with self._as_output_error():
            self.spool = Spool(folder / "items.sqlite")
            self._database = sqlite3.connect(folder / "plan.sqlite", isolation_level=None)
            for pragma in UNSAFE:
                self._database.execute(pragma)
            self._database.executescript(_TABLES)
        self.samples = self.failures = self.skipped = self.bytes = 0
        self.input_sha256, self.layout, self.base = "", Layout(), Base()
        self.needs: Needs | None = None
        self.work = NodeWork("samples")
        self._remembers = False

    def close(self) -> None:
        """Close the files."""
        self._database.close()
        self.spool.close()

    def __enter__(self) -> ShardPlan:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()
        if isinstance(error, sqlite3.OperationalError):
            with self._as_output_error():
                raise error

    @contextlib.contextmanager
    def _as_output_error(self) -> Iterator[None]:
        """What SQLite says of a full disk as mgtool says it."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise OutputError(f"{self._folder}: the plan of the run cannot be written: {error}") from error

    def remember(self, shards: Iterable[CompleteShard]) -> None:
        """What is in the shards that are complete."""
        with self._transaction():
            for shard in shards:
                self._remembers = True
                contents: Sequence[bytes | None] = pieces(shard.contents) or [None] * len(shard.pictures)
                items = zip(pieces(shard.digests), contents, shard.pictures, strict=True)
                rows = (
                    (digest, content, shard.split, shard.shard, shard.since, pictures)
                    for digest, content, pictures in items
                )
                self._database.executemany("INSERT OR IGNORE INTO known VALUES (?, ?, ?, ?, ?, ?)", rows)

    def gather(self, inputs: Sequence[Iterator[records.Item]]) -> None:
        """Read the inputs once, and find out what their samples have in common; no picture is decoded.

        Raises:
            InputError: no item at all.
            ResumeError: a picture that changed after it was packed.
        """
        survey = Survey(boxes=any(index is not None for index in self.boxes))
        with self._transaction():
            self.spool.fill(self._surveyed(inputs, survey))
        self.samples, self.failures, self.bytes = survey.samples, survey.failures, survey.bytes
        if not self.samples and not self.failures:
            raise InputError("the input holds no sample")
        self.input_sha256, self.layout = survey.content.hexdigest(), survey.layout()
        if self.options.encoding is not None:
            self.layout = msgspec.structs.replace(self.layout, format=self.options.encoding[0])

    def _surveyed(
        self, inputs: Sequence[Iterator[records.Item]], survey: Survey
    ) -> Iterator[tuple[int, int, records.Item]]:
        numbers = itertools.count()
        with contextlib.closing(RecentFiles()) as files:
            for source, items in enumerate(inputs):
                for number, item in zip(numbers, items, strict=False):
                    digest = survey.add(item)
                    self._read_ahead(item, files, survey.bytes)
                    size = bytes_of(item, files) if self.options.shard_size.bytes else 0
                    row = (number, digest, size)
                    self._database.execute("INSERT INTO items (number, digest, bytes) VALUES (?, ?, ?)", row)
                    if self._remembers:
                        self._refuse_changed(item, digest)
                    yield number, source, item

    def _read_ahead(self, item: records.Item, files: RecentFiles, known: int) -> None:
        """Let the system read what the first shards hold, while the rest of the input is looked at."""
        if known < _AHEAD_BYTES and self.options.shuffle is None and isinstance(item, Sample):
            for media in media_of(item):
                files.announce(media)
        else:
            files.close()

    def _refuse_changed(self, item: records.Item, digest: bytes) -> None:
        row = self._one("SELECT since, pictures FROM known WHERE digest = ?", digest)
        if row is None or isinstance(item, Failure):
            return
        for media, before in zip(media_of(item), pieces(row[1]), strict=False):
            if any(before) and _changed(media, before, row[0]):
                raise ResumeError(f"{media.uri} changed after it was packed: choose another `out` or add `overwrite`")

    def add_to(self, layout: Layout, base: Base) -> None:
        """Leave out what the shards before `base` hold, and forget what later ones do; `layout` is theirs."""
        self.layout, self.base = layout, base
        with self._transaction():
            for split in [row[0] for row in self._database.execute("SELECT DISTINCT split FROM known")]:
                where = "split = ? AND shard >= ?"
                self._database.execute(f"DELETE FROM known WHERE {where}", (split, base.shards.get(split, 0)))  # noqa: S608
            self._database.execute("DELETE FROM items WHERE digest IN (SELECT digest FROM known)")

    def numbers(self) -> Iterator[int]:
        """The items that are still in the plan, in the order of the input."""
        yield from (row[0] for row in self._database.execute("SELECT number FROM items ORDER BY number"))

    def __len__(self) -> int:
        """How many items are still in the plan."""
        return int(self._one("SELECT count(*) FROM items")[0])

    def note(self, examined: Iterable[Examined]) -> None:
        """What workers found in the samples; those that are not wanted leave the plan."""
        with self._transaction():
            for one in examined:
                if one.failure is not None:
                    row = (one.number, one.failure.reason, one.failure.detail)
                    self._database.execute("INSERT INTO refused VALUES (?, ?, ?)", row)
                elif not one.wanted:
                    self._database.execute("DELETE FROM items WHERE number = ?", (one.number,))
                    self.skipped += 1
                else:
                    command = "UPDATE items SET pictures = ?, content = ? WHERE number = ?"
                    self._database.execute(command, (one.pictures, one.content, one.number))

    def arrange(self) -> None:
        """Drop what comes twice, deal samples to splits, and mix them."""
        with self._transaction():
            if self.options.dedupe:
                self._drop_repeated()
            if self.options.split:
                self._deal(self.options.split)
            if self.options.shuffle is not None:
                seed = str(self.options.shuffle).encode()
                self._database.create_function("mixed", 2, functools.partial(_mixed, seed), deterministic=True)
                self._database.execute("UPDATE items SET rank = mixed(digest, number)")

    def _drop_repeated(self) -> None:
        first = "SELECT min(number) FROM items WHERE content IS NOT NULL GROUP BY content"
        known = "SELECT content FROM known WHERE content IS NOT NULL"
        repeated = f"content IS NOT NULL AND (number NOT IN ({first}) OR content IN ({known}))"
        self.skipped += self._database.execute(f"DELETE FROM items WHERE {repeated}").rowcount  # noqa: S608

    def _deal(self, split: Mapping[str, float]) -> None:
        """Samples that hang together by their pictures go to one split: that of earlier tars, or by hash."""
        for (pictures,) in self._rows("SELECT pictures FROM items WHERE length(pictures) > ?", HASH_BYTES):
            self._link(pieces(pictures))
        for pictures, name in self._rows("SELECT pictures, split FROM known"):
            self._link(pieces(pictures))
            taken = ((self._root(picture), name) for picture in pieces(pictures) if any(picture))
            self._database.executemany("INSERT OR IGNORE INTO homes VALUES (?, ?)", taken)
        names = list(split)
        for number, digest, pictures in self._rows("SELECT number, digest, pictures FROM items"):
            root = self._root(pictures[:HASH_BYTES]) if pictures else digest
            homes = [row[0] for row in self._database.execute("SELECT split FROM homes WHERE picture = ?", (root,))]
            chosen = homes[0] if homes else _split_of(root, split)
            self._database.execute("UPDATE items SET split = ? WHERE number = ?", (names.index(chosen), number))
            if len(homes) > 1:
                detail = f"its pictures lie in the splits {' and '.join(homes)} of earlier tars"
                self._database.execute("INSERT OR IGNORE INTO refused VALUES (?, 'unsupported', ?)", (number, detail))

    def _link(self, pictures: Sequence[bytes]) -> None:
        roots = sorted({self._root(picture) for picture in pictures if any(picture)})
        links = ((root, roots[0]) for root in roots[1:])
        self._database.executemany("INSERT INTO links VALUES (?, ?)", links)

    def _root(self, picture: bytes) -> bytes:
        """The least picture of those it hangs together with; what was walked over is shortened."""
        path = [picture]
        while (row := self._one("SELECT parent FROM links WHERE picture = ?", path[-1])) is not None:
            path.append(row[0])
        shortened = ((path[-1], step) for step in path[:-2])
        self._database.executemany("UPDATE links SET parent = ? WHERE picture = ?", shortened)
        return path[-1]

    def jobs(self) -> Generator[ShardJob]:
        """The shards that are to be made, in order."""
        names, key, index, split = self.options.split_names, self.base.key, 0, -1
        items: list[_PlannedItem] = []
        room = Size()
        for one, size_of, *item in self._rows(_ITEMS_IN_ORDER):
            grown = Size(room.samples + 1, room.bytes + size_of)
            if items and (one != split or _over(grown, self.options.shard_size)):
                yield _job(names[split], index, key, items)
                key, index, items, grown = key + len(items), index + 1, [], Size(1, size_of)
            if one != split:
                split, index = one, self.base.shards.get(names[one], 0)
            room = grown
            items.append(_PlannedItem(*item))
        if items:
            yield _job(names[split], index, key, items)

    def _rows(self, query: str, *values: Any) -> Iterator[Any]:
        yield from self._database.execute(query, values)

    def _one(self, query: str, *values: Any) -> Any:
        return self._database.execute(query, values).fetchone()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN")
        yield
        self._database.execute("COMMIT")


def _job(split: str, index: int, key: int, items: Sequence[_PlannedItem]) -> ShardJob:
    contents = [item.content for item in items]
    return ShardJob(
        split,
        index,
        key,
        numbers=[item.number for item in items],
        digests=b"".join(item.digest for item in items),
        contents=b"".join(content or bytes(HASH_BYTES) for content in contents) if any(contents) else b"",
        refused={item.number: ItemError(item.reason, item.detail) for item in items if item.reason is not None},
    )


def _over(grown: Size, limit: Size) -> bool:
    return bool((limit.samples and grown.samples > limit.samples) or (limit.bytes and grown.bytes > limit.bytes))


def _mixed(seed: bytes, digest: bytes, number: int) -> int:
    mixed = hashlib.blake2b(digest + number.to_bytes(8, "big"), key=seed, digest_size=8)
    return int.from_bytes(mixed.digest(), "big", signed=True)


def _split_of(hashed: bytes, split: Mapping[str, float]) -> str:
    """The split of a hash, each as often as its share says."""
    drawn = int.from_bytes(hashed[:8], "big") / 2**64 * sum(split.values())
    for name, share in split.items():
        drawn -= share
        if drawn < 0:
            return name
    return name


def _changed(media: Media, before: bytes, since: int) -> bool:
    """Whether a local file has other bytes than it had; it is read only where it was touched after `since`."""
    if media.data is not None or "://" in media.uri:
        return False
    try:
        if Path(media.uri).stat().st_ctime_ns <= since:
            return False
        return pack_hashes([hashing.sha256(reading.read_bytes(media))]) != before
    except (OSError, ItemError):
        return False
