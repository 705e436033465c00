"""transformers' Trainer over packed samples, and what it tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils import logging

from mgtool.files.checkpoints import explained
from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor
from mgtool.records import Advance, Failure
from mgtool.runs import progress
from mgtool.tars.index import TarIndex
from mgtool.training.examples import Examples, collate
from mgtool.training.options import TrainOptions

Report = Callable[[Mapping[str, Any]], None]
"""Told of log entries."""


def make_trainer(
    inputs: Sequence[str],
    options: TrainOptions,
    arguments: TrainingArguments,
    reporter: TrainerCallback,
    on_failure: Callable[[Failure], None],
) -> Trainer:
    """The trainer of a model over its samples.

    Args:
        inputs: packed tars.
        options: how which model is trained.
        arguments: the same in transformers' form.
        reporter: told of steps and log entries.
        on_failure: told of samples that cannot be used, in whatever process reads them.
    """
    model, processor = _loaded(options)

    def examples(source: Sequence[str]) -> Examples:
        return Examples(TarIndex.of(source), processor, max_length=options.max_length, on_failure=on_failure)

    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=examples(inputs),
        eval_dataset=None if options.evaluate is None else examples([options.evaluate]),
        data_collator=lambda batch: collate(batch, processor),
        processing_class=processor,
        callbacks=[reporter],
    )
    trainer.remove_callback(PrinterCallback)  # it prints on stdout
    return trainer


def _loaded(options: TrainOptions) -> tuple[MGLlavaForConditionalGeneration, MGLlavaProcessor]:
    """The model in float32, what its stage trains left free, and its processor."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with explained(f"`model` {options.model} cannot be loaded"):
        model = MGLlavaForConditionalGeneration.from_pretrained(options.model, dtype=torch.float32)
        processor = MGLlavaProcessor.from_pretrained(options.model)
    model.freeze_for(options.stage)
    return model, processor


def learn(trainer: Trainer, begun: Path | None) -> Path | None:
    """Train to the end, from a checkpoint on where there is one.

    Returns:
        The checkpoint where that is the end already, whose weights alone are taken: transformers' own way from there
        takes one step more.
    """
    state = None if begun is None else TrainerState.load_from_json(str(begun / TRAINER_STATE_NAME))
    if begun is None or state is None or state.global_step < state.max_steps or trainer.is_fsdp_enabled:
        trainer.train(resume_from_checkpoint=None if begun is None else str(begun))
        return None
    trainer._load_from_checkpoint(str(begun))
    trainer.state = state
    return begun


def last_losses(history: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The last of each kind of loss in a log, and the mean over all steps up to that, whatever runs they were of."""
    names = ("loss", "eval_loss")
    found = {name: [float(entry[name]) for entry in history if name in entry] for name in names}
    losses = {name: values[-1] for name, values in found.items() if values}
    steps = [0, *(int(entry["step"]) for entry in history if "loss" in entry)]
    if len(steps) > 1:
        weighted = zip(found["loss"], steps, steps[1:], strict=False)
        losses["train_loss"] = sum(loss * (end - begin) for loss, begin, end in weighted) / steps[-1]
    return losses


class Reporter(TrainerCallback):
    """Tells of steps and log entries, in the first process alone."""

    def __init__(self, advance: Advance, report: Report) -> None:
        self._advance, self._report = advance, report

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            progress.started(self._advance, state.max_steps)
            self._advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._advance(1)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._report({"step": state.global_step, **(logs or {})})
