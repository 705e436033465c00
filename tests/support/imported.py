"""The conformance kit, imported once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_models import KIT, TESTS, parts_in

from mgtool.importing.options import ImportOptions
from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor
from mgtool.stages.import_model import import_model


@pytest.fixture(scope="session")
def kit() -> Path:
    return KIT


@pytest.fixture(scope="session")
def parts() -> ImportOptions:
    return parts_in(KIT)


@pytest.fixture(scope="session")
def model_dir(parts: ImportOptions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported") / "model"
    import_model(parts, out)
    return out


@pytest.fixture(scope="session")
def model(model_dir: Path) -> MGLlavaForConditionalGeneration:
    return MGLlavaForConditionalGeneration.from_pretrained(model_dir).eval()


@pytest.fixture(scope="session")
def processor(model_dir: Path) -> MGLlavaProcessor:
    return MGLlavaProcessor.from_pretrained(model_dir)


@pytest.fixture(scope="session")
def expected() -> dict[str, torch.Tensor]:
    return load_file(KIT / "expected.safetensors")


@pytest.fixture(scope="session")
def picture() -> Callable[[str], Image.Image]:
    return lambda name: Image.open(TESTS / "images" / name).convert("RGB")
