"""Answers of earlier runs, for prompts that come again."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from mgtool.errors import OutputError
from mgtool.files.local import refuse_url
from mgtool.files.no_links import refuse_links
from mgtool.inference.grouping import Prompt
from mgtool.records import FinishReason, canonical, decode

_FILE = "answers.sqlite"  # its column and the keys keep their first names: answers of earlier versions stay good
_PATIENCE_S = 120.0
"""How long a process waits for others that write."""


class KeptAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer without its sample.

    Attributes:
        text: the answer.
        finish_reason: why it ended.
        tokens: their number.
        notes: further entries of the answer's metadata.
        prompt: the question as it was asked, where it was cut.
    """

    text: str
    finish_reason: FinishReason
    tokens: int
    notes: dict[str, Any] = msgspec.field(default_factory=dict)
    prompt: str = ""


class AnswerCache:
    """A database of answers by all that they depend on; several processes of one machine may use it.

    Args:
        folder: made where it does not exist.
        identity: what answers depend on beside their prompts.
        by_id: an answer depends on its sample's id, too, as it does in sampling.
        settled: only answers that are there now are found, whatever is added while this one is open.

    Raises:
        OutputError: the folder cannot be used.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], *, by_id: bool, settled: bool = False) -> None:
        self.by_id, self._identity = by_id, dict(identity)
        refuse_url("cache", folder)
        self._file = folder / _FILE
        for name in (_FILE, *(f"{_FILE}-{end}" for end in ("journal", "wal", "shm"))):
            refuse_links(folder / name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._database = self._reading = self._connect()
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, drawn BLOB) WITHOUT ROWID"
            )
            if settled:
                self._reading = self._connect()
                self._reading.execute("BEGIN")
                self._reading.execute("SELECT key FROM answers LIMIT 1").fetchone()  # reads from here on are of now
        except (OSError, sqlite3.Error) as error:
            raise OutputError(f"`cache` {folder}: cannot be used: {error}") from error

    def find(self, prompt: Prompt) -> list[KeptAnswer] | None:
        """The answers to a prompt; None where there are none yet.

        Raises:
            OutputError: what is there is no cache, or a broken one.
        """
        try:
            row = self._reading.execute("SELECT drawn FROM answers WHERE key = ?", (self._key(prompt),)).fetchone()
            return None if row is None else decode(row[0], list[KeptAnswer])
        except (sqlite3.Error, msgspec.DecodeError, UnicodeDecodeError, TypeError) as error:
            raise OutputError(f"`cache` {self._file}: cannot be read: {error}; give another folder") from error

    def add(self, prompt: Prompt, answers: list[KeptAnswer]) -> None:
        """Keep the answers to a prompt.

        Raises:
            OutputError: the disk is full or the like.
        """
        try:
            self._database.execute(
                "INSERT OR IGNORE INTO answers VALUES (?, ?)", (self._key(prompt), msgspec.json.encode(answers))
            )
        except sqlite3.Error as error:
            raise OutputError(f"{self._file}: cannot be written: {error}") from error

    def close(self) -> None:
        """Close the database."""
        self._reading.close()
        self._database.close()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, timeout=_PATIENCE_S, isolation_level=None)

    def _key(self, prompt: Prompt) -> bytes:
        own = {
            "shown": [media.key for media in prompt.media],
            "ids": prompt.ids,
            "name": prompt.sample.id if self.by_id else None,
        }
        return hashlib.sha256(canonical(self._identity | own)).digest()
