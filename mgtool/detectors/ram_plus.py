"""RAM++, the tagger: what is in a picture, out of the names in its tag list."""

from __future__ import annotations

import importlib.util
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from mgtool.detectors.base import Settings
from mgtool.detectors.ram_plus_model import DESCRIPTIONS, RamPlus, RamPlusConfig, from_published
from mgtool.detectors.weights_files import checkpoint_file, hash_files, listed
from mgtool.errors import CheckpointError, InputError
from mgtool.files import checkpoints
from mgtool.files.hashing import sha256
from mgtool.files.regular import read_regular
from mgtool.records import canonical, parse
from mgtool.runs import devices

TAG_LIST = "ram_tag_list.txt"
TAG_THRESHOLDS = "ram_tag_list_threshold.txt"


def load(target: str, settings: Settings, tag_list: str | None, tag_thresholds: str | None) -> RamPlusTagger:
    """The tagger of ``ram++:CHECKPOINT``; errors as `RamPlusTagger`."""
    chosen = settings.devices()
    return RamPlusTagger(
        target,
        tag_list=tag_list,
        tag_thresholds=tag_thresholds,
        device=chosen.name,
        dtype=chosen.dtype,
    )


class RamPlusTagger:
    """Tags pictures; a tag is given when its probability is above its own threshold.

    Args:
        checkpoint: the published file, ``{"model": state_dict}``; a ``config.json`` beside it gives other widths.
        tag_list: one tag a line; None for the file beside the checkpoint, else the one in an installed ``ram``.
        tag_thresholds: one number a line, in the order of the tags; None as for `tag_list`.
        device: where it runs.
        dtype: what the network computes in; its logits are float32 always.

    Raises:
        CheckpointError: a checkpoint that is not there or does not fit.
        InputError: tag files that are not there or do not fit.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        *,
        tag_list: str | Path | None = None,
        tag_thresholds: str | Path | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        path = checkpoint_file(checkpoint)
        state = _read_state(path)
        self.config = _read_config(path.with_name("config.json"))
        self.tags, thresholds = _read_tags(path, tag_list, tag_thresholds)
        self.model = _build(path, self.config, state, len(self.tags)).to(device)
        self._thresholds = torch.tensor(thresholds, device=device)
        self._device, self._dtype = device, dtype
        settings = canonical([msgspec.to_builtins(self.config), self.tags, thresholds])
        self.identity = f"ram++ weights={hash_files([path])} dtype={dtype} settings={sha256(settings)[:16]}"

    def tag(self, pictures: Sequence[Image.Image]) -> list[tuple[str, ...]]:
        """Tags of each picture (RGB, any size), in the order of the tag list."""
        if not pictures:
            return []
        above = (self.logits(self.pixels(pictures)).sigmoid() > self._thresholds).cpu()
        return [tuple(self.tags[index] for index in row.nonzero().flatten().tolist()) for row in above]

    def pixels(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(b, 3, size, size) float32, RGB by ImageNet's mean and deviation; pictures are resized out of shape."""
        side = self.config.image_size
        resized = [np.array(p.resize((side, side), Image.Resampling.BILINEAR)) for p in pictures]
        batch = torch.from_numpy(np.stack(resized)).to(self._device).permute(0, 3, 1, 2).float().div(255)
        mean, deviation = (batch.new_tensor(c)[:, None, None] for c in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
        return (batch - mean) / deviation

    @torch.inference_mode()
    def logits(self, pixels: Tensor) -> Tensor:
        """(b, 3, size, size) from `pixels` -> (b, tags) float32."""
        with devices.computing_in(self._dtype, self._device):
            return self.model(pixels.to(self._device)).float()


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        checkpoints.check(path)
        # the published file carries its optimizer too: a mapped file reads only what is used
        whole = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (
        CheckpointError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, LookupError, TypeError,
    ) as error:  # fmt: skip
        raise CheckpointError(f"{path}: not a checkpoint of tensors alone, or cut short; download it again") from error
    state = whole.get("model") if isinstance(whole, dict) else None
    if not isinstance(state, dict) or "label_embed" not in state or not all(map(_is_weight, state.items())):
        raise CheckpointError(f"{path}: no RAM++ checkpoint: {{'model': weights with 'label_embed'}} was expected")
    return state


def _is_weight(entry: tuple[Any, Any]) -> bool:
    return isinstance(entry[0], str) and isinstance(entry[1], Tensor)


def _read_config(path: Path) -> RamPlusConfig:
    return parse(path.read_bytes(), RamPlusConfig, where=str(path)) if path.is_file() else RamPlusConfig()


def _read_tags(checkpoint: Path, tags: str | Path | None, limits: str | Path | None) -> tuple[list[str], list[float]]:
    tag_path = _find(checkpoint, TAG_LIST, tags, "`tag_list`")
    limit_path = _find(checkpoint, TAG_THRESHOLDS, limits, "`tag_thresholds`")
    names, numbers = _lines(tag_path), _lines(limit_path)
    if len(names) != len(numbers):
        raise InputError(f"{tag_path} has {len(names)} tags, {limit_path} {len(numbers)} thresholds: give a pair")
    try:
        return names, [float(number) for number in numbers]
    except ValueError as error:
        raise InputError(f"{limit_path}: one number a line was expected: {error}") from error


def _find(checkpoint: Path, name: str, given: str | Path | None, option: str) -> Path:
    if given is not None:
        return Path(given)
    spec = importlib.util.find_spec("ram")
    packaged = [Path(folder, "data", name) for folder in (spec.submodule_search_locations or [])] if spec else []
    for path in (checkpoint.with_name(name), *packaged):
        if path.is_file():
            return path
    source = "https://github.com/xinyu1205/recognize-anything/tree/main/ram/data"
    raise InputError(f"no {name} beside {checkpoint}: download it from {source}, or give {option} FILE")


def _lines(path: Path) -> list[str]:
    try:
        text = read_regular(path).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable text file: {error}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _build(path: Path, config: RamPlusConfig, published: dict[str, Any], tags: int) -> RamPlus:
    rows = published["label_embed"].shape[0]
    if rows != tags * DESCRIPTIONS:
        raise CheckpointError(f"{path}: made for {rows / DESCRIPTIONS:g} tags, but the tag list has {tags}")
    state = from_published(published)
    with torch.device("meta"):  # shapes alone: a wrong checkpoint is refused at once
        wanted = RamPlus(config, tags).state_dict()
    absent, unknown = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    other = sorted(key for key in wanted.keys() & state.keys() if wanted[key].shape != state[key].shape)
    kinds = (("missing", absent), ("unexpected", unknown), ("of other sizes", other))
    if wrong := [f"{kind}: {listed(keys)}" for kind, keys in kinds if keys]:
        raise CheckpointError(f"{path}: does not fit the widths of its config.json: {'; '.join(wrong)}")
    model = RamPlus(config, tags).eval()
    model.load_state_dict({key: value.float() for key, value in state.items()})
    return model
