"""Folders of models, without loading what is in them."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

from mgtool.errors import InputError
from mgtool.records import parse
from mgtool.shards import RUN_FILE

SHIPPED = ("tiny",)
"""Models that come with mgtool, by name."""

_HASHED = (".json", ".safetensors", ".model", ".txt", ".jinja")


def model_folder(given: str) -> Path:
    """The folder that is meant: a shipped model's where its name is given (``./tiny`` is a folder of that name).

    >>> model_folder("./tiny").as_posix()
    'tiny'
    """
    return Path(str(resources.files(__package__) / "model" / given)) if given in SHIPPED else Path(given)


def check_model(folder: Path) -> None:
    """Raise an `InputError` where a folder holds no model."""
    if not (folder / "config.json").is_file():
        raise InputError(f"--model {folder} holds no model (no config.json); `mgtool import` makes one")


def model_identity(folder: Path) -> str:
    """The hash of a model's files, as `mgtool import` noted it, else as they are."""
    record = folder / RUN_FILE
    if record.is_file():
        hashes = parse(record.read_bytes(), dict[str, Any], where=str(record)).get("sha256")
        if hashes:
            return hashlib.sha256(repr(sorted(hashes.items())).encode()).hexdigest()
    check_model(folder)
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in _HASHED:
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
