"""The published checkpoint of the conformance kit, and how to save and compare weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import KIT

from mgtool.importing.options import ImportOptions


@pytest.fixture(scope="module")
def published():
    """The kit's checkpoint as a plain state dict."""
    return torch.load(KIT / "mg_llava.pth", weights_only=True)["state_dict"]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return {key: value for file in folder.glob("*.safetensors") for key, value in load_file(file).items()}


def same_weights(one: Path, other: Path) -> bool:
    ours, theirs = weights_of(one), weights_of(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def saved(parts: ImportOptions, path: Path, weights) -> ImportOptions:
    torch.save(weights, path)
    return replace(parts, checkpoint=path)
