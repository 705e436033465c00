"""An index of all samples of some tars, in a Parquet file, and samples at random by it."""

from __future__ import annotations

import io
import itertools
import os
import posixpath
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from mgtool.errors import InputError, ItemError
from mgtool.files.atomic import atomic_file
from mgtool.records import Failure, Sample, SampleId, dumps, parse
from mgtool.tars import box_parts, index_file, samples
from mgtool.tars.index_file import INDEX_FILE
from mgtool.tars.members import looks_like_tar, read_members
from mgtool.tars.paths import find, open_url

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow

WIDS_INDEX_FILE = "index.json"

_BATCH_ROWS = 1 << 14
_END = bytes(1024)
_JSON_PART, _BOXES_PART = ".json", ".boxes.npy"


class SampleEntry(NamedTuple):
    """Where a sample lies, and what one chooses samples by.

    Attributes:
        id: its own id as text; the key where it has none.
        key: the common name of its members.
        shard: the tar's name.
        offset, size: its members in the tar, in bytes.
        width, height: of its first picture in pixels; 0 where the JSON does not say.
        boxes: their number.
    """

    id: str
    key: str
    shard: str
    offset: int
    size: int
    width: int
    height: int
    boxes: int


class _About(msgspec.Struct):
    """What the index takes of a sample's JSON, mgtool's or img2dataset's."""

    id: SampleId | None = None
    question_id: SampleId | None = None
    images: tuple[samples.PackedPicture, ...] = ()
    width: int = 0
    height: int = 0


class TarIndex(Sequence[Sample]):
    """The samples of some tars by position and by id, each read when it is asked for."""

    def __init__(self, parts: Sequence[tuple[pyarrow.Table, Sequence[str]]]) -> None:
        import pyarrow

        self._table = pyarrow.concat_tables([table for table, _ in parts]).combine_chunks()
        self._ends = list(itertools.accumulate(len(table) for table, _ in parts))
        self._urls = [{posixpath.basename(url): url for url in urls} for _, urls in parts]

    @classmethod
    def of(cls, source: str | Path | Sequence[str | Path]) -> TarIndex:
        """The index of tars as `mgtool.open_tars` takes them: the one beside them, else made by reading over them.

        Raises:
            InputError: no tar there, or one that is compressed or broken.
        """
        folders = [list(beside) for _, beside in itertools.groupby(find(source), posixpath.dirname)]
        return cls([(_indexed(urls), urls) for urls in folders])

    def __len__(self) -> int:
        """Number of samples."""
        return int(self._table.num_rows)

    def __getitem__(self, position: Any) -> Any:
        """The sample at a position.

        Raises:
            ItemError: a sample that cannot be used.
        """
        if isinstance(position, slice):
            return [self[one] for one in range(*position.indices(len(self)))]
        entry = self.entry(position)
        url = self._urls[bisect_right(self._ends, position % len(self))][entry.shard]
        with open_url(url) as file:
            file.seek(entry.offset)
            data = file.read(entry.size)
        for parts in samples.read_parts(io.BytesIO(data + _END), offset=entry.offset):
            if parts.key != entry.key:
                raise ItemError("missing", f"{url}: {parts.key} where {INDEX_FILE} has {entry.key}: delete the index")
            found = samples.sample(parts)
            if isinstance(found, Failure):
                raise ItemError(found.reason, found.detail)
            return found
        raise ItemError("missing", f"{url}: nothing at byte {entry.offset}")

    def entry(self, position: int) -> SampleEntry:
        """Where the sample at a position lies."""
        if not -len(self) <= position < len(self):
            raise IndexError(f"position {position} of {len(self)} samples")
        row = position % len(self)
        return SampleEntry(*(column[row].as_py() for column in self._table.columns))

    def sample(self, id: SampleId) -> Sample:
        """The first sample with an id.

        Raises:
            ItemError: ``unknown_id``, or a sample that cannot be used.
        """
        import pyarrow.compute

        row = pyarrow.compute.index(self._table["id"], str(id)).as_py()
        if row < 0:
            raise ItemError("unknown_id", f"no sample has the id {id}")
        found: Sample = self[row]
        return found


def _indexed(urls: Sequence[str]) -> pyarrow.Table:
    """The index of tars of one folder."""
    fitting = _fitting(Path(urls[0]).with_name(INDEX_FILE), urls)
    if fitting is not None:
        return fitting
    return _table([entry for url in urls for entry in scan(url)], index_file.schema(_sizes(urls)))


def _fitting(path: Path, urls: Sequence[str]) -> pyarrow.Table | None:
    """The index in a file, where it is one of these tars; what is not has nothing that the tars have not."""
    sizes = _sizes(urls)
    if len(sizes) != len(urls) or not path.is_file():
        return None
    try:
        with path.open("rb") as file:  # pyarrow itself opens no path that is not UTF-8
            return index_file.read(file, sizes)
    except (OSError, ValueError):
        return None


def write_index(folder: Path, urls: Sequence[str], entries: Iterable[SampleEntry] | None = None) -> Path:
    """Write the index of a folder's tars, batch by batch; one that is there and fits is left alone.

    Args:
        folder: where it goes.
        urls: its tars in order.
        entries: of all tars in order, where they are known; else the tars are read over.
    """
    from pyarrow import parquet

    path = folder / INDEX_FILE
    if _fitting(path, urls) is not None:
        return path
    schema = index_file.schema(_sizes(urls))
    rows = iter(entries) if entries is not None else (entry for url in urls for entry in scan(url))
    with atomic_file(path) as file, parquet.ParquetWriter(file, schema) as writer:
        while batch := list(itertools.islice(rows, _BATCH_ROWS)):
            writer.write_table(_table(batch, schema))
    return path


def totals(path: Path) -> dict[str, int]:
    """Numbers of samples, of samples with a picture, and of boxes in an index."""
    import numpy as np
    from pyarrow import parquet

    found = {"samples": 0, "with_pictures": 0, "boxes": 0}
    with path.open("rb") as opened, parquet.ParquetFile(opened) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=["width", "boxes"]):
            found["samples"] += batch.num_rows
            found["with_pictures"] += int(np.count_nonzero(_int32(batch["width"])))
            found["boxes"] += int(_int32(batch["boxes"]).sum(dtype=np.int64))
    return found


def _int32(column: pyarrow.Array) -> npt.NDArray[np.int32]:
    """A column without gaps; arrow's own way imports pandas, as in `_table`."""
    import numpy as np

    return np.frombuffer(column.buffers()[1], np.int32, len(column), 4 * column.offset)


def scan(url: str) -> Iterator[SampleEntry]:
    """The entries of one tar, in order; pictures are not read.

    Raises:
        InputError: a tar that is compressed or broken.
    """
    name = posixpath.basename(url)
    try:
        with open_url(url) as file:
            if not looks_like_tar(file.read(512)):
                raise ItemError("unsupported", "not a tar, or a compressed one, where nothing can be read at random")
            file.seek(0)
            members = read_members(file, skip=_is_bulk)
            for parts in samples.group(members):
                yield _entry(name, parts)
    except ItemError as error:
        raise InputError(f"{url}: {error}") from error
    except OSError as error:
        raise InputError(f"{url}: cannot be read: {error.strerror or error}") from error


def _is_bulk(name: str) -> bool:
    return not name.endswith((_JSON_PART, _BOXES_PART))


def _entry(shard: str, found: samples.RawSample) -> SampleEntry:
    try:
        about = parse(found.parts.get("json") or b"{}", _About, where=found.key)
    except InputError:
        about = _About()  # a record of another writer, or a broken one: `--verify` says what is wrong with it
    first = about.images[0] if about.images else samples.PackedPicture(width=about.width, height=about.height)
    own = about.question_id if about.question_id is not None else about.id
    return SampleEntry(
        id=found.key if own is None else str(own),
        key=found.key,
        shard=shard,
        offset=found.offset,
        size=found.end - found.offset,
        width=first.width,
        height=first.height,
        boxes=_box_count(found.parts.get("boxes.npy")),
    )


def _box_count(data: bytes | None) -> int:
    try:
        return 0 if data is None else len(box_parts.read_boxes(data, ""))
    except ItemError:
        return 0  # as in `_entry`


def _table(entries: Iterable[SampleEntry], schema: pyarrow.Schema) -> pyarrow.Table:
    """Rows by way of JSON: arrow's other ways import pandas where it is installed, which takes a second."""
    from pyarrow import json

    lines = b"\n".join(dumps(entry._asdict()) for entry in entries)
    if not lines:
        return schema.empty_table()
    parsing = json.ParseOptions(explicit_schema=schema, newlines_in_values=False)
    table = json.read_json(io.BytesIO(lines), json.ReadOptions(use_threads=False), parsing)
    return table.replace_schema_metadata(schema.metadata)


def _sizes(urls: Sequence[str]) -> dict[str, int]:
    """What an index belongs to: names and sizes of local tars."""
    return {posixpath.basename(url): os.path.getsize(url) for url in urls if "://" not in url}  # noqa: PTH202
