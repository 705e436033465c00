"""Folders of models, without loading what is in them."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from mgtool.errors import CheckpointError, InputError
from mgtool.files.hashing import file_sha256
from mgtool.records import canonical, parse
from mgtool.runs.run_file import RUN_FILE

SHIPPED = ("tiny",)
"""Models that come with mgtool, by name."""

_CONFIG, _PROCESSOR, _TOKENIZER = "config.json", "processor_config.json", "tokenizer.json"
_VOCABULARIES = ("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
"""What older tokenizers are in place of a tokenizer.json."""
_WEIGHTS = ".safetensors"
_HASHED = (".json", _WEIGHTS, ".bin", ".model", ".txt", ".jinja")


def model_folder(given: str) -> Path:
    """The folder that is meant: a shipped model's where its name is given (``./tiny`` is a folder of that name).

    >>> model_folder("./tiny").as_posix()
    'tiny'
    """
    return Path(str(resources.files("mgtool") / "model" / given)) if given in SHIPPED else Path(given)


def check_config(folder: Path) -> None:
    """Raise an `InputError` where a folder holds no model's configuration."""
    if not (folder / _CONFIG).is_file():
        raise InputError(f"`model` {folder} holds no model (no config.json); `mgtool import` makes one")


def check_model(folder: Path) -> None:
    """Raise an `InputError` where a folder holds no model, or one that is not whole."""
    check_config(folder)
    has_vocabulary = any((folder / name).is_file() for name in _VOCABULARIES)
    for name in (_CONFIG, _PROCESSOR, *([] if has_vocabulary else [_TOKENIZER])):
        path = folder / name
        try:
            msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
        except FileNotFoundError as error:
            raise CheckpointError(f"`model` {folder} is not whole: {name} is missing") from error
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CheckpointError(f"`model` {folder}: {name} cannot be read: {error}") from error


def model_identity(folder: Path) -> str:
    """The hash of a model's files; of weights as `mgtool import` noted it, where they were not written since."""
    check_model(folder)
    record, noted = folder / RUN_FILE, dict[str, str]()
    if record.is_file():
        about = parse(record.read_bytes(), dict[str, Any], where=str(record)).get("model") or {}
        noted = about.get("files") or {}
    hashes = {
        name: known for name, known in noted.items() if name.endswith(_WEIGHTS) and not _is_newer(folder / name, record)
    }
    for path in folder.iterdir():
        if path.suffix in _HASHED and path != record and path.name not in hashes:
            hashes[path.name] = file_sha256(path)
    return hashlib.sha256(canonical(hashes)).hexdigest()


def _is_newer(path: Path, record: Path) -> bool:
    return path.is_file() and path.stat().st_mtime_ns > record.stat().st_mtime_ns
