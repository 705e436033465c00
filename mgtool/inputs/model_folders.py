"""Folders of models, without loading what is in them."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from mgtool.errors import CheckpointError, InputError, UsageError
from mgtool.files.checkpoints import check_folder
from mgtool.files.configurations import check_files
from mgtool.files.hashing import file_sha256
from mgtool.inputs import hub
from mgtool.records import canonical, parse
from mgtool.runs.run_file import RUN_FILE

SHIPPED = ("tiny",)
"""Models that come with mgtool, by name."""
FOREIGN = "hf:"
"""What a model's name begins with that is one of transformers: then a folder, or ``owner/name`` of the hub."""

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


def is_foreign(model: Path) -> bool:
    """Whether a model is one of transformers and none that `mgtool import` wrote.

    >>> is_foreign(Path("hf:owner/name")), is_foreign(Path("models/hf"))
    (True, False)
    """
    return str(model).startswith(FOREIGN)


def local_folder(model: Path, *, with_weights: bool = True) -> Path:
    """Where a model's files are; one of the hub is downloaded first, without its weights where they are not needed.

    Raises:
        InputError: no such folder, or no such model of the hub.
    """
    if not is_foreign(model):
        return model
    given = str(model).removeprefix(FOREIGN)
    folder = Path(given).expanduser()
    if folder.is_dir():
        return folder
    if not hub.is_name(given):
        raise InputError(f"`model` {model}: there is no folder {folder}; models of the hub are hf:owner/name")
    return hub.downloaded(given, with_weights=with_weights)


def model_name(model: Path) -> str:
    """What a model is called in its answers.

    >>> model_name(Path("hf:owner/name")), model_name(Path("models/mine"))
    ('name', 'mine')
    """
    return (Path(str(model).removeprefix(FOREIGN)) if is_foreign(model) else model).resolve().name


def check_config(folder: Path, *, takes_foreign: bool = False) -> None:
    """Raise an `InputError` where a folder holds no model's configuration, or one of transformers that is not taken."""
    if is_foreign(folder):
        _check_foreign(folder, is_taken=takes_foreign)
        return
    check_files(folder)
    if not (folder / _CONFIG).is_file():
        raise InputError(f"`model` {folder} holds no model (no config.json); `mgtool import` makes one")


def _check_foreign(model: Path, *, is_taken: bool) -> None:
    if not is_taken:
        raise UsageError("model", f"{model}: takes a folder that `mgtool import` wrote, and no other model")
    folder = local_folder(model, with_weights=False)
    check_files(folder)
    if not (folder / _CONFIG).is_file():
        raise InputError(f"`model` {model} holds no model of transformers (no config.json)")


def check_model(folder: Path, *, takes_foreign: bool = False) -> None:
    """Raise an `InputError` where a folder holds no model, or one that is not whole; arguments as of `check_config`."""
    check_config(folder, takes_foreign=takes_foreign)
    if is_foreign(folder):
        check_folder(local_folder(folder, with_weights=False))
        return
    check_folder(folder)
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
    check_model(folder, takes_foreign=True)
    folder = local_folder(folder)
    record, noted = folder / RUN_FILE, dict[str, str]()
    if record.is_file():
        about = parse(record.read_bytes(), dict[str, Any], where=str(record)).get("model") or {}
        noted = about.get("files") or {}
    hashes = {
        name: known for name, known in noted.items() if name.endswith(_WEIGHTS) and not _is_newer(folder / name, record)
    }
    for path in folder.iterdir():
        if path.suffix in _HASHED and path != record and path.name not in hashes:
            hashes[path.name] = _hub_sha256(path) or file_sha256(path)
    return hashlib.sha256(canonical(hashes)).hexdigest()


def _hub_sha256(path: Path) -> str:
    """The hash by which the hub's cache names a large file; empty for any other."""
    blob = path.resolve()
    is_named = path.is_symlink() and blob.parent.name == "blobs" and len(blob.name) == 64
    return blob.name if is_named else ""


def _is_newer(path: Path, record: Path) -> bool:
    return path.is_file() and path.stat().st_mtime_ns > record.stat().st_mtime_ns
