"""`--backend vllm` answers as `native` does: run by `make vllm-test`, in an environment that has vLLM."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec import structs

pytest.importorskip("vllm", reason="vLLM is not installed: make vllm-test")

import mgtool
from mgtool.errors import MgtoolError, UsageError
from mgtool.inference import pipeline, vllm_model
from mgtool.inference.loading import kept_model, load_model
from mgtool.inputs.model_folders import model_folder
from mgtool.records import Answer
from mgtool.stages import infer as stage

PHOTOS = Path(__file__).parent.parent / "images"
NAMES = ("china.jpg", "coffee.jpg", "astronaut_portrait.jpg")
QUESTIONS = ("What is in the picture?", "How many things are there?", "Is there a cup?", "What colour is it?")
LONG = " ".join(["word"] * 2000)
KEPT: list[tuple[object, object]] = []


@pytest.fixture(autouse=True)
def one_engine():
    """One engine serves all tests that can share it."""
    with kept_model(KEPT):
        yield


@pytest.fixture
def questions(tmp_path):
    """Of three pictures, of none, of a picture that is missing, and one that is too long."""
    records = [{"image": name, "text": text} for name in NAMES for text in QUESTIONS]
    records += [{"text": "What colour is the sky?"}, {"image": "none.jpg", "text": "What?"}, {"text": LONG}]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps({"question_id": n} | one) + "\n" for n, one in enumerate(records)))
    return path


def asked(backend, **options):
    wanted = {"model": "tiny", "images": str(PHOTOS), "device": "cpu", "max_new_tokens": 12, "backend": backend}
    return mgtool.InferOptions(**(wanted | options))


def both(questions, **options):
    """What the two ways give."""
    native = list(mgtool.answers([questions], asked("native", **options)))
    return native, list(mgtool.answers([questions], asked("vllm", **options)))


def test_answers_failures_and_their_order_are_those_of_native(questions):
    native, found = both(questions)
    assert found == native
    assert [one.reason for one in found[-2:]] == ["missing", "prompt_too_long"]


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.8, "top_p": 0.9, "num_samples": 3, "seed": 5},
        {"choices": "a cat,two dogs,no"},
        {"yes_no": True},
        {"stop": ["r", "1"]},
        {"max_new_tokens": 1},
        {"truncate": "left"},
        {"boxes": "off", "system": "Be short."},
    ],
    ids=str,
)
def test_options_work_as_with_native(questions, options):
    native, found = both(questions, **options)
    assert [said(one) for one in found] == [said(one) for one in native]
    scores = [one.metadata["choices"] for one in found if isinstance(one, Answer) and "choices" in one.metadata]
    expected = [one.metadata["choices"] for one in native if isinstance(one, Answer) and "choices" in one.metadata]
    assert [pytest.approx(one, abs=2e-3) for one in expected] == scores


def said(record):
    """All but the numbers that another order of computing changes."""
    return structs.replace(record, metadata={}) if isinstance(record, Answer) else record


def test_log_probabilities_are_those_of_native(questions):
    native, found = both(questions, logprobs=True)
    pairs = [
        (mine, its)
        for one, other in zip(native[:-2], found[:-2], strict=True)
        for mine, its in zip(one.metadata["logprobs"], other.metadata["logprobs"], strict=True)
    ]
    assert pairs
    assert all(mine["token"] == its["token"] for mine, its in pairs)
    assert all(abs(mine["logprob"] - its["logprob"]) < 2e-3 for mine, its in pairs)


def test_a_cached_answer_is_of_one_backend(questions, tmp_path, monkeypatch):
    cache = {"cache": tmp_path / "cache"}
    *answered, _missing, _too_long = questions.read_text().splitlines(keepends=True)
    questions.write_text("".join(answered))  # a model is needed to see that a prompt is too long
    first = list(mgtool.answers([questions], asked("vllm", **cache)))
    monkeypatch.setattr(pipeline, "load_model", lambda plan: pytest.fail("a model was loaded"))
    assert list(mgtool.answers([questions], asked("vllm", **cache))) == first
    with pytest.raises(pytest.fail.Exception):
        list(mgtool.answers([questions], asked("native", **cache)))


def test_parity_compares_shared_prefixes_with_none(questions):
    parity = stage.check_parity([questions], asked("vllm"), 8)
    assert (parity.samples, parity.equal) == (8, 1.0)
    assert parity.largest_difference < 1e-3


def test_a_dead_engine_is_one_line_and_the_run_goes_on(questions, tmp_path, monkeypatch):
    out = tmp_path / "answers.jsonl"
    expected = tmp_path / "expected.jsonl"
    mgtool.infer([questions], expected, asked("native"))
    plan = stage.InferencePlan.of([questions], asked("vllm", batch_size=4))
    engine = load_model(plan).started.engine
    whole, steps = engine.step, iter(range(5))

    def step():
        if next(steps, None) is None:
            raise RuntimeError("EngineCore encountered an issue.\nSee the stack trace")
        return whole()

    monkeypatch.setattr(engine, "step", step)
    with pytest.raises(MgtoolError, match="its engine stopped: EngineCore encountered an issue") as error:
        mgtool.infer([questions], out, asked("vllm", batch_size=4))
    assert "\n" not in str(error.value)
    assert "goes on with the rest" in str(error.value)
    done = mgtool.infer([questions], out, asked("native"))
    assert out.read_bytes() == expected.read_bytes()
    assert done.backend == "native"
    KEPT.clear()


def test_too_little_memory_is_one_line(questions, monkeypatch):
    monkeypatch.setattr(vllm_model, "MEMORY_SHARE", 1e-7)
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)  # the user's word, which vLLM puts before all
    KEPT.clear()
    with pytest.raises(MgtoolError, match=r"too little memory.*`batch_size`") as error:
        list(mgtool.answers([questions], asked("vllm")))
    assert "\n" not in str(error.value)


def test_a_language_model_that_vllm_lacks_is_named(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in model_folder("tiny").iterdir():
        (folder / file.name).symlink_to(file)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"model_type": "biogpt", "architectures": ["BioGptForCausalLM"]}
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="vLLM does not have BioGptForCausalLM; `backend` native does"):
        mgtool.answers(["-"], asked("vllm", model=folder))


def test_weights_are_read_where_they_are():
    names = {name for name, _ in vllm_model._weights(model_folder("tiny"))}
    assert "model.embed_tokens.weight" in names
    assert not any(name.startswith(("low_tower", "high_tower", "projector", "language_model")) for name in names)
