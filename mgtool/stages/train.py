"""Packed samples -> a trained model: the paper's two stages on transformers' `Trainer`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from mgtool.errors import InputError, OutputError, UsageError
from mgtool.files.atomic import sync_folder, write_lines
from mgtool.files.journal import Journal
from mgtool.inputs.fingerprints import fingerprint
from mgtool.inputs.model_folders import check_model, model_identity
from mgtool.model import MGLlavaConfig, MGLlavaForConditionalGeneration, MGLlavaProcessor
from mgtool.model.examples import Examples, collate
from mgtool.model.recipes import Plan, Recipe, plan_training
from mgtool.records import Failure
from mgtool.runs.run_file import FAILURES_FILE, RUN_FILE, Run
from mgtool.tars import paths
from mgtool.tars.index import TarIndex

STAGE = "train"
CHECKPOINTS = "checkpoints"
LOG_FILE = "log.jsonl"

_FAILURES_JOURNAL = ".train.failures.jsonl"
_ASIDE = ".model.writing"
_CONFIG = "config.json"

Advance = Callable[[int], None]
Report = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is trained on what.

    Attributes:
        inputs: packed tars, as `mgtool.TarIndex.of` takes them.
        model: folder of the model to start from.
        recipe: how it is trained.
        max_length: most text tokens of a sample.
        evaluate: packed tars to measure the loss on.
    """

    inputs: Sequence[str]
    model: Path
    recipe: Recipe
    max_length: int
    evaluate: str | None = None

    def identity(self, arguments: TrainingArguments) -> dict[str, Any]:
        """What the trained weights depend on, for going on with a run; `arguments` as in `Recipe.identity`."""
        return {
            "model": model_identity(self.model),
            "input": [fingerprint(given, paths.below) for given in self.inputs],
            "max_length": self.max_length,
            **self.recipe.identity(arguments),
        }


def train(
    request: Request, out: Path, *, about: Mapping[str, Any], overwrite: bool, advance: Advance, report: Report
) -> dict[str, Any]:
    """Train into a folder, going on from the last whole checkpoint of an earlier run.

    Args:
        request: what is trained on what.
        out: becomes a model folder; checkpoints in ``checkpoints/``, log entries in ``log.jsonl``.
        about: further entries of ``run.json``.
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
        raise UsageError(f"--out {out} is the model that is trained: choose another --out")
    if not len(TarIndex.of(request.inputs)):
        raise InputError(f"{', '.join(request.inputs)}: no sample to learn from")
    arguments = request.recipe.arguments(out / CHECKPOINTS, evaluates=request.evaluate is not None)
    identity = request.identity(arguments)
    record = Run(out / RUN_FILE, command=STAGE, identity=identity, about={"inputs": list(request.inputs), **about})
    with arguments.main_process_first(local=False):
        if arguments.process_index == 0:
            _begin(record, out, overwrite=overwrite)
    if record.finished and (out / _CONFIG).exists():
        return record.results()
    failures = Journal(out / _FAILURES_JOURNAL)
    trainer = _trainer(request, arguments, _Reporter(advance, report), on_failure=failures.append)
    begun = last_checkpoint(out / CHECKPOINTS)
    trainer.train(resume_from_checkpoint=str(begun) if begun else None)
    publish(trainer, out)
    counts = {"samples": len(trainer.train_dataset), "steps": trainer.state.global_step}
    if arguments.process_index == 0:
        counts["failures"] = _publish_failures(failures, out)
        record.finish(results={**counts, **_last_losses(trainer.state.log_history)})
    return record.results()


def _begin(record: Run, out: Path, *, overwrite: bool) -> None:
    if record.before().get("command") != STAGE and (out / _CONFIG).exists():
        raise OutputError(f"{out} holds a model that no training wrote: choose another --out")
    if overwrite:
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
        for name in (_CONFIG, LOG_FILE, FAILURES_FILE, _FAILURES_JOURNAL):
            (out / name).unlink(missing_ok=True)
    record.begin(overwrite=overwrite)


def _trainer(
    request: Request, arguments: TrainingArguments, reporter: TrainerCallback, on_failure: Callable[[Failure], None]
) -> Trainer:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = MGLlavaForConditionalGeneration.from_pretrained(request.model, dtype=torch.float32)
    model.freeze_for(request.recipe.stage)
    processor = MGLlavaProcessor.from_pretrained(request.model)

    def examples(source: Sequence[str]) -> Examples:
        return Examples(TarIndex.of(source), processor, max_length=request.max_length, on_failure=on_failure)

    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=examples(request.inputs),
        eval_dataset=examples([request.evaluate]) if request.evaluate is not None else None,
        data_collator=lambda batch: collate(batch, processor),
        processing_class=processor,
        callbacks=[reporter],
    )
    trainer.remove_callback(PrinterCallback)  # it prints on stdout
    return trainer


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that is whole: the trainer's state is what it writes last."""
    whole = [path.parent for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*/trainer_state.json") if _is_json(path)]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


def publish(trainer: Trainer, out: Path) -> None:
    """Save the model into `out`; its configuration comes last, and no folder is a model without it.

    Every process takes part, for where the weights are spread over them.
    """
    aside = out / _ASIDE
    trainer.save_model(str(aside))
    trainer.accelerator.wait_for_everyone()
    if not trainer.is_world_process_zero():
        return
    (aside / "training_args.bin").unlink(missing_ok=True)  # a pickle, which nobody should have to load
    for path in sorted(aside.iterdir(), key=lambda path: path.name == _CONFIG):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.replace(out / path.name)
    aside.rmdir()
    write_lines(out / LOG_FILE, trainer.state.log_history)
    sync_folder(out)


def _publish_failures(failures: Journal, out: Path) -> int:
    """Each sample that failed once, however often it was met; gives their number."""
    failures.close()
    found = {failure.id: failure for failure in failures.read(Failure)}
    if found:
        write_lines(out / FAILURES_FILE, found.values())
    failures.remove()
    return len(found)


def _last_losses(history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = ("loss", "train_loss", "eval_loss")
    found = {name: [float(entry[name]) for entry in history if name in entry] for name in names}
    return {name: values[-1] for name, values in found.items() if values}


class _Reporter(TrainerCallback):
    """Tells of steps and log entries, in the first process alone."""

    def __init__(self, advance: Advance, report: Report) -> None:
        self._advance, self._report = advance, report

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._advance(1)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._report({"step": state.global_step, **(logs or {})})


def plan(request: Request, *, devices: int) -> Plan:
    """What the training would take, without a weight; raises as `train`."""
    check_model(request.model)
    samples = len(TarIndex.of(request.inputs))
    config = MGLlavaConfig.from_pretrained(request.model)
    return plan_training(config, request.recipe, samples=samples, devices=devices, text_tokens=request.max_length)
