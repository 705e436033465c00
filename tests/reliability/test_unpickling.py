"""While commands run, nothing that a file's pickle names is looked up, but through a process's channel to its workers.

Python tells of each such look-up itself, whoever unpickles; torch's own reader of weights makes none.
"""

from __future__ import annotations

import functools
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny_transformers
import torch
from safetensors.torch import load_file
from tiny_models import KIT, TESTS

import mgtool

TINY = Path(mgtool.__file__).parent / "model" / "tiny"
PHOTO = TESTS / "images" / "coffee.jpg"
CHANNELS = ("/multiprocessing/", "/concurrent/futures/")


def watch(found: Path) -> None:
    """Note what is looked up for a pickle and by whom, and how checkpoints are loaded."""
    sys.addaudithook(functools.partial(_hear, found))
    load = torch.load

    def noted(*args: Any, **options: Any) -> Any:
        _note(found, f"torch.load weights_only={options.get('weights_only')}")
        return load(*args, **options)

    torch.load = noted


def _hear(found: Path, event: str, args: tuple[Any, ...]) -> None:
    if event != "pickle.find_class":
        return
    frame, callers = sys._getframe(1), []
    while frame is not None:
        callers.append(frame.f_code.co_filename)
        frame = frame.f_back
    if not any(channel in caller for caller in callers[:6] for channel in CHANNELS):
        _note(found, f"{args[0]}.{args[1]} {' '.join(callers[:4])}")


def _note(found: Path, line: str) -> None:
    with found.open("a") as file:
        file.write(f"{line}\n")


def _run(folder: Path, *words: object) -> list[str]:
    """Run a command; what was noted."""
    found = folder / "found"
    found.write_text("")
    ended = forked.run([*words, "-q"], folder, seconds=120, before=functools.partial(watch, found))
    assert ended.code == 0, ended.said
    return found.read_text().splitlines()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture, questions, truth, and tars to learn from."""
    folder = tmp_path_factory.mktemp("given")
    shutil.copy(PHOTO, folder / "a.jpg")
    turns = [{"from": "human", "value": "<image>\nQ?"}, {"from": "gpt", "value": "A"}]
    (folder / "c.json").write_text(json.dumps([{"id": "a", "image": "a.jpg", "conversations": turns}]))
    (folder / "q.jsonl").write_text(json.dumps({"question_id": 1, "image": "a.jpg", "text": "Q?"}))
    (folder / "truth.jsonl").write_text(json.dumps({"question_id": 1, "text": "Q?", "answer": "A"}))
    return folder


def test_detect(given: Path, tmp_path: Path) -> None:
    words = ("detect", given / "a.jpg", "--workers", 0)
    assert _run(tmp_path, *words, "--detector", "tiny", "--out", tmp_path / "1") == []
    folder = tiny_transformers.owl("owlv2", tmp_path / "owl")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    found = _run(tmp_path, *words, "--detector", f"hf:{folder}", "--vocabulary", "cat", "--out", tmp_path / "2")
    assert found
    assert set(found) == {"torch.load weights_only=True"}


def test_import_and_infer_and_eval(given: Path, tmp_path: Path) -> None:
    parts = [f"--{name}={KIT / name}" for name in ("llm", "clip", "convnext")]
    found = _run(
        tmp_path, "import", f"--checkpoint={KIT / 'mg_llava.pth'}", *parts, "--template=vicuna", "--out", tmp_path / "m"
    )
    assert set(found) == {"torch.load weights_only=True"}
    asked = ("infer", given / "q.jsonl", "--images", given, "--max-new-tokens", 1, "--out", tmp_path / "a.jsonl")
    assert _run(tmp_path, *asked, "--model", tmp_path / "m", "--workers", 1) == []
    truth = ("--ground-truth", given / "truth.jsonl", "--out", tmp_path / "s")
    assert _run(tmp_path, "eval", tmp_path / "a.jsonl", "--benchmark", "custom", *truth) == []


def test_train_that_goes_on(given: Path, tmp_path: Path) -> None:
    assert _run(tmp_path, "pack", given / "c.json", "--images", given, "--workers", 1, "--out", tmp_path / "t") == []
    words = ("train", tmp_path / "t", "--model", TINY, "--max-steps", 2, "--save-steps", 1, "--device", "cpu")
    assert _run(tmp_path, *words, "--out", tmp_path / "o") == []
    shutil.rmtree(tmp_path / "o/checkpoints/checkpoint-2")
    (tmp_path / "o/config.json").unlink()
    found = _run(tmp_path, *words, "--out", tmp_path / "o")
    assert set(found) == {"torch.load weights_only=True"}


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("!",)


def test_a_look_up_is_seen(tmp_path: Path) -> None:
    (tmp_path / "found").touch()
    code = (
        "import pathlib, pickle, sys; sys.path[:0] = sys.argv[2:]; import test_unpickling as t;"
        "t.watch(pathlib.Path(sys.argv[1])); pickle.loads(eval(sys.stdin.read()))"
    )
    places = [str(Path(__file__).parent), str(TESTS / "support")]
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "found"), *places],
        input=repr(pickle.dumps(_Evil())), text=True, check=True, capture_output=True,
    )  # fmt: skip
    assert (tmp_path / "found").read_text().startswith("builtins.print ")
