"""Checkpoints that DeepSpeed left in parts are put together, or refused."""

from __future__ import annotations

import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints import same_weights

from mgtool.errors import CheckpointError
from mgtool.importing.plan import plan_import
from mgtool.stages.import_model import import_model

FROZEN = "llm.model.norm.weight"


class ZeroStageEnum(int):
    """Stands for DeepSpeed's enum: something that is not a weight beside the weights."""


def pretend_deepspeed(monkeypatch):
    """Make `ZeroStageEnum` pickle as DeepSpeed's, which is not installed here."""
    module = type(sys)("deepspeed.runtime.zero.config")
    module.ZeroStageEnum = ZeroStageEnum
    for name in ("deepspeed", "deepspeed.runtime", "deepspeed.runtime.zero", "deepspeed.runtime.zero.config"):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(ZeroStageEnum, "__module__", "deepspeed.runtime.zero.config")


def split_groups(weights):
    """Two parameter groups and a frozen parameter, as training leaves them."""
    names = [key for key in weights if key != FROZEN]
    return [OrderedDict((key, weights[key]) for key in group) for group in (names[::2], names[1::2])]


def zero_folder(folder: Path, weights, stage: int, ranks: int) -> None:
    groups, frozen = split_groups(weights), FROZEN
    folder.mkdir(parents=True)
    for rank in range(ranks):
        own = frozen_part(weights[frozen], rank, ranks) if stage == 3 else weights[frozen]
        state = {
            "module": OrderedDict((f"module.{key}", value) for key, value in weights.items()) if stage == 2 else {},
            "param_shapes": [OrderedDict((key, value.shape) for key, value in group.items()) for group in groups],
            "buffer_names": [],
            "frozen_param_shapes": {frozen: weights[frozen].shape},
            "frozen_param_fragments": {frozen: own},
            "shared_params": [],
            "ds_version": "0.14.0",
        }
        if stage == 3 or rank == 0:
            name = f"zero_pp_rank_{rank}_mp_rank_00" if stage == 3 else "mp_rank_00"
            torch.save(state, folder / f"{name}_model_states.pt")
        flats = [rank_slice(group, rank, ranks, stage) for group in groups]
        optimizer = {"zero_stage": ZeroStageEnum(stage), "partition_count": ranks if stage == 3 else [ranks] * 2}
        optimizer["fp32_flat_groups" if stage == 3 else "single_partition_of_fp32_groups"] = flats
        torch.save({"optimizer_state_dict": optimizer}, folder / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")


def frozen_part(value, rank, ranks):
    part = -(-value.numel() // ranks)
    padded = torch.nn.functional.pad(value.flatten(), (0, part * ranks - value.numel()))
    return padded[rank * part : (rank + 1) * part].clone()


def rank_slice(group, rank, ranks, stage):
    if stage == 3:
        return torch.cat([frozen_part(value, rank, ranks) for value in group.values()])
    flat = torch.cat([value.flatten() for value in group.values()])
    align = 2 * ranks
    flat = torch.nn.functional.pad(flat, (0, -len(flat) % align))
    return flat.chunk(ranks)[rank].clone()


@pytest.mark.parametrize("ranks", [1, 3, 11])
@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_folders_are_put_together(stage, ranks, parts, published, model_dir, tmp_path, monkeypatch):
    pretend_deepspeed(monkeypatch)
    top = tmp_path / "iter_100.pth"
    zero_folder(top / "global_step100", published, stage, ranks)
    (top / "latest").write_text("global_step100\n")
    import_model(replace(parts, checkpoint=top), tmp_path / "out")
    assert same_weights(tmp_path / "out", model_dir)


@pytest.mark.parametrize("stage", [2, 3])
def test_a_missing_rank_is_refused(stage, parts, published, tmp_path, monkeypatch):
    pretend_deepspeed(monkeypatch)
    folder = tmp_path / "iter_1.pth"
    zero_folder(folder, published, stage, 3)
    next(folder.glob("*rank_1_*_optim_states.pt")).unlink()
    with pytest.raises(CheckpointError, match="of 2 ranks, 3 were saved"):
        plan_import(replace(parts, checkpoint=folder))


# --- hostile and broken files
