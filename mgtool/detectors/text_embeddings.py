"""Embeddings of text queries, computed once: kept in memory and, by model, prompt and word, on disk."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_CHUNK = 64
_TABLE = """CREATE TABLE IF NOT EXISTS embeddings
    (model TEXT, prompt TEXT, word TEXT, vector BLOB, PRIMARY KEY (model, prompt, word))"""
_WAIT_SECONDS = 60.0


def default_path() -> Path:
    """Where embeddings are kept: ``$XDG_CACHE_HOME/mgtool``, as a rule ``~/.cache/mgtool``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "mgtool", "text_embeddings.sqlite")


class TextEmbeddings:
    """A word's embedding, from memory, else from disk, else from the model.

    Several processes may share one file. Where it cannot be used, a warning is logged and memory serves alone.

    Args:
        path: an SQLite file that is made when absent.
        model: hash of the weights, and whatever else changes an embedding.
        prompt: what is asked, with ``{}`` for the word.
        encode: n queries -> (n, width) float32 on the CPU.
    """

    def __init__(self, path: Path, model: str, prompt: str, encode: Callable[[list[str]], Tensor]) -> None:
        self._path, self._model, self._prompt, self._encode = path, model, prompt, encode
        self._known: dict[str, Tensor] = {}

    def __call__(self, words: Sequence[str]) -> Tensor:
        """(words, width) float32 on the CPU, in the words' order."""
        self.add(words)
        return torch.stack([self._known[word] for word in words])

    def add(self, words: Iterable[str]) -> None:
        """Make the words known, the new ones in as few passes as there can be."""
        if fresh := [word for word in dict.fromkeys(words) if word not in self._known]:
            self._known |= self._read(fresh)
        fresh = [word for word in fresh if word not in self._known]
        for start in range(0, len(fresh), _CHUNK):
            chunk = fresh[start : start + _CHUNK]
            vectors = dict(zip(chunk, self._encode([self._prompt.format(word) for word in chunk]), strict=True))
            self._write(vectors)
            self._known |= vectors

    def _read(self, words: list[str]) -> dict[str, Tensor]:
        if not self._path.is_file():
            return {}
        query = "SELECT vector FROM embeddings WHERE model = ? AND prompt = ? AND word = ?"
        found = {}
        try:
            with closing(sqlite3.connect(self._path, timeout=_WAIT_SECONDS)) as file:
                for word in words:
                    if row := file.execute(query, (self._model, self._prompt, word)).fetchone():
                        found[word] = torch.from_numpy(np.frombuffer(row[0], dtype="<f4").copy())
        except sqlite3.Error as error:
            self._warn(error)
        return found

    def _write(self, vectors: dict[str, Tensor]) -> None:
        rows = [(self._model, self._prompt, w, v.numpy().astype("<f4").tobytes()) for w, v in vectors.items()]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=_WAIT_SECONDS)) as file, file:
                file.execute(_TABLE)
                file.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        logging.getLogger(__name__).warning("%s: text embeddings are not kept on disk: %s", self._path, error)
