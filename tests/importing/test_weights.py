"""Files of weights from strangers: nothing in them is executed, and what is broken is one line."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints import saved
from tiny_models import KIT

from mgtool.errors import CheckpointError
from mgtool.importing.plan import plan_import
from mgtool.stages.import_model import import_model


class Payload:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("new_format", [True, False])
def test_nothing_in_a_pickle_is_executed(new_format, parts, published, tmp_path):
    target = tmp_path / "executed"
    hostile = published | {"payload": Payload(target)}
    torch.save(hostile, tmp_path / "hostile.pth", _use_new_zipfile_serialization=new_format)
    with pytest.raises(CheckpointError, match="more than weights"):
        plan_import(replace(parts, checkpoint=tmp_path / "hostile.pth"))
    assert not target.exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"hello world", pickle.dumps({"a": 1})])
def test_files_that_are_no_checkpoint_are_refused(content, parts, tmp_path):
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as refusal:
        plan_import(replace(parts, checkpoint=path))
    assert "\n" not in str(refusal.value)


def test_numbers_that_safetensors_does_not_have_are_refused(parts, published, tmp_path):
    odd = published | {"llm.model.norm.weight": published["llm.model.norm.weight"].to(torch.complex64)}
    with pytest.raises(CheckpointError, match=r"norm\.weight: tensors of torch.complex64 are not supported"):
        import_model(saved(parts, tmp_path / "complex.pth", odd), tmp_path / "out")


def test_a_truncated_checkpoint_is_refused(parts, tmp_path):
    data = (KIT / "mg_llava.pth").read_bytes()
    path = tmp_path / "cut.pth"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        plan_import(replace(parts, checkpoint=path))


def test_an_index_never_leaves_its_folder(parts, tmp_path):
    folder = tmp_path / "llm"
    shutil.copytree(KIT / "llm", folder)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors"}}))
    first = {"projector.model.0.weight": torch.ones(64, 32)}
    with pytest.raises(CheckpointError, match="outside its folder"):
        plan_import(saved(replace(parts, llm=folder), tmp_path / "first.pth", first))
