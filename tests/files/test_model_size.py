"""Configurations that make models far larger than their weights: one line, before memory is given."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import tiny_transformers
import torch
from tiny_models import KIT, TESTS, parts_in
from torch import nn

import mgtool
from mgtool.errors import CheckpointError, InputError
from mgtool.evaluation.local_judge import LocalBackend
from mgtool.files.configurations import check_files
from mgtool.files.model_size import within_numbers, within_weights
from mgtool.inference.options import InferOptions
from mgtool.model import MGLlavaConfig
from mgtool.model import config as configs
from mgtool.scoring.benchmark import JudgeRequest

TINY = Path(mgtool.__file__).parent / "model" / "tiny"
PICTURE = str(TESTS / "images" / "coffee.jpg")
MOST_MB = 200
HEADER = bytes([36, 0, 0, 0, 0, 0, 0, 0]) + b'{"a": {"shape": [1000000, 1000000]}}'

Change = Callable[[dict[str, Any]], object]


def _change(path: Path, change: Change) -> None:
    about = json.loads(path.read_text())
    change(about)
    path.write_text(json.dumps(about))


@pytest.fixture(autouse=True)
def _memory() -> Iterator[None]:
    """Nothing takes a model's memory."""
    before = psutil.Process().memory_info().rss
    yield
    assert psutil.Process().memory_info().rss - before < MOST_MB << 20


def _infer(folder: Path) -> None:
    list(mgtool.answers([PICTURE], InferOptions(model=folder, task="caption", max_new_tokens=1, workers=0)))


NATIVE: dict[str, Change] = {
    "no language model named": lambda about: about.pop("text_config"),
    "wide": lambda about: about["text_config"].update(intermediate_size=1 << 24),
    "a vocabulary": lambda about: about["text_config"].update(vocab_size=1 << 30),
    "many layers": lambda about: about["text_config"].update(num_hidden_layers=9999),
    "more layers": lambda about: about["text_config"].update(num_hidden_layers=10**9),
    "layers of a tower": lambda about: about["low_config"].update(num_hidden_layers=10**9),
    "labels": lambda about: about["text_config"].update(num_labels=10**9),
}


@pytest.mark.parametrize("change", NATIVE.values(), ids=NATIVE)
def test_infer(change: Change, tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path, dirs_exist_ok=True)
    _change(tmp_path / "config.json", change)
    with pytest.raises(CheckpointError, match=r"its weights are|no model has more"):
        _infer(tmp_path)


def test_a_detector(tmp_path: Path) -> None:
    tiny_transformers.owl("owlv2", tmp_path)
    _change(tmp_path / "config.json", lambda about: about["vision_config"].update(intermediate_size=1 << 24))
    options = mgtool.DetectOptions(detector=f"hf:{tmp_path}", vocabulary="cat", workers=0)
    with pytest.raises(CheckpointError, match="its weights are"):
        mgtool.detect([PICTURE], tmp_path / "out", options)


def test_a_judge(tmp_path: Path) -> None:
    shutil.copytree(KIT / "llm", tmp_path, dirs_exist_ok=True)
    _change(tmp_path / "config.json", lambda about: about.update(vocab_size=1 << 28))
    with pytest.raises(CheckpointError, match="its weights are"):
        list(LocalBackend(str(tmp_path)).replies([JudgeRequest(user="?")]))


def test_import(tmp_path: Path) -> None:
    shutil.copytree(KIT, tmp_path / "kit")
    _change(tmp_path / "kit/llm/config.json", lambda about: about.update(num_hidden_layers=9999))
    with pytest.raises(CheckpointError, match="its weights are"):
        mgtool.import_model(parts_in(tmp_path / "kit", template="vicuna"), tmp_path / "out")


def test_whatever_is_made_counts() -> None:
    told = r"x: .*at least 300,000,000 numbers, its weights are 10 numbers"
    with pytest.raises(CheckpointError, match=told), within_numbers("x", 10, 2), torch.device("meta"):
        nn.Linear(300_000_000, 1)
    with pytest.raises(CheckpointError, match="at least"), within_numbers("x", 10, 2), torch.device("meta"):
        nn.BatchNorm1d(1 << 23)
    with pytest.raises(CheckpointError, match="modules"), within_numbers("x", 10, 2):
        nn.Sequential(*(nn.Identity() for _ in range(10_000)))
    with within_numbers("x", 10, 2):
        nn.Linear(5000, 5000)  # with values: as much as was asked for by who made it
    with torch.device("meta"):
        nn.Linear(300_000_000, 1)  # outside of any block


def test_what_is_no_weights_file_counts_nothing(tmp_path: Path) -> None:
    for number, data in enumerate((b"", b"\xff" * 8, (1 << 40).to_bytes(8, "little"), b"\2\0\0\0\0\0\0\0[]")):
        (tmp_path / f"{number}.safetensors").write_bytes(data)
    (tmp_path / "x.safetensors").write_bytes(
        b"\x30\0\0\0\0\0\0\0" + b'{"a": {"shape": [1000000, 1000000]}, "b": null}'.ljust(48)
    )
    with within_weights(tmp_path), torch.device("meta"):
        nn.Linear(1000, 1000)
    with pytest.raises(CheckpointError, match="its weights are"), within_weights(tmp_path), torch.device("meta"):
        nn.Linear(300_000_000, 1)


@pytest.mark.parametrize("name", ["tokenizer.json", "x.safetensors", "additional_chat_templates/x.jinja"])
def test_files_that_have_no_end(name: str, tmp_path: Path) -> None:
    check_files(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="no regular file"):
        check_files(tmp_path)


def test_default_configurations_are_no_model(monkeypatch):
    """transformers makes one within `from_pretrained`, to print what differs from it."""
    monkeypatch.setattr(configs, "_trunk_shape", configs._trunk_shape.__wrapped__)
    with within_numbers("x", 10, 2):
        assert MGLlavaConfig().high_config.widths == (192, 384, 768, 1536)
    for architecture, shape in configs._TRUNKS.items():
        assert configs._trunk_shape(architecture) == shape
