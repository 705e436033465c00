"""Makes the modules of examples/scenes importable, and the parts of an untrained model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "scenes"))

import joints
import language
import make
import pretrain
import torch
import towers
import training
from tiny_models import parts_in
from torch import nn
from transformers import PreTrainedTokenizerFast

from mgtool.importing.plan import ModelCounts
from mgtool.stages.import_model import import_model

PICTURES = 50
TEST_SCENES = 30


class Untrained(NamedTuple):
    """Stage 0 as random weights leave it.

    Attributes:
        modules: by their names in stage 0.
        folder: of stage 0.
        model: the folder that `mgtool import` made of the parts.
        counts: what the import tells.
        pictures: through which fusion and projectors learned.
    """

    modules: dict[str, nn.Module]
    folder: Path
    model: Path
    counts: ModelCounts
    pictures: int


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `TEST_SCENES` test scenes."""
    out = tmp_path_factory.mktemp("scenes") / "test"
    make.write(out, "test", TEST_SCENES)
    return out


@pytest.fixture(scope="session")
def words() -> PreTrainedTokenizerFast:
    """The world's tokenizer."""
    return language.tokenizer()


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory, words: PreTrainedTokenizerFast) -> Untrained:
    """Towers and language model with random weights; fusion and projectors have learned for a few steps."""
    out = tmp_path_factory.mktemp("untrained") / "stage0"
    modules = {"low": towers.LowNaming(), "high": towers.HighNaming(), "llm": language.Reading(words)}
    for name, module in modules.items():
        (out / name).mkdir(parents=True)
        torch.save({"module": module.state_dict()}, out / name / training.STATE)
    words.save_pretrained(out / "llm" / pretrain.TOKENIZER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joints, "PICTURES", PICTURES)
        patch.setattr(joints, "STEPS", 120)
        patch.setattr(joints, "BATCH", 16)
        pretrain.write_parts(out)
    parts = out / "parts"
    given = parts_in(parts)
    return Untrained(modules, out, out / "model", import_model(given, out / "model").counts, PICTURES)
