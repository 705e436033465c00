"""What a training leaves on disk: its checkpoints, its log, the model, and the samples that failed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import GENERATION_CONFIG_NAME

from mgtool.errors import OutputError
from mgtool.files.atomic import move_files, remove, write_lines
from mgtool.files.journal import Journal
from mgtool.files.no_links import refuse_links
from mgtool.records import Failure
from mgtool.runs.run_file import FAILURES_FILE

CHECKPOINTS = "checkpoints"
LOG_FILE = "log.jsonl"
_CONFIG = "config.json"
_FAILURES_JOURNAL = ".train.failures.jsonl"
_ASIDE = ".model.writing"
_FULL = ("No space left", "PytorchStreamWriter failed", "inline_container.cc", "file write failed")
"""Of texts of errors."""


def is_model(out: Path) -> bool:
    """Whether a folder holds a model that is whole."""
    return (out / _CONFIG).exists()


def refuse_foreign(out: Path, command: str | None) -> None:
    """Raise an `OutputError` where a folder holds a model that no training wrote, or links in place of its folders.

    `command` is its record's.
    """
    for name in (CHECKPOINTS, _ASIDE):
        refuse_links(out / name)
    if command != "train" and is_model(out):
        raise OutputError(f"{out} holds a model that no training wrote: choose another `out`")


def clear(out: Path) -> None:
    """Remove what an earlier training left that another one would go on from."""
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
    for name in (_CONFIG, LOG_FILE, FAILURES_FILE, _FAILURES_JOURNAL):
        remove(out / name)


_CHECKPOINT = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-[0-9]{{1,18}}")


def failures_journal(out: Path) -> Journal:
    """Where samples are noted that cannot be learned from."""
    return Journal(out / _FAILURES_JOURNAL)


def last_checkpoint(out: Path) -> Path | None:
    """The newest checkpoint that is whole: the trainer's state is what it writes last."""
    states = (out / CHECKPOINTS).glob(f"{PREFIX_CHECKPOINT_DIR}-*/trainer_state.json")
    whole = [state.parent for state in states if _CHECKPOINT.fullmatch(state.parent.name) and _is_json(state)]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return True


@contextlib.contextmanager
def explained(out: Path) -> Iterator[None]:
    """What the libraries that save weights make of a full disk.

    Raises:
        OutputError: instead.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        text = str(error)
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(mark in text for mark in _FULL):
            raise OutputError(f"{out}: cannot be written: {os.strerror(errno.ENOSPC)}") from error
        raise


def publish(trainer: Trainer, out: Path, ended: Path | None = None) -> None:
    """Save the model into `out`; its configuration comes last, and no folder is a model without it.

    Every process takes part, for where the weights are spread over them.

    Args:
        trainer: has trained.
        out: the folder.
        ended: the checkpoint in which an earlier run ended, whose configurations are those of a trained model.
    """
    aside = out / _ASIDE
    trainer.save_model(str(aside))
    trainer.accelerator.wait_for_everyone()
    if not trainer.is_world_process_zero():
        return
    (aside / "training_args.bin").unlink(missing_ok=True)  # a pickle, which nobody should have to load
    if ended is not None:
        for name in filter(lambda name: (ended / name).is_file(), (_CONFIG, GENERATION_CONFIG_NAME)):
            shutil.copyfile(ended / name, aside / name)
    move_files(aside, out, last=_CONFIG)
    write_lines(out / LOG_FILE, trainer.state.log_history)


def publish_failures(failures: Journal, out: Path) -> int:
    """Each sample that failed once, however often it was met; gives their number."""
    failures.close()
    found = {failure.id: failure for failure in failures.read(Failure)}
    if found:
        write_lines(out / FAILURES_FILE, found.values())
    failures.remove()
    return len(found)
