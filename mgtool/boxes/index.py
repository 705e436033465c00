"""An index of box records that stays on disk: by a picture's bytes, its name, or the sample's id."""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mgtool.boxes.formats import entries
from mgtool.boxes.formats.base import Entry
from mgtool.errors import ItemError, OutputError
from mgtool.records import BoxRecord, Detections, dumps, parse


class BoxIndex:
    """Box records by picture, video or sample id, held in a temporary file; memory stays flat.

    A pickled index opens the same file; only the one that made it deletes it.

    Attributes:
        count: number of records.
        sha256: of the records, whatever form the file had.
    """

    def __init__(self, path: str) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = tempfile.TemporaryDirectory(prefix="mgtool-boxes-")
        self._file = str(Path(self._folder.name) / "boxes.sqlite")
        self._database = sqlite3.connect(self._file)
        try:
            self.count = self._fill(path)
        except sqlite3.OperationalError as error:
            self.close()
            raise OutputError(f"{self._file}: cannot be written: {error}; TMPDIR names another folder") from error
        except BaseException:
            self.close()
            raise

    def __getstate__(self) -> dict[str, Any]:
        return {"file": self._file, "count": self.count, "sha256": self.sha256}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._folder, self._file = None, state["file"]
        self.count, self.sha256 = state["count"], state["sha256"]
        self._database = sqlite3.connect(f"file:{self._file}?mode=ro", uri=True)

    def __enter__(self) -> BoxIndex:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close, and delete the file where this index made it."""
        self._database.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def find_record(
        self,
        *,
        sha256: str | None = None,
        image: str | None = None,
        video: str | None = None,
        id: Any = None,
        size: Callable[[], tuple[int, int]] | None = None,
    ) -> BoxRecord | None:
        """The record of a picture or video: by its bytes, else by its name, else by the sample's id.

        Args:
            sha256, image, video, id: what is known of it.
            size: gives the picture's width and height; asked where the name alone agrees.

        Raises:
            ItemError: ``bad_boxes`` where the picture of that name has another size.
        """
        keys = (f"s:{sha256}" if sha256 else "", f"i:{image}" if image else "", f"v:{video}" if video else "")
        for key in (*keys, f"d:{id}" if id is not None else ""):
            query = "SELECT data FROM keys JOIN records ON record = number WHERE key = ?"
            row = self._database.execute(query, (key,)).fetchone() if key else None
            if row is not None:
                record = parse(row[0], BoxRecord, where=self._file)
                if record.image and record.sha256 != sha256 and size is not None:
                    _refuse_other_size(record, *size())
                return record
        return None

    def find(
        self,
        *,
        sha256: str | None = None,
        image: str | None = None,
        id: Any = None,
        size: Callable[[], tuple[int, int]] | None = None,
    ) -> Detections | None:
        """The objects of a picture; None where the file does not know it (which is not the same as no objects).

        Arguments and errors are those of `find_record`.
        """
        record = self.find_record(sha256=sha256, image=image, id=id, size=size)
        return None if record is None or record.frames is not None else record.detections

    def find_video(
        self, *, sha256: str | None = None, video: str | None = None, id: Any = None
    ) -> tuple[Detections, ...] | None:
        """The objects of each frame of a video, in order of time; None where the file does not know it."""
        record = self.find_record(sha256=sha256, video=video, id=id)
        if record is None or record.frames is None:
            return None
        return tuple(frame.detections for frame in record.frames)

    def _fill(self, path: str) -> int:
        database = self._database
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.execute("CREATE TABLE records (number INTEGER PRIMARY KEY, data BLOB)")
        database.execute("CREATE TABLE keys (key TEXT PRIMARY KEY, record INTEGER) WITHOUT ROWID")
        number, content = 0, hashlib.sha256()
        for number, entry in enumerate(entries(path), 1):
            data = dumps(entry.record)
            content.update(data + b"\n")
            database.execute("INSERT INTO records VALUES (?, ?)", (number, data))
            names = ((key, number) for key in _keys(entry))
            database.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?)", names)
        database.commit()
        self.sha256 = content.hexdigest()
        return number


def _refuse_other_size(record: BoxRecord, width: int, height: int) -> None:
    if record.width and (record.width, record.height) != (width, height):
        is_of = f"{record.width} x {record.height} pixels, the picture has {width} x {height}"
        raise ItemError("bad_boxes", f"{record.image}: the boxes are of one of {is_of}")


def _keys(entry: Entry) -> list[str]:
    """What a record is looked up by; a text may name a picture, as the ids of `detect --format mg-llava` do."""
    record = entry.record
    named = {"s:": record.sha256, "i:": record.image, "v:": record.video}
    names = [] if isinstance(entry.id, int) else [prefix + name for prefix, name in named.items() if name]
    return names if entry.id is None else [f"d:{entry.id}", *names]
