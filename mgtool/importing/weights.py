"""Weights in files, listed without reading them and read piece by piece; nothing in a file is ever executed."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mgtool.errors import CheckpointError, InputError
from mgtool.files import checkpoints
from mgtool.records import convert

INERT_PACKAGES = ("deepspeed", "mmengine")
"""Training frameworks whose bookkeeping lies beside the weights; it is read as inert objects."""

_BROKEN = (
    RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, struct.error,
)  # fmt: skip
"""What torch's readers raise on files that are cut off, changed or something else."""

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


_CHECKED = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class WeightSource(Protocol):
    """A file or folder of weights."""

    path: Path

    def load(self) -> Mapping[str, Tensor]:
        """Name -> tensor, mapped from disk; dropping the mapping gives its memory back."""


class TensorEntry(NamedTuple):
    """One tensor that lies in a file."""

    source: WeightSource
    key: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def equals(self, other: TensorEntry) -> bool:
        """Whether another tensor has the same values, of whatever type."""
        if self.shape != other.shape:
            return False
        own, others = (entry.source.load()[entry.key] for entry in (self, other))
        return torch.equal(own, others.to(own.dtype))


Entries = dict[str, TensorEntry]


class TorchFile:
    """A file of `torch.save`: a state dict, or one under ``state_dict``, ``model`` or ``module``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Mapping[str, Tensor]:
        """See `WeightSource`.

        Raises:
            CheckpointError: where the file holds anything but weights, or is broken.
        """
        content = load_torch(self.path)
        for key in ("state_dict", "model", "module"):
            if isinstance(content, dict) and isinstance(content.get(key), dict):
                content = content[key]
        if not isinstance(content, dict):
            raise CheckpointError(f"{self.path} holds a {type(content).__name__}, not a dict of weights")
        return {key: value for key, value in content.items() if isinstance(value, Tensor)}


class SafetensorsFile:
    """A file of safetensors."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Mapping[str, Tensor]:
        """See `WeightSource`."""
        try:
            return _SafetensorsMapping(safe_open(self.path, framework="pt"))
        except (SafetensorError, OSError, ValueError) as error:  # of a name that no path can have, too
            raise CheckpointError(f"{self.path} is not a whole safetensors file: {error}") from error


class _SafetensorsMapping(Mapping[str, Tensor]):
    def __init__(self, file: Any) -> None:
        self._file = file
        self._keys = list(file.keys())

    def __getitem__(self, key: str) -> Tensor:
        return self._file.get_tensor(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


class _Inert:
    """Stands for an object of a training framework; takes anything and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def load_torch(path: Path) -> Any:
    """`torch.load` with weights_only, mapped from disk where the format allows.

    Raises:
        CheckpointError: in one line.
    """
    try:
        checkpoints.check(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_inert_globals(path)):
            warnings.simplefilter("ignore")  # about old pickles; what cannot be read is an error below
            if _is_zip(path):
                return _mapped(torch.load(path, map_location="meta", weights_only=True), _bytes_of(path))
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not (asked := _refused(path, error)):
            raise CheckpointError(f"{path} is not a checkpoint of PyTorch") from error
        raise CheckpointError(f"{path} holds more than weights and is not read: it asks for {asked}") from error
    except _BROKEN as error:
        raise CheckpointError(f"{path} is not a whole checkpoint of PyTorch: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _bytes_of(path: Path) -> Tensor:
    """The file as (bytes,) uint8, mapped read-only.

    `torch.load(mmap=True)` maps privately and writable, which the kernel refuses for a file larger than memory.
    """
    return torch.from_numpy(np.memmap(path, dtype=np.uint8, mode="r"))


def _mapped(content: Any, data: Tensor) -> Any:
    """What a file holds, its tensors without values put in place of views of the file's bytes."""
    if isinstance(content, Tensor):
        storage = content.untyped_storage()
        start = int(storage._checkpoint_offset or 0)
        values = data[start : start + storage.nbytes()].view(content.dtype)[content.storage_offset() :]
        return values.as_strided(content.size(), content.stride())
    if isinstance(content, dict):
        return {key: _mapped(value, data) for key, value in content.items()}
    if isinstance(content, list):
        return [_mapped(value, data) for value in content]
    return content


def _is_zip(path: Path) -> bool:
    """Whether the file has the format that can be mapped (PyTorch 1.6 and later)."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _inert_globals(path: Path) -> list[Any]:
    names = [name for name in _unsafe_globals(path) if name.split(".")[0] in INERT_PACKAGES]
    return [(_Inert, name) for name in names]


def _unsafe_globals(path: Path) -> list[str]:
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (*_BROKEN, pickle.UnpicklingError):
        return []  # an old or broken file: loading it says what is wrong


def _refused(path: Path, error: Exception) -> str:
    """The names of what a pickle would have called."""
    names = {name for name in _unsafe_globals(path) if name.split(".")[0] not in INERT_PACKAGES}
    names |= set(re.findall(r"GLOBAL (\S+)", str(error)))
    return ", ".join(sorted(names)[:3])


def entries_of(source: WeightSource) -> Entries:
    """All tensors of a source, without reading their values."""
    mapping = source.load()
    if isinstance(mapping, _SafetensorsMapping):
        return {key: TensorEntry(source, key, *_described(mapping, key)) for key in mapping}
    return {key: TensorEntry(source, key, tuple(tensor.shape), tensor.dtype) for key, tensor in mapping.items()}


def _described(mapping: _SafetensorsMapping, key: str) -> tuple[tuple[int, ...], torch.dtype]:
    piece = mapping._file.get_slice(key)
    names = {name: dtype for dtype, name in _DTYPES.items()}
    if piece.get_dtype() not in names:
        raise CheckpointError(f"{key}: tensors of {piece.get_dtype()} are not supported")
    return tuple(piece.get_shape()), names[piece.get_dtype()]


def folder_entries(folder: Path, stems: tuple[str, ...]) -> Entries:
    """All tensors of a Hugging Face or OpenCLIP folder.

    Args:
        folder: with weights in one file, or in shards with an index.
        stems: file names to look for, without ending, in order of preference.

    Raises:
        CheckpointError: where there are none.
    """
    for stem in stems:
        for suffix in (".safetensors", ".bin", ".pth", ".pt"):
            if (index := folder / f"{stem}{suffix}.index.json").is_file():
                return _merge(_source(folder / name) for name in _indexed(index))
            if (path := folder / f"{stem}{suffix}").is_file():
                return entries_of(_source(path))
    raise CheckpointError(f"{folder} has no weights: expected {stems[0]}.safetensors or {stems[-1]}.bin, or shards")


def _indexed(index: Path) -> list[str]:
    names = sorted(set(convert(read_json(index), _Index, where=str(index)).weight_map.values()))
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise CheckpointError(f"{index} names a file outside its folder: {outside[0]}")
    return names


class _Index(msgspec.Struct):
    weight_map: dict[str, str] = {}


def _source(path: Path) -> WeightSource:
    return SafetensorsFile(path) if path.suffix == ".safetensors" else TorchFile(path)


def _merge(sources: Iterator[WeightSource]) -> Entries:
    merged: Entries = {}
    for source in sources:
        merged |= entries_of(source)
    return merged


def file_entries(path: Path) -> Entries:
    """All tensors of one file."""
    return entries_of(_source(path))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: naming the file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object")
    return content


def write_safetensors(file: IO[bytes], entries: Entries) -> str:
    """Write tensors as one safetensors file, one after the other, so that memory holds no more than they do.

    Returns:
        The file's SHA-256.

    Raises:
        CheckpointError: naming a tensor with numbers that are not finite.
    """
    digest = hashlib.sha256()

    def put(data: Any) -> None:
        file.write(data)
        digest.update(data)

    put(_header(entries))
    loaded: dict[int, Mapping[str, Tensor]] = {}
    for name, entry in entries.items():
        if id(entry.source) not in loaded:
            loaded[id(entry.source)] = entry.source.load()
        tensor = loaded[id(entry.source)][entry.key]
        if entry.dtype in _CHECKED and not tensor.isfinite().all():
            raise CheckpointError(f"{entry.source.path}: {entry.key} ({name} of the model) holds NaN or infinity")
        put(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _header(entries: Entries) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, entry in entries.items():
        if entry.dtype not in _DTYPES:
            raise CheckpointError(f"{name}: tensors of {entry.dtype} are not supported")
        start, end = end, end + entry.nbytes
        header[name] = {"dtype": _DTYPES[entry.dtype], "shape": list(entry.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
