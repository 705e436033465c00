"""transformers' Trainer, its checkpoints and its log."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from mgtool.files.atomic import sync_folder, write_lines
from mgtool.files.journal import Journal
from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor
from mgtool.records import Advance, Failure
from mgtool.runs.run_file import FAILURES_FILE
from mgtool.tars.index import TarIndex
from mgtool.training.examples import Examples, collate
from mgtool.training.options import Request

CHECKPOINTS = "checkpoints"


LOG_FILE = "log.jsonl"


_FAILURES_JOURNAL = ".train.failures.jsonl"


_ASIDE = ".model.writing"


_CONFIG = "config.json"


Report = Callable[[Mapping[str, Any]], None]


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
