"""Weights out of a DeepSpeed ZeRO folder: its ranks hold slices of the optimizer's float32 copy.

Stages 1 and 2 cut each parameter group, laid end to end, into one slice a rank. Stage 3 cuts every parameter into
one slice a rank, the last one padded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mgtool.errors import CheckpointError
from mgtool.importing.weights import Entries, TensorEntry, load_torch

Shapes = dict[str, torch.Size]


def find_folder(folder: Path) -> Path | None:
    """Where the ranks' files lie: `folder` itself, or the one that its file ``latest`` names; None elsewhere."""
    latest = folder / "latest"
    places = [folder]
    if latest.is_file():
        places.append(folder / Path(latest.read_text(encoding="utf-8").strip()).name)
    return next((place for place in places if any(place.glob("*_optim_states.pt"))), None)


class ZeroFolder:
    """A `WeightSource` of the reconstructed float32 parameters, frozen parameters and buffers."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Mapping[str, Tensor]:
        """See `WeightSource`; parameters are put together when they are asked for.

        Raises:
            CheckpointError: where ranks are missing or their slices do not add up.
        """
        ranks = [_optimizer_state(path) for path in _ranked(self.path, "*_optim_states.pt")]
        models = [load_torch(path) for path in _ranked(self.path, "*_model_states.pt")]
        if not models or "param_shapes" not in models[0]:
            raise CheckpointError(f"{self.path} has no *_model_states.pt with param_shapes")
        expected = _partitions(ranks[0])
        if len(ranks) != expected:
            raise CheckpointError(f"{self.path} has optimizer states of {len(ranks)} ranks, {expected} were saved")
        return _ZeroMapping(self.path, ranks, models)

    def entries(self) -> Entries:
        """All parameters and buffers, without reading their values."""
        mapping = self.load()
        assert isinstance(mapping, _ZeroMapping)
        return {key: TensorEntry(self, key, *mapping.described(key)) for key in mapping}


class _Slices:
    """A long vector that lies in several tensors."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tensors
        self.numel = sum(tensor.numel() for tensor in tensors)

    def read(self, start: int, numel: int) -> Tensor:
        pieces = []
        for tensor in self.tensors:
            if start < tensor.numel() and numel > 0:
                pieces.append(tensor[start : start + numel])
                numel -= len(pieces[-1])
                start = 0
            else:
                start -= min(start, tensor.numel())
        return torch.cat(pieces) if len(pieces) != 1 else pieces[0]


class _ZeroMapping(Mapping[str, Tensor]):
    def __init__(self, path: Path, ranks: list[dict[str, Any]], models: list[dict[str, Any]]) -> None:
        self.path = path
        self.shapes: Shapes = {}
        self.places: dict[str, list[tuple[_Slices, int, int]]] = {}
        groups: list[Shapes] = models[0]["param_shapes"]
        if "fp32_flat_groups" in ranks[0]:
            self._lay_out_stage_3(groups, [_Slices(rank["fp32_flat_groups"]) for rank in ranks])
        else:
            flats = [rank["single_partition_of_fp32_groups"] for rank in ranks]
            self._lay_out_stage_2(groups, [_Slices(group) for group in zip(*flats, strict=True)])
        self.whole = _frozen(models) | _buffers(models[0])
        for name, source in models[0].get("shared_params") or []:
            if source in self.places:
                self.places[name], self.shapes[name] = self.places[source], self.shapes[source]

    def _lay_out_stage_2(self, groups: list[Shapes], vectors: list[_Slices]) -> None:
        for shapes, vector in zip(groups, vectors, strict=True):
            start = 0
            for name, shape in shapes.items():
                self.shapes[name] = shape
                self.places[name] = [(vector, start, shape.numel())]
                start += shape.numel()
            if start > vector.numel:
                raise CheckpointError(f"{self.path} holds {vector.numel} numbers of a group that needs {start}")

    def _lay_out_stage_3(self, groups: list[Shapes], ranks: list[_Slices]) -> None:
        start = 0
        for name, shape in ((name, shape) for shapes in groups for name, shape in shapes.items()):
            part = -(-shape.numel() // len(ranks))
            self.shapes[name] = shape
            self.places[name] = [(rank, start, part) for rank in ranks]
            start += part
        if start > ranks[0].numel:
            raise CheckpointError(f"{self.path} holds {ranks[0].numel} numbers a rank, its parameters need {start}")

    def described(self, key: str) -> tuple[tuple[int, ...], torch.dtype]:
        if key in self.whole:
            return tuple(self.whole[key].shape), self.whole[key].dtype
        return tuple(self.shapes[key]), self.places[key][0][0].tensors[0].dtype

    def __getitem__(self, key: str) -> Tensor:
        if key in self.whole:
            return self.whole[key]
        shape = self.shapes[key]
        parts = [vector.read(start, numel) for vector, start, numel in self.places[key]]
        flat = torch.cat(parts) if len(parts) > 1 else parts[0]
        return flat[: shape.numel()].reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter([*self.places, *(key for key in self.whole if key not in self.places)])

    def __len__(self) -> int:
        return len(list(iter(self)))


def _ranked(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern), key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])


def _optimizer_state(path: Path) -> dict[str, Any]:
    state = load_torch(path).get("optimizer_state_dict", {})
    if not ({"fp32_flat_groups", "single_partition_of_fp32_groups"} & state.keys()):
        raise CheckpointError(f"{path} holds no float32 slices of DeepSpeed ZeRO")
    return state


def _partitions(state: dict[str, Any]) -> int:
    count = state["partition_count"]
    return max(count) if isinstance(count, (list, tuple)) else int(count)


def _frozen(models: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Parameters without optimizer state: whole in stages 1 and 2, one padded slice a rank in stage 3."""
    shapes: Shapes = models[0].get("frozen_param_shapes") or {}
    frozen = {}
    for name, shape in shapes.items():
        parts = [model["frozen_param_fragments"][name].flatten() for model in models]
        flat = parts[0] if parts[0].numel() == shape.numel() else torch.cat(parts)
        frozen[name] = flat[: shape.numel()].reshape(shape)
    return frozen


def _buffers(model: dict[str, Any]) -> dict[str, Tensor]:
    names = set(model.get("buffer_names") or ())
    return {name: tensor for name, tensor in model["module"].items() if name in names}
