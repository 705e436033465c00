"""Model folders of strangers that bring code along: none of it runs, and nobody is asked whether it may."""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_transformers
from tiny_models import KIT, TESTS, parts_in

import mgtool
from mgtool.errors import MgtoolError
from mgtool.evaluation.local_judge import LocalBackend
from mgtool.inference.options import InferOptions
from mgtool.scoring.benchmark import JudgeRequest

AUTO = ("Config", "Model", "ModelForCausalLM", "ModelForImageTextToText", "ModelForObjectDetection", "Processor",
        "ImageProcessor", "VideoProcessor", "ModelForMultimodalLM", "ModelForVision2Seq")  # fmt: skip
AUTO_MAP = {f"Auto{name}": "evil.Evil" for name in AUTO} | {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
TINY = Path(mgtool.__file__).parent / "model" / "tiny"


def _poisoned(value: Any, *, renamed: bool, is_top: bool = True) -> Any:
    """Every configuration in a tree names classes of the folder's own; with types that only these know."""
    if not isinstance(value, dict):
        return value
    found = {key: _poisoned(one, renamed=renamed, is_top=False) for key, one in value.items()}
    if is_top or "model_type" in value or "image_processor_type" in value:
        found["auto_map"] = AUTO_MAP
        for key in ("model_type", "tokenizer_class", "processor_class", "image_processor_type"):
            if renamed and key in found and found[key] != "mg_llava":
                found[key] = "Evil"
    return found


def _poison(folder: Path, ran: Path, *, renamed: bool) -> None:
    for path in folder.glob("*.json"):
        if path.name not in ("tokenizer.json", "vocab.json") and not path.name.endswith("index.json"):
            path.write_text(json.dumps(_poisoned(json.loads(path.read_text()), renamed=renamed)))
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass Evil:\n    pass\n")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What somebody was asked, who says yes to everything."""
    found: list[str] = []

    def answer(prompt: str = "") -> str:
        found.append(prompt)
        return "y"

    monkeypatch.setattr(builtins, "input", answer)
    return found


def _infer(model: str) -> None:
    picture = str(TESTS / "images" / "coffee.jpg")
    list(mgtool.answers([picture], InferOptions(model=model, task="Q?", max_new_tokens=1, workers=0)))


def _native(folder: Path) -> Callable[[], object]:
    shutil.copytree(TINY, folder, dirs_exist_ok=True)
    return lambda: _infer(str(folder))


def _transformers(folder: Path) -> Callable[[], object]:
    shutil.copytree(TINY, folder, dirs_exist_ok=True)
    return lambda: _infer(f"hf:{folder}")


def _detector(folder: Path) -> Callable[[], object]:
    tiny_transformers.owl("owlv2", folder)
    options = mgtool.DetectOptions(detector=f"hf:{folder}", vocabulary="cat", workers=0)
    return lambda: mgtool.detect([str(TESTS / "images" / "coffee.jpg")], folder.parent / "out", options)


def _owlv2(folder: Path) -> Callable[[], object]:
    tiny_transformers.owl("owlv2", folder)
    options = mgtool.DetectOptions(detector=f"owlv2:{folder}", vocabulary="cat", workers=0)
    return lambda: mgtool.detect([str(TESTS / "images" / "coffee.jpg")], folder.parent / "out", options)


def _part(name: str) -> Callable[[Path], Callable[[], object]]:
    def made(folder: Path) -> Callable[[], object]:
        parts = parts_in(KIT)
        shutil.copytree(getattr(parts, name), folder, dirs_exist_ok=True)
        return lambda: mgtool.import_model(dataclasses.replace(parts, **{name: folder}), folder.parent / "out")

    return made


def _judge(folder: Path) -> Callable[[], object]:
    shutil.copytree(parts_in(KIT).llm, folder, dirs_exist_ok=True)
    return lambda: list(LocalBackend(str(folder)).replies([JudgeRequest(user="Q", max_tokens=1)]))


def _trained(folder: Path) -> Callable[[], object]:
    shutil.copytree(TINY, folder, dirs_exist_ok=True)
    return lambda: mgtool.train([str(folder.parent)], folder.parent / "out", mgtool.TrainOptions(model=folder))


CASES = {
    "infer": _native,
    "infer hf": _transformers,
    "detect hf": _detector,
    "detect owlv2": _owlv2,
    "import llm": _part("llm"),
    "import clip": _part("clip"),
    "judge": _judge,
    "train": _trained,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "renamed"), [*((name, True) for name in CASES), ("infer", False), ("infer hf", False), ("train", False)]
)
def test_code_of_a_model_folder(name: str, renamed: bool, tmp_path: Path, asked: list[str]) -> None:
    """Configurations are of types that transformers knows, or of types that only the folder's own code knows."""
    folder, ran = tmp_path / "model", tmp_path / "ran"
    folder.mkdir()
    run = CASES[name](folder)
    _poison(folder, ran, renamed=renamed)
    with contextlib.suppress(MgtoolError):
        run()
    assert not asked
    assert not ran.exists()
