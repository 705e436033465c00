"""`mgtool train`: packed tars -> a trained model, in the paper's two stages."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mgtool.commands import console
from mgtool.commands import train_options as options
from mgtool.commands.options import AllowFailures, Config, DryRun, Json, Model, Overwrite, Quiet, exit_code
from mgtool.errors import UsageError

if TYPE_CHECKING:
    from mgtool.training.options import Request

_REPORTED = ("loss", "grad_norm", "learning_rate", "eval_loss", "train_loss")


def train(
    inputs: options.Inputs,
    model: Model,
    out: options.Out,
    stage: options.WhichStage = options.Stage.tune,
    evaluate: options.Evaluate = None,
    epochs: options.Epochs = 1.0,
    max_steps: options.MaxSteps = -1,
    batch_size: options.BatchSize = None,
    accumulate: options.Accumulate = 1,
    learning_rate: options.LearningRate = None,
    max_length: options.MaxLength = 1472,
    dtype: options.Dtype = options.Precision.bfloat16,
    device: options.Device = "auto",
    devices: options.Devices = 1,
    gradient_checkpointing: options.GradientCheckpointing = False,
    trainer: options.Trainer = None,
    save_steps: options.SaveSteps = 500,
    seed: options.Seed = 0,
    workers: options.Workers = 0,
    quiet: Quiet = False,
    as_json: Json = False,
    config: Config = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    allow_failures: AllowFailures = "0",
) -> None:
    """Train a model on packed samples; a second run goes on from the last checkpoint.

    Several devices: torchrun --no-python --nproc-per-node 8 mgtool train ...
    """
    given = dict(locals())
    exit_code(0, 0, allow_failures)
    request = _request(given)
    if dry_run:
        from mgtool.stages import train as stages

        plan = {"out": str(out), **stages.plan(request, devices=devices).summary()}
        console.summarize(plan, title="mgtool train would take", as_json=as_json, quiet=False)
        return
    quiet = quiet or os.environ.get("RANK", "0") != "0"
    done = _carry_out(request, out, overwrite=overwrite, quiet=quiet)
    if done:
        console.summarize({"out": str(out), **done}, title="mgtool train", as_json=as_json, quiet=quiet)
        console.show_failures(done["failures"], out, quiet=quiet)
        raise typer.Exit(exit_code(done["failures"], done["samples"], allow_failures))


_AS_GIVEN = (
    "learning_rate",
    "batch_size",
    "accumulate",
    "epochs",
    "max_steps",
    "save_steps",
    "seed",
    "workers",
    "gradient_checkpointing",
)


def _request(given: Mapping[str, Any]) -> Request:
    if given["device"] not in ("auto", "cpu"):
        raise UsageError("device", f"{given['device']}: auto or cpu; torchrun gives each process its own device")
    from mgtool.training.options import Request
    from mgtool.training.recipe import Recipe

    recipe = Recipe(
        stage=given["stage"].value,
        dtype=given["dtype"].value,
        use_cpu=given["device"] == "cpu",
        trainer=_trainer_fields(given["trainer"]),
        **{name: given[name] for name in _AS_GIVEN},
    )
    names = ("inputs", "model", "max_length", "evaluate")
    return Request(recipe=recipe, **{name: given[name] for name in names})


def _carry_out(request: Request, out: Path, *, overwrite: bool, quiet: bool) -> dict[str, Any]:
    from mgtool.stages import train as stages

    with console.progress("steps", quiet=quiet) as advance:
        return stages.train(request, out, overwrite=overwrite, advance=advance, report=_reporter(quiet))


def _reporter(quiet: bool) -> Callable[[Mapping[str, Any]], None]:
    """A line for each log entry."""

    def report(entry: Mapping[str, Any]) -> None:
        shown = (f"{name} {value:.4g}" for name, value in entry.items() if name in _REPORTED)
        console.say(f"step {entry['step']}: {', '.join(shown)}")

    return (lambda entry: None) if quiet else report


def _trainer_fields(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    import tomllib

    try:
        text = path.read_text(encoding="utf-8")
        fields = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise UsageError("trainer", f"{path}: {error}") from error
    if not isinstance(fields, dict):
        raise UsageError("trainer", f"{path}: expected an object with fields of TrainingArguments")
    return fields
