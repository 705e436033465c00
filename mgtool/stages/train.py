"""Packed samples -> a trained model: the paper's two stages on transformers' `Trainer`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from mgtool.errors import InputError, OutputError, UsageError
from mgtool.files.journal import Journal
from mgtool.inputs.model_folders import check_model
from mgtool.model import MGLlavaConfig
from mgtool.records import Advance
from mgtool.runs.run_file import FAILURES_FILE, RUN_FILE, Run
from mgtool.tars.index import TarIndex
from mgtool.training.options import Request
from mgtool.training.recipe import Plan, plan_training
from mgtool.training.trainer import (
    _CONFIG,
    _FAILURES_JOURNAL,
    CHECKPOINTS,
    LOG_FILE,
    Report,
    _last_losses,
    _publish_failures,
    _Reporter,
    _trainer,
    last_checkpoint,
    publish,
)


def train(request: Request, out: Path, *, overwrite: bool, advance: Advance, report: Report) -> dict[str, Any]:
    """Train into a folder, going on from the last whole checkpoint of an earlier run.

    Args:
        request: what is trained on what.
        out: becomes a model folder; checkpoints in ``checkpoints/``, log entries in ``log.jsonl``.
        overwrite: start afresh.
        advance: told of steps, those of an earlier run first.
        report: told of log entries.

    Returns:
        Numbers of samples, steps and failures, and the last losses; what an earlier run gave where that is done.

    Raises:
        InputError: no model, or no samples.
        UsageError: the model's own folder as the output.
        OutputError: the folder holds a model that no training wrote.
        ResumeError: the folder holds another run.
    """
    check_model(request.model)
    if out.resolve() == request.model.resolve():
        raise UsageError("out", f"{out} is the model that is trained: choose another `out`")
    if not len(TarIndex.of(request.inputs)):
        raise InputError(f"{', '.join(request.inputs)}: no sample to learn from")
    arguments = request.recipe.arguments(out / CHECKPOINTS, evaluates=request.evaluate is not None)
    record = request.run(out / RUN_FILE, arguments)
    with arguments.main_process_first(local=False):
        if arguments.process_index == 0:
            _begin(record, out, overwrite=overwrite)
    if record.finished and (out / _CONFIG).exists():
        return record.counts
    failures = Journal(out / _FAILURES_JOURNAL)
    trainer = _trainer(request, arguments, _Reporter(advance, report), on_failure=failures.append)
    begun = last_checkpoint(out / CHECKPOINTS)
    trainer.train(resume_from_checkpoint=str(begun) if begun else None)
    publish(trainer, out)
    counts = {"samples": len(trainer.train_dataset), "steps": trainer.state.global_step}
    if arguments.process_index == 0:
        counts["failures"] = _publish_failures(failures, out)
        record.finish({**counts, **_last_losses(trainer.state.log_history)})
    return record.counts


def _begin(record: Run, out: Path, *, overwrite: bool) -> None:
    if record.before.get("command") != "train" and (out / _CONFIG).exists():
        raise OutputError(f"{out} holds a model that no training wrote: choose another `out`")
    if overwrite:
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
        for name in (_CONFIG, LOG_FILE, FAILURES_FILE, _FAILURES_JOURNAL):
            (out / name).unlink(missing_ok=True)
    record.begin(overwrite=overwrite)


def plan(request: Request, *, devices: int) -> Plan:
    """What the training would take, without a weight; raises as `train`."""
    check_model(request.model)
    samples = len(TarIndex.of(request.inputs))
    config = MGLlavaConfig.from_pretrained(request.model)
    return plan_training(config, request.recipe, samples=samples, devices=devices, text_tokens=request.max_length)
