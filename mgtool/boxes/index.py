"""An index of box records that stays on disk: by a picture's bytes, its name, or the sample's id."""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import sqlite3
from pathlib import Path
from typing import Any

from mgtool.boxes.check import BoxCheck
from mgtool.boxes.coordinates import Coordinates, UnscaledRecord
from mgtool.boxes.formats import entries
from mgtool.boxes.formats.base import BoxEntry
from mgtool.boxes.formats.labelled import are_of_one, stem_of
from mgtool.errors import ItemError, OutputError
from mgtool.files.space import check_space, size_on_disk
from mgtool.files.temporary import temporary_folder
from mgtool.records import BoxRecord, LeftOut, SampleId, dumps, name_text, parse


class BoxIndex:
    """Box records by picture, video or sample id, held in a temporary file; memory stays flat.

    Args:
        path, coordinates: as of `mgtool.boxes.formats.entries`.

    A pickled index opens the same file; only the one that made it deletes it.

    Attributes:
        count: number of records.
        sha256: of the records, whatever form the file had.
        left_out: what the file holds that is not used.
        labels: of the boxes, each once.
    """

    def __init__(self, path: str, coordinates: Coordinates | None = None) -> None:
        self._made = contextlib.ExitStack()
        self._file = str(self._made.enter_context(temporary_folder("boxes")) / "boxes.sqlite")
        self.left_out = LeftOut()
        self.labels: set[str] = set()
        try:
            self._database = sqlite3.connect(self._file)
            self.count = self._fill(path, coordinates)
        except sqlite3.OperationalError as error:
            self._made.close()
            raise OutputError(f"{self._file}: cannot be written: {error}; `tmp` names another folder") from error
        except BaseException:
            self.close()
            raise

    @classmethod
    def of_copy(cls, state: dict[str, Any], file: Path) -> BoxIndex:
        """An index whose `file` was copied to another machine, of what it is pickled as."""
        index = cls.__new__(cls)
        index.__setstate__({**state, "file": str(file)})
        return index

    @property
    def file(self) -> Path:
        """Where it is."""
        return Path(self._file)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "file": self._file,
            "count": self.count,
            "sha256": self.sha256,
            "left_out": self.left_out,
            "labels": self.labels,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._made, self._file = contextlib.ExitStack(), state["file"]
        self.count, self.sha256, self.left_out = state["count"], state["sha256"], state["left_out"]
        self.labels = state["labels"]
        self._database = sqlite3.connect(f"file:{self._file}?mode=ro", uri=True)

    def __enter__(self) -> BoxIndex:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close, and delete the file where this index made it."""
        self._database.close()
        self._made.close()

    def by_bytes(self, sha256: str) -> BoxRecord | None:
        """The record of the picture or video with these bytes."""
        return self._read("s:", sha256)

    def by_id(self, id: SampleId | None) -> BoxRecord | None:
        """The record that the file has under a sample's id; a number and its text are one id."""
        return None if id is None else self._read("d:", str(id))

    def by_image(self, name: str) -> BoxRecord | None:
        """The record of the picture of this name, or of one that the file knows by a part of this name.

        Raises:
            ItemError: ``bad_boxes`` where several records may be of it.
        """
        return self._read("i:", _plain(name)) or self._by_ending(_plain(name))

    def by_video(self, name: str) -> BoxRecord | None:
        """The record of the video of this name."""
        return self._read("v:", _plain(name))

    def _read(self, prefix: str, key: str) -> BoxRecord | None:
        if not key:
            return None
        query = "SELECT data, is_unscaled FROM keys JOIN records ON record = number WHERE key = ?"
        row = self._database.execute(query, (prefix + key,)).fetchone()
        return None if row is None else self._parsed(*row)

    def _by_ending(self, name: str) -> BoxRecord | None:
        """The one record of an annotation tool whose name ends as this one, or this one as it."""
        query = "SELECT data, is_unscaled FROM endings JOIN records ON record = number WHERE stem = ?"
        records = [self._parsed(*row) for row in self._database.execute(query, (_stem(name),))] if name else []
        fitting = [record for record in records if are_of_one(record.image, name)]
        if len(fitting) > 1:
            several = " and ".join(record.image for record in fitting[:2])
            raise ItemError("bad_boxes", f"{several} may both be {name}: start its name in a higher folder")
        return fitting[0] if fitting else None

    def _parsed(self, data: bytes, is_unscaled: int) -> BoxRecord:
        return parse(data, UnscaledRecord if is_unscaled else BoxRecord, where=self._file)

    def _fill(self, path: str, coordinates: Coordinates | None) -> int:
        database = self._database
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.execute("CREATE TABLE records (number INTEGER PRIMARY KEY, data BLOB, is_unscaled INTEGER)")
        database.execute("CREATE TABLE keys (key TEXT PRIMARY KEY, record INTEGER) WITHOUT ROWID")
        database.execute("CREATE TABLE endings (stem TEXT, record INTEGER)")
        check_space(Path(self._file).parent, size_on_disk([path]), "`tmp` names another folder")
        number, content, check = 0, hashlib.sha256(), BoxCheck(self.left_out)
        for number, entry in enumerate(entries(path, self.left_out, coordinates), 1):
            looked = check.look(entry.record, entry.read_as)
            self.labels.update(looked.labels or (), *(frame.labels for frame in looked.frames or ()))
            data, is_unscaled = dumps(looked), isinstance(looked, UnscaledRecord)
            content.update(data + b"\n")
            database.execute("INSERT INTO records VALUES (?, ?, ?)", (number, data, is_unscaled))
            names = ((key, number) for key in _keys(entry))
            if not database.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?)", names).rowcount:
                self.left_out.add("box records of pictures that came before", str(entry.id or _name(entry.record)))
            elif entry.is_loose:
                database.execute("INSERT INTO endings VALUES (?, ?)", (_stem(_plain(looked.image)), number))
        check.refuse_other_coordinates(path)
        database.execute("CREATE INDEX by_stem ON endings (stem)")
        database.commit()
        self.sha256 = content.hexdigest()
        return number


def _stem(name: str) -> str:
    """What the names of one picture have in common."""
    return posixpath.basename(stem_of(name))


def _name(record: BoxRecord) -> str:
    return record.image or record.video or record.sha256


def _plain(name: str) -> str:
    """A name as those of pictures are: ``./a.jpg`` is ``a.jpg``."""
    return posixpath.normpath(name_text(name)) if name else ""


def _keys(entry: BoxEntry) -> list[str]:
    """What a record is looked up by; a text may name a picture, as the ids do that `detect` writes."""
    record = entry.record
    named = {"s:": record.sha256, "i:": _plain(record.image), "v:": _plain(record.video)}
    names = [] if isinstance(entry.id, int) else [prefix + name for prefix, name in named.items() if name]
    return names if entry.id is None else [f"d:{entry.id}", *names]
