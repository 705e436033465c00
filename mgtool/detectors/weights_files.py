"""Weights on disk: their hash, and transformers' models and processors from them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mgtool.errors import CheckpointError
from mgtool.files import checkpoints
from mgtool.files.configurations import check_files
from mgtool.files.processor_sizes import check_sizes

CHECKPOINTS = (".pth", ".pt")
"""Endings of files that torch saved."""

_MODEL_FILES = (".safetensors", ".bin", ".json", ".txt", ".model")


def hash_files(paths: Iterable[Path]) -> str:
    """The first 16 hexadecimal digits of a SHA-256 over the files' names and bytes."""
    whole = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            whole.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()[:16]


def model_folder(target: str) -> Path:
    """The folder of a saved transformers model.

    Raises:
        InputError: no such folder, one without a configuration, or one that is not to be read.
    """
    folder = Path(target)
    check_files(folder)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{target}: no config.json there; give the folder that the model was downloaded into")
    return folder


def checkpoint_file(target: str | Path) -> Path:
    """The file of a checkpoint.

    Raises:
        CheckpointError: no such file.
    """
    path = Path(target)
    if not path.is_file():
        raise CheckpointError(f"{target}: no such file; download the checkpoint and give its path")
    return path


def hash_folder(folder: Path) -> str:
    """`hash_files` of a saved model: configuration, tokenizer and weights."""
    return hash_files(path for path in sorted(folder.iterdir()) if path.suffix in _MODEL_FILES and path.is_file())


def quiet() -> None:
    """Nothing of transformers' own on stderr: no progress, no reports of weights that are not used."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def load_pretrained(auto_class: Any, folder: Path, device: str) -> Any:
    """A saved model in float32, from disk alone, in evaluation mode on `device`.

    Raises:
        CheckpointError: files that are not there, do not fit, or leave weights without values.
    """
    import torch

    from mgtool.files.model_size import within_weights

    quiet()
    checkpoints.check_folder(folder)
    kind: dict[str, Any] = {"dtype": torch.float32, "local_files_only": True, "output_loading_info": True}
    with checkpoints.explained(str(folder)), within_weights(folder):
        model, info = auto_class.from_pretrained(folder, trust_remote_code=False, **kind)
    if absent := sorted(info["missing_keys"]):
        raise CheckpointError(f"{folder}: the weights lack {listed(absent)}")
    return model.to(device).eval()


def load_processor(auto_class: Any, folder: Path) -> Any:
    """A saved processor, from disk alone; errors as `load_pretrained`."""
    with checkpoints.explained(f"{folder}: no processor there"):
        processor = auto_class.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    check_sizes(processor, str(folder))
    return processor


def listed(names: list[str], limit: int = 5) -> str:
    """The first names, and how many more there are.

    >>> listed(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
