"""`mgtool train`: what it changes, how it goes on, what it says."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import tiny_config, tiny_model

from mgtool.errors import ItemError, OutputError, UsageError
from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor
from mgtool.records import Detections, Media, Sample, Turn
from mgtool.stages.train import plan
from mgtool.stages.train import train as train_model
from mgtool.training import recipe
from mgtool.training.examples import Example, collate, to_example
from mgtool.training.options import TrainOptions
from mgtool.training.output import explained
from mgtool.training.trainer import last_losses

QUICK = ("--device", "cpu", "--dtype", "float32", "--batch-size", "2", "-q")
ALIGNED = ("projector.", "box_projector.", "fusion.")


@pytest.fixture
def train(mgtool, model_dir: Path, tmp_path: Path):
    """Run `mgtool train` quietly; gives the exit code, the output folder and stderr."""

    def run(tars: Path, *options: object, out: str = "run"):
        code, _, stderr = mgtool("train", tars, "--model", model_dir, "--out", tmp_path / out, *QUICK, *options)
        return code, tmp_path / out, stderr

    return run


def changed(before: Path, after: Path) -> set[str]:
    old, new = load_file(before / "model.safetensors"), load_file(after / "model.safetensors")
    assert old.keys() == new.keys()
    return {name for name, weight in new.items() if not torch.equal(weight, old[name])}


def nearly_the_same(one: Path, two: Path) -> None:
    weights, others = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, atol=2e-4, rtol=1e-3)


def test_a_stage_changes_its_parameters_alone(train, pack, model_dir: Path) -> None:
    tars = pack()
    code, aligned, stderr = train(tars, "--stage", "align", "--epochs", "2", out="align")
    assert code == 0, stderr
    assert {name.split(".")[0] + "." for name in changed(model_dir, aligned)} == set(ALIGNED)
    code, tuned, stderr = train(tars, "--stage", "tune", "--epochs", "2", "--learning-rate", "1e-3", out="tune")
    assert code == 0, stderr
    assert {name.split(".")[0] + "." for name in changed(model_dir, tuned)} == {*ALIGNED, "language_model."}


@pytest.mark.parametrize("wanted", [False, True])
def test_checkpointing_is_asked_for_by_the_name_that_transformers_has(wanted: bool, monkeypatch, tmp_path) -> None:
    names = [field.name for field in dataclasses.fields(transformers.TrainingArguments)]
    older = [(name, object, None) for name in names if not name.startswith("activation_checkpointing")]
    monkeypatch.setattr(recipe, "TrainingArguments", dataclasses.make_dataclass("Older", older))
    arguments = recipe.training_arguments(TrainOptions(model=tmp_path, gradient_checkpointing=wanted), tmp_path)
    assert arguments.gradient_checkpointing is wanted


def test_it_learns_and_the_folder_is_a_model(train, pack, mgtool, tmp_path: Path) -> None:
    tars = pack()
    code, out, stderr = train(tars, "--stage", "tune", "--epochs", "30", "--learning-rate", "3e-3")
    assert code == 0, stderr
    losses = [
        entry["loss"] for line in (out / "log.jsonl").read_bytes().splitlines() if "loss" in (entry := json.loads(line))
    ]
    assert losses[-1] < losses[0] / 4
    code, _, stderr = mgtool(
        "infer", tars, "--model", out, "--out", tmp_path / "answers.jsonl", "--device", "cpu", "-q"
    )
    assert code == 0, stderr
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_bytes().splitlines()]
    assert [answer["text"] for answer in answers] == [answer["question_id"] for answer in answers]


def test_the_loss_is_the_models(train, pack, model_dir: Path) -> None:
    _, out, _ = train(pack(), "--max-steps", "1", "--batch-size", "4")
    model, processor = (
        MGLlavaForConditionalGeneration.from_pretrained(model_dir),
        MGLlavaProcessor.from_pretrained(model_dir),
    )
    pictures = Path(out.parent / "pictures")
    samples = [
        Sample(
            id=path.stem,
            images=(Media(name=path.name, uri=str(path)),),
            turns=(Turn("human", "<image>\nWhich colour?"), Turn("gpt", path.stem)),
        )
        for path in sorted(pictures.iterdir())
    ]
    batch = collate([to_example(sample, processor, max_length=100) for sample in samples], processor)
    expected = model.train()(**batch).loss.item()
    first = json.loads((out / "log.jsonl").read_bytes().splitlines()[0])
    assert first["loss"] == pytest.approx(expected, rel=1e-4)


def as_if_killed(out: Path, *, at: int) -> None:
    """Undo the end of a run; the checkpoint of the step `at` is torn."""
    for name in ("model.safetensors", "config.json", "log.jsonl"):
        (out / name).unlink()
    newest = out / "checkpoints" / f"checkpoint-{at}" / "trainer_state.json"
    newest.write_bytes(newest.read_bytes()[:100])
    record = json.loads((out / "run.json").read_bytes())
    (out / "run.json").write_text(json.dumps({**record, "times": {}}))


def test_an_interrupted_run_ends_with_the_same_weights(train, pack) -> None:
    tars = pack()
    _, whole, _ = train(tars, "--epochs", "3", "--save-steps", "2", out="whole")
    _, part, _ = train(tars, "--epochs", "3", "--save-steps", "2", out="part")
    assert set(json.loads((part / "run.json").read_bytes())["versions"]) >= {
        "python",
        "mgtool",
        "torch",
        "transformers",
    }
    as_if_killed(part, at=6)
    code, _, stderr = train(tars, "--epochs", "3", "--save-steps", "2", out="part")
    assert code == 0, stderr
    assert not changed(whole, part)


def test_a_finished_run_is_not_repeated_and_another_one_is_refused(train, pack) -> None:
    tars = pack()
    _, out, _ = train(tars, "--max-steps", "1")
    written = (out / "model.safetensors").stat().st_mtime_ns
    code, _, _ = train(tars, "--max-steps", "1")
    assert code == 0
    assert (out / "model.safetensors").stat().st_mtime_ns == written
    code, _, stderr = train(tars, "--max-steps", "2")
    assert code == 2
    assert "max_steps 1, now it is 2" in stderr


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_models_that_no_training_wrote_are_not_touched(pack, mgtool, model_dir: Path, tmp_path: Path, more) -> None:
    tars = pack()
    own, other = tmp_path / "own", tmp_path / "other"
    for folder in (own, other):
        shutil.copytree(model_dir, folder)
    before = {path: path.read_bytes() for folder in (own, other) for path in folder.iterdir()}
    options = ("--device", "cpu", "--dtype", "float32", "--max-steps", 1, *more)
    for out, reason in ((own, "is the model that is trained"), (other, "a model that no training wrote")):
        code, _, stderr = mgtool("train", tars, "--model", own, "--out", out, *options)
        assert code == 2
        assert reason in " ".join(stderr.split())
    assert before == {path: path.read_bytes() for folder in (own, other) for path in folder.iterdir()}


def test_a_rate_of_0_changes_nothing(train, pack, model_dir: Path) -> None:
    _, out, _ = train(pack(), "--max-steps", "1", "--learning-rate", "0")
    assert not changed(model_dir, out)


def test_a_run_goes_on_with_the_same_number_of_samples_a_step(train, pack) -> None:
    """Else steps would count other samples: some would come twice and some not at all."""
    tars, options = pack(), ("--epochs", "3", "--save-steps", "2", "--learning-rate", "1e-3")
    _, whole, _ = train(tars, *options, out="whole")
    _, part, _ = train(tars, *options, out="part")
    as_if_killed(part, at=6)
    code, _, stderr = train(tars, *options, "--accumulate", "2", out="part")
    assert (code, stderr.count("\n")) == (2, 1)
    assert "samples_a_step 2, now it is 4" in stderr
    code, _, stderr = train(tars, *options, "--batch-size", "1", "--accumulate", "2", out="part")
    assert code == 0, stderr
    nearly_the_same(whole, part)


def test_a_batch_of_text_alone_teaches_the_picture_path_nothing(train, pack, model_dir: Path) -> None:
    tars = pack("texts", colours=(), texts=3)
    code, out, stderr = train(tars, "--stage", "align", "--evaluate", tars, "--save-steps", "1", out="align")
    assert code == 0, stderr
    assert not changed(model_dir, out)
    (first, *_) = [
        entry for line in (out / "log.jsonl").read_bytes().splitlines() if "eval_loss" in (entry := json.loads(line))
    ]
    assert first["eval_loss"] > 0
    code, out, stderr = train(tars, "--stage", "tune", "--learning-rate", "1e-3", out="tune")
    assert code == 0, stderr
    assert {name.split(".")[0] for name in changed(model_dir, out)} == {"language_model"}


@pytest.mark.parametrize("changes", [{}, {"boxes": False}, {"fusion": "none", "boxes": False}])
def test_text_alone_costs_the_same_in_training(changes) -> None:
    """The black picture behind it changes neither the loss nor what the language model learns."""
    model = tiny_model(tiny_config(**changes))
    ids = torch.tensor([[1, 5, 6, 7], [1, 8, 9, 2]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    gradients = []
    for training in (False, True):
        model.train(training).zero_grad()
        loss = model(**batch).loss
        loss.backward()
        gradients.append([parameter.grad for parameter in model.language_model.parameters()])
    assert loss == model.eval()(**batch).loss
    assert all(map(torch.equal, *gradients))
    assert all(not parameter.grad.any() for parameter in model.projector.parameters())


@pytest.mark.parametrize("found", [4, 16])
def test_boxes_of_other_frames_are_not_learned(write_video, model_dir: Path, found: int) -> None:
    """As `infer` refuses them: frame 3 of 16 is another moment than frame 3 of 8."""
    data = write_video(np.full((48, 64, 3), 8 * place, np.uint8) for place in range(20))
    processor = MGLlavaProcessor.from_pretrained(model_dir)

    def learned(frames: int | None) -> Example:
        boxes = tuple(Detections(((place, 0.0, 60.0, 40.0),), (0.9,), ("cup",)) for place in range(frames or 0))
        video = Media(name="a.mp4", data=data, detections=boxes or None)
        turns = (Turn("human", "<video>\nWhat?"), Turn("gpt", "A cup."))
        return to_example(Sample(id=1, video=video, turns=turns), processor, max_length=100)

    assert len({tuple(picture.boxes.flatten().tolist()) for picture in learned(8).pictures}) == 8
    assert learned(None).frame_counts == [8]
    with pytest.raises(ItemError, match=f"bad_boxes: boxes of {found} frames; the model is shown 8"):
        learned(found)


def test_a_sample_that_cannot_be_learned_is_a_failure_record(train, pack) -> None:
    tars = pack(unanswered=("green",))
    code, out, _ = train(tars, "--epochs", "2")
    assert code == 3
    (failure,) = [json.loads(line) for line in (out / "failures.jsonl").read_bytes().splitlines()]
    assert (failure["id"], failure["stage"], failure["reason"]) == ("green", "train", "bad_record")
    code, _, _ = train(tars, "--epochs", "2", "--allow-failures", "1")
    assert code == 0


def test_mistakes_are_one_line_and_leave_nothing(train, pack, tmp_path: Path, mgtool, model_dir: Path) -> None:
    code, out, stderr = train(tmp_path / "nowhere")
    assert (code, out.exists()) == (2, False)
    assert stderr.count("\n") == 1
    tars = pack()
    code, _, stderr = mgtool("train", tars, "--model", tmp_path, "--out", out)
    assert (code, out.exists()) == (2, False)
    assert "holds no model" in stderr
    (tmp_path / "trainer.toml").write_text("learnin_rate = 1\n")
    code, _, stderr = train(tars, "--trainer", tmp_path / "trainer.toml")
    assert (code, out.exists()) == (2, False)
    assert "learnin_rate" in stderr


def test_a_dry_run_counts_parameters_and_steps(pack, mgtool, model_dir: Path, tmp_path: Path) -> None:
    model = MGLlavaForConditionalGeneration.from_pretrained(model_dir)
    options = ("--stage", "align", "--batch-size", "1", "--epochs", "3", "--devices", "2", "--dry-run", "--json")
    code, stdout, _ = mgtool("train", pack(), "--model", model_dir, "--out", tmp_path / "run", *options)
    plan = json.loads(stdout)
    assert code == 0
    assert plan["parameters"]["all"] == sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for group in model.parameter_groups("align") for parameter in group["params"])
    assert plan["trained"]["align"] == trained
    assert plan["steps"] == 6  # 4 samples on 2 devices, 3 times
    assert not (tmp_path / "run").exists()


@pytest.fixture
def train_in_two(model_dir: Path, tmp_path: Path):
    """As `train`, in two processes."""

    def run(tars: Path, *options: object, out: str) -> Path:
        launch = ("torchrun", "--no-python", "--nproc-per-node", "2", "mgtool", "train", tars, "--model", model_dir)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [str(part) for part in (*launch, "--out", tmp_path / out, *QUICK, *options)],
            env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return tmp_path / out

    return run


@pytest.mark.slow
def test_two_processes_learn_what_one_does(train, train_in_two, pack) -> None:
    tars, options = pack(), ("--stage", "tune", "--epochs", "3", "--learning-rate", "1e-3")
    _, alone, _ = train(tars, *options, "--batch-size", "4", out="alone")
    nearly_the_same(alone, train_in_two(tars, *options, out="both"))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["align", "tune"])
def test_two_processes_of_which_one_has_text_alone(train, train_in_two, pack, stage: str) -> None:
    """Batches of one sample: in most steps one process has a picture and the other has none."""
    tars, options = pack(texts=4), ("--stage", stage, "--epochs", "2", "--learning-rate", "1e-3", "--batch-size", "1")
    _, alone, _ = train(tars, *options, "--accumulate", "2", out="alone")
    nearly_the_same(alone, train_in_two(tars, *options, "--gradient-checkpointing", out="both"))


@pytest.mark.slow
def test_one_process_goes_on_with_what_two_began(train, train_in_two, pack) -> None:
    """From the middle of an epoch, with the other half of its samples."""
    tars = pack(texts=4)
    options = ("--stage", "tune", "--epochs", "2", "--learning-rate", "1e-3", "--batch-size", "1", "--save-steps", "2")
    _, whole, _ = train(tars, *options, "--accumulate", "2", out="whole")
    part = train_in_two(tars, *options, out="part")
    as_if_killed(part, at=8)
    code, _, stderr = train(tars, *options, "--accumulate", "2", out="part")
    assert code == 0, stderr
    nearly_the_same(whole, part)


def test_a_model_of_the_same_sizes_with_other_weights_is_another_run(
    pack, mgtool, model_dir: Path, tmp_path: Path
) -> None:
    tars, model = pack(), tmp_path / "model"
    shutil.copytree(model_dir, model)
    command = ("train", tars, "--model", model, "--out", tmp_path / "run", *QUICK, "--max-steps", "1")
    assert mgtool(*command)[0] == 0
    weights = load_file(model / "model.safetensors")
    save_file({name: weight + 1 for name, weight in weights.items()}, model / "model.safetensors", {"format": "pt"})
    code, _, stderr = mgtool(*command)
    assert code == 2
    assert "holds a run with model" in stderr


def test_python_has_all_of_it(pack, model_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tars, out, steps, entries = [str(pack(unanswered=("red",)))], tmp_path / "run", [], []
    options = TrainOptions(model=model_dir, device="cpu", dtype="float32", batch_size=2, max_steps=2)
    assert plan(tars, options).steps == 2
    done = train_model(tars, out, options, advance=steps.append, report=entries.append)
    assert (done.out, done.samples, done.steps, done.failures) == (out, 4, 2, 1)
    assert sum(steps) == 2
    assert entries[-1]["step"] == 2
    assert json.loads((out / "run.json").read_bytes())["counts"] == done.counts
    assert train_model(tars, out, options) == done
    assert "<th>steps</th><td>2</td>" in done._repr_html_()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("wrong", [{"device": "cuda"}, {"stage": "sft"}, {"dtype": "int8"}])
def test_options_that_there_are_not_are_named(wrong) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(UsageError, match=f"`{name}` {value}: "):
        TrainOptions(model=Path("model"), **wrong)


@pytest.mark.parametrize("house", ["training", "importing"])
def test_options_load_nothing_heavy(house: str) -> None:
    heavy = ("torch", "transformers", "msgspec", "numpy")
    code = f"import sys, mgtool.{house}.options; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_run_that_ended_in_its_last_checkpoint_takes_no_step_more(train, pack) -> None:
    tars, steps = pack(), ("--max-steps", "2", "--save-steps", "1")
    assert train(tars, *steps, out="whole")[0] == 0
    code, out, _ = train(tars, *steps)
    assert code == 0
    for name in ("config.json", "model.safetensors"):
        (out / name).unlink()  # as if it had been killed before
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(record | {"counts": {}, "times": {}}))
    assert train(tars, *steps)[0] == 0
    whole = out.with_name("whole")
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert (
        json.loads((out / "run.json").read_text())["counts"] == json.loads((whole / "run.json").read_text())["counts"]
    )


def test_the_mean_loss_is_that_of_all_steps() -> None:
    history = [{"step": 1, "loss": 4.0}, {"step": 10, "loss": 2.0}, {"step": 10, "eval_loss": 3.0}]
    assert last_losses(history) == {"loss": 2.0, "eval_loss": 3.0, "train_loss": (4 + 2 * 9) / 10}
    assert last_losses([]) == {}


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file data/0"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 8384 vs 8278"),
    ],
)
def test_a_full_disk_is_one_line(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(OutputError, match="No space left"), explained(tmp_path):
        raise error
    with pytest.raises(RuntimeError, match="shape"), explained(tmp_path):
        raise RuntimeError("shape")
