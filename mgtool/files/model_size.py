"""What configurations of strangers ask for: a model that is far larger than its weights is refused while it is made."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from torch.nn.modules import module as hooks

from mgtool.errors import CheckpointError
from mgtool.files.checkpoints import ENDINGS
from mgtool.files.regular import open_regular

_MOST_HEADER_BYTES = 100_000_000
"""Of a safetensors file, as its own reader has it."""
_COPIES = 2
"""Matrices that are tied lie in a file once; two numbers may lie in a byte."""
_SPARE_NUMBERS = 1 << 24
_MODULES_EACH, _SPARE_MODULES = 16, 1 << 13
"""Modules for each tensor of the weights, as most have none."""
_TENSOR_BYTES = 64
"""Least of a tensor in a checkpoint of PyTorch, with its name and shape."""


@contextlib.contextmanager
def within_weights(folder: str | Path) -> Iterator[None]:
    """Within the block, this thread makes no model that is far larger than the weights in a folder.

    Counted are numbers without values (of torch's device ``meta``), as which transformers makes a model before its
    weights are read, and modules.

    Raises:
        CheckpointError: naming how much there is; a weights file that no reader takes is left to its reader.
    """
    with _counted(folder, *_weights_in(Path(folder))):
        yield


@contextlib.contextmanager
def within_numbers(where: str, numbers: int, tensors: int) -> Iterator[None]:
    """The same for weights that are known: so many numbers in so many tensors, from a place that is told."""
    with _counted(where, numbers, tensors):
        yield


@contextlib.contextmanager
def _counted(where: str | Path, numbers: int, tensors: int) -> Iterator[None]:
    counter = _Counter(where, numbers, tensors)
    handles = [
        hooks.register_module_parameter_registration_hook(counter.tensor),
        hooks.register_module_buffer_registration_hook(counter.tensor),
        hooks.register_module_module_registration_hook(counter.module),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Counter:
    """What a thread makes."""

    def __init__(self, where: str | Path, numbers: int, tensors: int) -> None:
        self._where, self._thread = where, threading.get_ident()
        self._given, self._numbers, self._modules = numbers, 0, 0
        self._most_numbers = _COPIES * numbers + _SPARE_NUMBERS
        self._most_modules = _MODULES_EACH * tensors + _SPARE_MODULES

    def tensor(self, module: Any, name: str, tensor: Any) -> None:
        if tensor is not None and tensor.is_meta and threading.get_ident() == self._thread:
            self._numbers += tensor.numel()
            if self._numbers > self._most_numbers:
                self._refuse(f"at least {self._numbers:,} numbers")

    def module(self, module: Any, name: str, child: Any) -> None:
        self._modules += threading.get_ident() == self._thread
        if self._modules > self._most_modules:
            self._refuse(f"more than {self._most_modules:,} modules")

    def _refuse(self, what: str) -> None:
        made = f"its configuration makes a model of {what}"
        raise CheckpointError(f"{self._where}: {made}, its weights are {self._given:,} numbers: they do not fit")


def _weights_in(folder: Path) -> tuple[int, int]:
    """How many numbers, and tensors, the weights in a folder are; at most, where only their bytes are known."""
    numbers = tensors = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.suffix == ".safetensors":
            own, named = _in_safetensors(path)
        elif path.suffix in ENDINGS and path.is_file():
            own, named = path.stat().st_size, path.stat().st_size // _TENSOR_BYTES
        else:
            continue
        numbers, tensors = numbers + own, tensors + named
    return numbers, tensors


def _in_safetensors(path: Path) -> tuple[int, int]:
    try:
        with open_regular(path) as file:
            length = int.from_bytes(file.read(8) or b"", "little")
            if length > _MOST_HEADER_BYTES:
                return 0, 0
            header = msgspec.json.decode(file.read(length) or b"", type=dict[str, msgspec.Raw])
    except (OSError, ValueError, RecursionError, msgspec.DecodeError):
        return 0, 0
    header.pop("__metadata__", None)
    try:
        numbers = sum(math.prod(msgspec.json.decode(raw, type=_Tensor).shape) for raw in header.values())
    except (ValueError, RecursionError, msgspec.DecodeError):
        return 0, 0
    # no more than there are bytes for, whatever shapes a header tells
    return min(numbers, path.stat().st_size), len(header)


class _Tensor(msgspec.Struct):
    shape: list[int]
