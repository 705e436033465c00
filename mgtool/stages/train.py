"""Packed samples -> a trained model: the paper's two stages on transformers' `Trainer`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from mgtool.errors import InputError, UsageError
from mgtool.files.local import refuse_url
from mgtool.files.lock import one_writer
from mgtool.inputs.fingerprints import fingerprint
from mgtool.inputs.model_folders import check_config, check_model, model_identity
from mgtool.model import MGLlavaConfig
from mgtool.records import Advance, Inputs, input_names
from mgtool.report.html import summary_table
from mgtool.runs.run_file import RUN_FILE, Run
from mgtool.tars import paths
from mgtool.tars.index import TarIndex
from mgtool.training import output, recipe
from mgtool.training.options import TrainOptions
from mgtool.training.recipe import TrainPlan
from mgtool.training.trainer import Report, Reporter, last_losses, learn, make_trainer


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
        out: the model's folder.
        samples: of one epoch.
        steps: of the optimizer.
        failures: samples that could not be learned from; the first process alone counts them.
        losses: the last ones, by name.
    """

    out: Path
    samples: int
    steps: int
    failures: int = 0
    losses: Mapping[str, float] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, Any]:
        """The numbers, as in ``run.json``."""
        return {"samples": self.samples, "steps": self.steps, "failures": self.failures, **self.losses}

    def _repr_html_(self) -> str:
        return summary_table({"out": str(self.out), **self.counts})


def train(
    inputs: Inputs,
    out: str | Path,
    options: TrainOptions,
    *,
    overwrite: bool = False,
    wait: bool = False,
    advance: Advance = lambda n: None,
    report: Report = lambda entry: None,
) -> Trained:
    """Train into a folder, going on from the last whole checkpoint of an earlier run.

    Args:
        inputs: packed tars, as `mgtool.TarIndex.of` takes them.
        out: becomes a model folder; checkpoints in ``checkpoints/``, log entries in ``log.jsonl``.
        options: how which model is trained.
        overwrite: start afresh.
        wait: for another run that writes to `out` to end, instead of refusing.
        advance: told of steps, those of an earlier run first.
        report: told of log entries.

    Returns:
        What came of it, or of an earlier run where that is done.

    Raises:
        InputError: no model, or no samples.
        UsageError: the model's own folder as the output.
        OutputError: the folder holds a model that no training wrote, or another run writes to it.
        ResumeError: the folder holds another run.
    """
    given, out = input_names(inputs), Path(out)
    _check(given, out, options)
    arguments = recipe.training_arguments(options, out / output.CHECKPOINTS)
    is_first = arguments.process_index == 0  # it holds the output for all
    with one_writer(out, wait=wait) if is_first else contextlib.nullcontext():
        run = _begun(_run(given, out, options, arguments), out, arguments, overwrite=overwrite)
        if run.finished and output.is_model(out):
            with run.trusting():
                return _trained(out, run.counts)
        return _learn(given, out, options, arguments, run, Reporter(advance, report))


def _begun(run: Run, out: Path, arguments: TrainingArguments, *, overwrite: bool) -> Run:
    """The record, begun by the first process before the others go on."""
    with arguments.main_process_first(local=False):
        if arguments.process_index == 0:
            _begin(run, out, overwrite=overwrite)
    return run


def plan(inputs: Inputs, options: TrainOptions, *, devices: int = 1) -> TrainPlan:
    """What `train` would take on so many devices, without a weight.

    Raises:
        InputError: no model, or tars that cannot be read.
    """
    check_config(options.model)
    config = MGLlavaConfig.from_pretrained(options.model)
    return recipe.plan_training(config, options, samples=len(TarIndex.of(input_names(inputs))), devices=devices)


def _check(inputs: Sequence[str], out: Path, options: TrainOptions) -> None:
    refuse_url("out", out)
    check_model(options.model)
    if out.resolve() == options.model.resolve():
        raise UsageError("out", f"{out} is the model that is trained: choose another `out`")
    if not len(TarIndex.of(inputs)):
        raise InputError(f"{', '.join(inputs)}: no sample to learn from")


def _run(inputs: Sequence[str], out: Path, options: TrainOptions, arguments: TrainingArguments) -> Run:
    return Run(
        out / RUN_FILE,
        command="train",
        options=recipe.identity(options, arguments),
        inputs={"inputs": [fingerprint(given, paths.below) for given in inputs]},
        model={"path": str(options.model), "sha256": model_identity(options.model)},
        computes=("accelerate", "timm"),
    )


def _begin(run: Run, out: Path, *, overwrite: bool) -> None:
    if overwrite:
        run.forget_odd()
    output.refuse_foreign(out, run.before.get("command"))
    if overwrite:
        output.clear(out)
    run.begin(overwrite=overwrite)


def _learn(
    inputs: Sequence[str], out: Path, options: TrainOptions, arguments: TrainingArguments, run: Run, reporter: Reporter
) -> Trained:
    failures = output.failures_journal(out)
    trainer = make_trainer(inputs, options, arguments, reporter, failures.append)
    with output.explained(out):
        ended = learn(trainer, output.last_checkpoint(out))
        output.publish(trainer, out, ended)
    failed = output.publish_failures(failures, out) if arguments.process_index == 0 else 0
    losses = last_losses(trainer.state.log_history)
    trained = Trained(out, len(trainer.train_dataset), trainer.state.global_step, failed, losses)
    if arguments.process_index == 0:
        run.finish(trained.counts)
    return trained


def _trained(out: Path, counts: Mapping[str, Any]) -> Trained:
    """The result of an earlier run, from its record."""
    known = {name: counts[name] for name in ("samples", "steps", "failures")}
    return Trained(out, **known, losses={name: value for name, value in counts.items() if name not in known})
