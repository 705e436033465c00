"""`mgtool train`: packed tars -> a trained model, in the paper's two stages."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mgtool.commands import console
from mgtool.commands.options import AllowFailures, Config, DryRun, Json, Overwrite, Quiet, exit_code
from mgtool.errors import UsageError

_REPORTED = ("loss", "grad_norm", "learning_rate", "eval_loss", "train_loss")


class Stage(StrEnum):
    """The paper's stages."""

    align = "align"
    tune = "tune"


class Precision(StrEnum):
    """Number formats of the arithmetic; weights are float32."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def train(
    inputs: Annotated[list[str], typer.Argument(metavar="TARS...", help="What `mgtool pack` wrote.")],
    model: Annotated[Path, typer.Option("--model", help="Folder of the model to start from.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Becomes a model folder.")],
    stage: Annotated[
        Stage, typer.Option("--stage", help="align: projectors and fusion; tune: the language model too.")
    ] = Stage.tune,
    evaluate: Annotated[
        str | None, typer.Option("--evaluate", metavar="TARS", help="Measure the loss on these, every --save-steps.")
    ] = None,
    epochs: Annotated[float, typer.Option("--epochs", min=0, help="Passes over the samples.")] = 1.0,
    max_steps: Annotated[int, typer.Option("--max-steps", help="End after so many steps.")] = -1,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Samples on a device at once (align: 32, tune: 16).")
    ] = None,
    accumulate: Annotated[int, typer.Option("--accumulate", min=1, help="Batches of a step.")] = 1,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", min=0, help="Peak (align: 1e-3, tune: 2e-5).")
    ] = None,
    max_length: Annotated[int, typer.Option("--max-length", min=1, help="Most text tokens of a sample.")] = 1472,
    dtype: Annotated[Precision, typer.Option("--dtype", help="Of the arithmetic.")] = Precision.bfloat16,
    device: Annotated[str, typer.Option("--device", help="auto, or cpu.")] = "auto",
    devices: Annotated[int, typer.Option("--devices", min=1, help="For --dry-run: devices that train together.")] = 1,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory for a third more time.")
    ] = False,
    trainer: Annotated[
        Path | None,
        typer.Option("--trainer", metavar="FILE", help="TOML or JSON with TrainingArguments of transformers."),
    ] = None,
    save_steps: Annotated[int, typer.Option("--save-steps", min=1, help="Steps between checkpoints.")] = 500,
    seed: Annotated[int, typer.Option("--seed", help="Of the order and of dropout.")] = 0,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that read samples.")] = 0,
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
    if device not in ("auto", "cpu"):
        raise UsageError(f"--device {device}: auto or cpu; torchrun gives each process its own device")
    from mgtool.model.recipes import Recipe
    from mgtool.stages import train as stages

    exit_code(0, 0, allow_failures)
    recipe = Recipe(
        stage=stage.value,
        learning_rate=learning_rate,
        batch_size=batch_size,
        accumulate=accumulate,
        epochs=epochs,
        max_steps=max_steps,
        dtype=dtype.value,
        save_steps=save_steps,
        seed=seed,
        workers=workers,
        gradient_checkpointing=gradient_checkpointing,
        use_cpu=device == "cpu",
        trainer=_trainer_fields(trainer),
    )
    request = stages.Request(inputs=inputs, model=model, recipe=recipe, max_length=max_length, evaluate=evaluate)
    if dry_run:
        plan = {"out": str(out), **stages.plan(request, devices=devices).summary()}
        console.summarize(plan, title="mgtool train would take", as_json=as_json, quiet=False)
        return
    quiet = quiet or os.environ.get("RANK", "0") != "0"
    with console.progress("steps", quiet=quiet) as advance:
        done = stages.train(request, out, overwrite=overwrite, advance=advance, report=_reporter(quiet))
    if done:
        console.summarize({"out": str(out), **done}, title="mgtool train", as_json=as_json, quiet=quiet)
        raise typer.Exit(exit_code(done["failures"], done["samples"], allow_failures))


def _reporter(quiet: bool) -> Callable[[Mapping[str, Any]], None]:
    """A line for each log entry."""

    def report(entry: Mapping[str, Any]) -> None:
        shown = (f"{name} {value:.4g}" for name, value in entry.items() if name in _REPORTED)
        console.say(f"step {entry['step']}: {', '.join(shown)}")

    return (lambda entry: None) if quiet else report


def _trainer_fields(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        fields = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise UsageError(f"--trainer {path}: {error}") from error
    if not isinstance(fields, dict):
        raise UsageError(f"--trainer {path}: expected an object with fields of TrainingArguments")
    return fields
