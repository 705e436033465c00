"""What a report of a fault needs."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

import mgtool as library


def test_what_is_here_is_told_in_words_and_as_json(mgtool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "huggingface").mkdir()
    (tmp_path / "huggingface/weights").write_bytes(bytes(200_000_000))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setenv("MGTOOL_WORKERS", "secret")
    code, told, said = mgtool("env", "--json")
    assert (code, said) == (0, "")
    found = json.loads(told)
    assert found["versions"]["torch"] == metadata.version("torch")
    assert found["versions"]["onnxruntime"] == metadata.version("onnxruntime")
    assert found["chosen"]["dtype"] in ("float32", "bfloat16", "float16")
    assert found["caches"]["models of the Hugging Face hub"].endswith("0.2 GB")
    assert found["variables"] == ["MGTOOL_WORKERS"]
    _, told, _ = mgtool("env")
    assert "secret" not in told
    assert all(name.replace("_", " ") in told for name in found)
    assert library.environment().cores == found["cores"]


def test_a_missing_extra_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [
        "numpy>=2",
        'nothing-of-this-name>=1 ; extra == "odd"',
        'pytest>=8; python_version > "3" and extra == "dev"',
    ]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    assert library.environment().extras == {"odd": "nothing-of-this-name is missing: pip install 'mgtool[odd]'"}


def test_the_version_names_what_computes(mgtool) -> None:
    code, told, _ = mgtool("--version")
    first, second = told.splitlines()
    assert code == 0
    assert first == f"mgtool {library.__version__}"
    assert f"torch {metadata.version('torch')}" in second
    assert f"onnxruntime {metadata.version('onnxruntime')}" in second
