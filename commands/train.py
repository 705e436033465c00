"""`mgtool train`: packed tars -> a trained model, in the paper's two stages."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import typer

from mgtool.commands import console, summaries
from mgtool.commands import train_options as options
from mgtool.commands.exit_codes import exit_code
from mgtool.commands.options import AllowFailures, Config, DryRun, Json, Model, Overwrite, Quiet, Tmp, Wait, asked
from mgtool.training.options import TrainOptions

_REPORTED = ("loss", "grad_norm", "learning_rate", "eval_loss", "train_loss")


def train(
    context: typer.Context,
    inputs: options.Inputs,
    model: Model,
    out: options.Out,
    stage: options.Stage = TrainOptions.stage,
    evaluate: options.Evaluate = TrainOptions.evaluate,
    epochs: options.Epochs = TrainOptions.epochs,
    max_steps: options.MaxSteps = TrainOptions.max_steps,
    batch_size: options.BatchSize = TrainOptions.batch_size,
    accumulate: options.Accumulate = TrainOptions.accumulate,
    learning_rate: options.LearningRate = TrainOptions.learning_rate,
    max_length: options.MaxLength = TrainOptions.max_length,
    dtype: options.Dtype = TrainOptions.dtype,
    device: options.Device = TrainOptions.device,
    devices: options.Devices = 1,
    gradient_checkpointing: options.GradientCheckpointing = TrainOptions.gradient_checkpointing,
    trainer: options.Trainer = TrainOptions.trainer,
    save_steps: options.SaveSteps = TrainOptions.save_steps,
    seed: options.Seed = TrainOptions.seed,
    workers: options.Workers = TrainOptions.workers,
    quiet: Quiet = False,
    as_json: Json = False,
    config: Config = None,
    tmp: Tmp = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    wait: Wait = False,
    allow_failures: AllowFailures = "0",
) -> None:
    """Train a model on packed samples; a second run goes on from the last checkpoint.

    Several devices: torchrun --no-python --nproc-per-node 8 mgtool train ...
    """
    exit_code(0, 0, allow_failures)
    wanted = asked(TrainOptions, context)
    from mgtool.stages import train as stage_of_train

    if dry_run:
        plan = {"out": str(out), **stage_of_train.plan(inputs, wanted, devices=devices).summary()}
        summaries.summarize(plan, title="mgtool train would take", as_json=as_json, quiet=False)
        return
    is_first = os.environ.get("RANK", "0") == "0"  # torchrun's: the first process speaks for all
    quiet = quiet or not is_first
    report, doing = _say_nothing if quiet else _say_losses, {"overwrite": overwrite, "wait": wait}
    with console.progress("steps", quiet=quiet) as advance:
        done = stage_of_train.train(inputs, out, wanted, **doing, advance=advance, report=report)
    summary = {"out": str(out), **done.counts}
    then = summaries.command("mgtool", "infer", *inputs, "--model", out, "--out", "answers.jsonl")
    as_json = as_json and is_first
    summaries.summarize(summary, title="mgtool train", as_json=as_json, quiet=quiet, done=done.samples, then=then)
    summaries.show_failures(done.failures, out, quiet=quiet)
    raise typer.Exit(exit_code(done.failures, done.samples, allow_failures))


def _say_losses(entry: Mapping[str, Any]) -> None:
    shown = (f"{name} {value:.4g}" for name, value in entry.items() if name in _REPORTED)
    console.say(f"step {entry['step']}: {', '.join(shown)}")


def _say_nothing(entry: Mapping[str, Any]) -> None:
    pass
