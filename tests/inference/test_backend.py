"""Which engine answers, and what is refused for which."""

from __future__ import annotations

import importlib.util

import pytest

import mgtool
from mgtool.errors import MissingExtraError, UsageError
from mgtool.inference import backend

HAS_VLLM = importlib.util.find_spec("vllm") is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("explain", "boxes"),
        ("quantize", "8bit"),
        ("device_map", "auto"),
        ("tensor_parallel", 2),
        ("deterministic", True),
    ],
)
def test_what_vllm_does_not_do_is_refused_by_its_name(name, value):
    with pytest.raises(UsageError, match=f"`backend` vllm and `{name}` do not go together: it is for `backend` native"):
        mgtool.InferOptions(model="tiny", backend="vllm", **{name: value})


def test_the_command_names_both_flags(mgtool):
    code, _, stderr = mgtool(
        "infer", "x.jpg", "--model", "tiny", "--backend", "vllm", "--explain", "boxes", "--out", "o"
    )
    assert code == 2
    assert "--backend vllm and --explain do not go together" in stderr


@pytest.mark.skipif(HAS_VLLM, reason="vLLM is installed")
def test_vllm_that_is_not_installed_is_named_with_its_extra():
    with pytest.raises(MissingExtraError, match=r"`backend` vllm needs an extra: pip install 'mgtool\[vllm\]'"):
        mgtool.answers(["x.jpg"], mgtool.InferOptions(model="tiny", device="cpu", backend="vllm"))


def test_a_model_of_transformers_is_refused_and_auto_takes_native(monkeypatch):
    options = mgtool.InferOptions(model="hf:owner/name", backend="auto")
    assert "no other model's pictures" in backend.lack_of(options)
    monkeypatch.setattr(backend, "is_installed", lambda: True)
    assert backend.choose(options, "cuda") == "native"


def test_auto_is_native_without_a_gpu():
    options = mgtool.InferOptions(model="tiny", device="cpu", backend="auto")
    assert backend.choose(options, "cpu") == "native"


def test_auto_is_native_on_a_gpu_for_what_vllm_does_not_do(monkeypatch):
    monkeypatch.setattr(backend, "is_installed", lambda: pytest.fail("vLLM was looked for"))
    options = mgtool.InferOptions(model="tiny", backend="auto", deterministic=True)
    assert backend.choose(options, "cuda") == "native"


def test_a_run_that_began_with_another_backend_goes_on(tmp_path, mgtool):
    pictures = tmp_path / "questions.jsonl"
    pictures.write_text('{"question_id": 1, "text": "What colour is the sky?"}\n')
    fixed = ("infer", pictures, "--model", "tiny", "--device", "cpu", "--out", tmp_path / "answers.jsonl")
    assert mgtool(*fixed, "--backend", "native", "--json")[0] == 0
    code, stdout, _ = mgtool(*fixed, "--backend", "auto", "--json")
    assert code == 0
    assert '"backend":"native"' in stdout
