"""Numbers of strangers' configurations and processors: one line that names file and key, before memory is given."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import vision_models
from transformers import CLIPImageProcessor, Glm4vImageProcessor, Glm4vVideoProcessor, Qwen2VLVideoProcessor

import mgtool
from mgtool.detectors.weights_files import load_processor
from mgtool.errors import CheckpointError
from mgtool.files import configurations
from mgtool.files.configurations import check_files
from mgtool.files.processor_sizes import check_sizes
from mgtool.inference import transformers_model

TINY = Path(mgtool.__file__).parent / "model" / "tiny"
CONFIG, PROCESSOR = "config.json", "processor_config.json"
ODD: tuple[Any, ...] = (0, -1, 1 << 31, 1 << 63, 10**30, 1.5, math.nan, math.inf, "x", None, True, {}, [1 << 30])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (CONFIG, PROCESSOR):
        shutil.copy(TINY / name, tmp_path)
    check_files(tmp_path)
    return tmp_path


def _set(path: Path, keys: str, value: Any) -> None:
    whole = json.loads(path.read_text())
    among, *names = whole, *keys.split(".")
    for name in names[:-1]:
        among = among[name]
    among[names[-1]] = value
    path.write_text(json.dumps(whole))


@pytest.mark.parametrize(
    ("file", "key"),
    [
        (CONFIG, "box_bins"),
        (CONFIG, "high_config.image_size"),
        (CONFIG, "low_config.image_size"),
        (CONFIG, "low_config.patch_size"),
        (PROCESSOR, "image_size"),
        (PROCESSOR, "image_mean"),
    ],
)
def test_what_is_no_number_of_a_model(file: str, key: str, folder: Path) -> None:
    for value in ODD:
        _set(folder / file, key, value)
        with pytest.raises(CheckpointError) as error:
            check_files(folder)
        assert f"{file}: {key} is " in str(error.value)
        assert "\n" not in str(error.value)


def test_numbers_in_lists_and_those_that_may_be_missing(folder: Path) -> None:
    for value in ([], [0], [4, "x"], [4, None], 4, "x", {}):
        _set(folder / CONFIG, "high_config.strides", value)
        with pytest.raises(CheckpointError, match=r"high_config\.strides is"):
            check_files(folder)
    _set(folder / CONFIG, "high_config.strides", None)
    _set(folder / PROCESSOR, "vision_tokens", None)
    check_files(folder)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json", "chat_template.jinja"])
def test_files_that_are_too_large(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configurations, "_MOST_BYTES", dict.fromkeys(configurations._MOST_BYTES, 5000))
    (folder / name).write_bytes(b" " * 6000)
    with pytest.raises(CheckpointError, match=rf"{name}: 6,000 bytes"):
        check_files(folder)


@pytest.mark.parametrize(
    "given",
    [
        {"size": {"shortest_edge": 10**9}},
        {"size": {"height": 10**6, "width": 336}},
        {"crop_size": {"height": 10**6, "width": 10**6}},
        {"crop_size": 10**6},
    ],
)
def test_sizes_of_pictures(given: dict[str, Any], tmp_path: Path) -> None:
    CLIPImageProcessor(**given).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"its processor's (size|crop_size)\.\w+ is 1"):
        load_processor(CLIPImageProcessor, tmp_path)


@pytest.mark.parametrize("family", ["llava", "llava_next", "qwen2_vl", "idefics3", "internvl", "mllama"])
def test_usual_processors_are_taken(family: str) -> None:
    check_sizes(getattr(vision_models, family)()[1], family)


def test_numbers_of_tokens() -> None:
    processor = vision_models.llava()[1]
    processor.num_additional_image_tokens = 10**9
    with pytest.raises(CheckpointError, match="num_additional_image_tokens is 1000000000; no more than 262,144"):
        check_sizes(processor, "x")


@pytest.mark.parametrize("kind", [Glm4vImageProcessor, Glm4vVideoProcessor, Qwen2VLVideoProcessor])
def test_sizes_that_published_processors_have_of_themselves(kind: Any) -> None:
    check_sizes(kind(), "a model")


def test_a_size_may_be_a_number_of_pixels() -> None:
    processor = vision_models.qwen2_vl()[1]
    processor.image_processor.size = {"shortest_edge": 3136, "longest_edge": 12_845_056}
    check_sizes(processor, "x")
    processor.image_processor.size = {"shortest_edge": 3136, "longest_edge": 1 << 40}
    with pytest.raises(CheckpointError, match="longest_edge is"):
        check_sizes(processor, "x")


@pytest.mark.parametrize(("key", "value"), [("projector_hidden_act", 1.5), ("projector_hidden_act", "x")])
def test_what_transformers_refuses_in_two_lines_or_none(key: str, value: Any, tmp_path: Path) -> None:
    model, processor = vision_models.llava()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    _set(tmp_path / CONFIG, key, value)
    with pytest.raises(CheckpointError) as error:
        transformers_model.load_model(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
